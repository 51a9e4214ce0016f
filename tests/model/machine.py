"""What every state machine of the model does: two instances, each in both, compared at every step.

Decided here: how a run begins, how requests are put to both, and how many steps and examples there
are. Not decided here: which steps there are (the machines).
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, run_state_machine_as_test

from gateway.core.model import UNITS_MAX, AccessRequest
from tests.model.asked import Asked
from tests.model.bench import Bench
from tests.model.floating import Floating
from tests.model.laws import check_laws
from tests.model.pools import AT_THE_END_OF_NUMBERS, BEGIN_MS, LEFT_AT_THE_END, first_catalogues
from tests.model.twins import Twin, World

EXAMPLES = int(os.environ.get("GATEWAY_MODEL_EXAMPLES", "20"))
STEPS = 40

RUNS = count(1)
twin_names = st.sampled_from(("paris", "utc"))


class Machine(RuleBasedStateMachine):
    """Two instances in one store and by the specification."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.world = World(bench.store, BEGIN_MS)
        self.sent: list[Asked] = []
        self.left: list[Asked] = []  # under a version of the catalogue that is no longer in force
        self.seen: dict[str, Any] = {}

    @initialize(used_up=st.sets(st.sampled_from(AT_THE_END_OF_NUMBERS)))
    def begin(self, used_up: set[str]) -> None:
        self.bench.do(self.world.open(first_catalogues(next(RUNS))))
        for line in sorted(used_up):
            for twin in self.world.twins.values():
                self.bench.do(self.world.use_up(twin, line, UNITS_MAX - LEFT_AT_THE_END))
        self.check()

    def new(self, name: str, request: AccessRequest) -> Asked:
        return self.another(self.world.twins[name], request)

    def another(
        self, twin: Twin, request: AccessRequest, floating: Floating | None = None
    ) -> Asked:
        name = f"id-{len(self.sent)}"
        asked = Asked(twin, twin.index, request, name, floating=floating)
        self.sent.append(asked)
        return asked

    def now(self, earlier: Asked) -> Asked:
        """The same request again, by the catalogue now in force."""
        return dataclasses.replace(earlier, index=earlier.twin.index)

    def send(self, asked: list[Asked]) -> None:
        self.bench.do(self.world.ask(asked))
        self.check()

    def check(self) -> None:
        found = self.bench.do(self.world.compare())
        for twin in self.world.twins.values():
            check_laws(twin, self.seen, found, max(self.world.clock_ms, twin.state.last_ms))
        self.seen = found


def hold_to_each_other(kind: type[Machine], bench: Bench, examples: int) -> None:
    """Run a machine; each example begins with an empty store."""
    machine: Any = partial(kind, bench)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
