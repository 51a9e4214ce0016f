"""The outbox's scripts are held to their executable specification, step by step.

Here little else happens than usage coming in: so the machine gets far, to halves of halves, full
places and upstreams that are detached and come again. The other machine mixes the same steps with
everything that requests may do.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from gateway.core.model import AccessRequest, Host, Want
from tests.model.bench import Bench
from tests.model.machine import EXAMPLES, hold_to_each_other, twin_names
from tests.model.outbox import Both
from tests.model.outbox_rules import ARGUMENTS, OF_A_BATCH, ROWS_MAX, OutboxRules
from tests.model.pools import HOSTS, HOUR_MS

FEATURES = ("calls", "free", "daily", "fresh", "pool")
UNITS = st.sampled_from((1, 3, -1, 7, -3))


class OutboxAgainstLane(OutboxRules):
    """Both do the same from one step to the next."""

    @rule(
        host=st.sampled_from(HOSTS),
        used=st.lists(st.tuples(st.sampled_from(FEATURES), UNITS), min_size=1, max_size=4),
        later_ms=st.sampled_from((0, 0, HOUR_MS)),
        name=twin_names,
    )
    def use(self, host: Host, used: list[tuple[str, int]], later_ms: int, name: str) -> None:
        self.bench.do(self.world.set_clock(self.world.clock_ms + later_ms))
        self.send([self.new(name, _request(host, *each)) for each in used])

    @rule(
        data=st.data(), steps=st.lists(st.sampled_from(sorted(ARGUMENTS)), min_size=3, max_size=12)
    )
    def deliver(self, data: st.DataObject, steps: list[str]) -> None:
        """One thing after another happens to what is sealed; when it is gone, to more."""
        twin = self.world.twins["paris"]
        for name in steps:
            if name in OF_A_BATCH and not self.under_way():
                for host, feature in zip(HOSTS, FEATURES, strict=False):
                    self.send([self.new("paris", _request(host, feature, data.draw(UNITS)))])
                for upstream in sorted(twin.attached):
                    place = Both(self.world, twin, upstream)
                    self.seal_at(place, data.draw(st.booleans()), ROWS_MAX[2])
            if self.may(name):
                drawn = {of: data.draw(values) for of, values in ARGUMENTS[name].items()}
                getattr(self, name)(data=data, **drawn)


def _request(host: Host, feature: str, units: int) -> AccessRequest:
    return AccessRequest(
        host=host, wants=(Want(feature, "0", units),), incremental=True, partial=True
    )


def test_scripts_and_specification_agree_on_every_step_of_the_outbox(bench: Bench) -> None:
    hold_to_each_other(OutboxAgainstLane, bench, EXAMPLES // 2)


@pytest.mark.slow
def test_they_agree_on_the_outbox_at_length(bench: Bench) -> None:
    hold_to_each_other(OutboxAgainstLane, bench, 3 * EXAMPLES // 2)
