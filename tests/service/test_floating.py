"""The story of a LicenseSpring call where the store answers as it seldom does: a reply was lost on
its way, a catalogue cannot be read any more, a retry comes as its outcome is forgotten.

Source: SEMANTICS 9, protocols/licensespring.md 10.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.core.calls import Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unavailable
from gateway.core.floating import Refusal
from gateway.core.floating_asks import Asking, Operation
from gateway.core.model import Outcome, Shortfall, Told
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.service.floating import CHANGES_APART_S, Floating
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.keys import InstanceKeys
from gateway.store.lanes import Lane
from tests.vectors.loader import applied

INDEX = CatalogueIndex(applied("FLOATING", "FLOATING"))
OWN_ID = "r" * 22
ADD = Asking(operation=Operation.CONSUME, license_id=79, user="alice", units=1)
CHANGE = Asking(
    operation=Operation.CONSUME, license_id=79, units=1, allow_overages=True, max_overages=7
)
NOWHERE = Asking(operation=Operation.CONSUME, license_id=9_999, units=1)
GRANTED = Outcome(at_ms=1, shortfalls=[], grants=[], held=[], told=[Told("open", 1, 2)])


class _Store:
    """A store whose catalogue is remembered, and cannot be read again."""

    def __init__(self, *replies: Reply, known: bool = False) -> None:
        self.replies, self.known = list(replies), known
        self.jobs: list[Job] = []
        self.deadline_s = 1.0
        self.client = self

    async def get(self, instance: str) -> CatalogueIndex:
        return INDEX

    async def fresh(self, instance: str) -> CatalogueIndex:
        return INDEX

    async def read(self, instance: str) -> CatalogueIndex:
        raise Unavailable("The store does not answer", "not_applied")

    def keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, 256)

    async def exists(self, key: str) -> int:
        return int(self.known)

    async def submit(self, job: Job) -> Reply:
        self.jobs.append(job)
        return self.replies.pop(0)

    def story(self) -> Floating:
        both: Any = self
        return Floating(
            cast(Catalogues, both),
            cast(Lane, both),
            "FLOATING",
            retention_ms=1_000,
            resend_ms=4_000,
        )

    def ask(self, asking: Asking, key: str | None = None) -> Any:
        return asyncio.run(self.story().ask(asking, key, OWN_ID))


def test_what_was_counted_is_told_although_the_catalogue_cannot_be_read_again() -> None:
    """A setting was changed with it: it is told as it was made, not as it might be by now."""
    store = _Store(Reply(Verdict.DONE, outcome=GRANTED))
    done = store.ask(CHANGE)
    assert (done.line.overdraft, done.view.totals) == ("7", {"open": 3})
    assert store.jobs[0].index is INDEX
    assert store.jobs[0].catalogue


def test_a_setting_that_was_refused_is_told_as_it_stays() -> None:
    short = [Shortfall(0, "FEATURE_COUNT_INSUFFICIENT", 1, 0)]
    refused = Outcome(at_ms=1, shortfalls=short, grants=[], held=[], told=GRANTED.told)
    with pytest.raises(FloatingRefused) as raised:
        _Store(Reply(Verdict.DONE, outcome=refused)).ask(CHANGE)
    assert raised.value.refusal is Refusal.LICENSE_NOT_ENOUGH
    assert INDEX.line["open"].overdraft == "5"


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.0, CHANGES_APART_S), (0.25, 0.5)])
def test_after_a_change_everybody_else_has_twice_as_long_to_ask_again(
    monkeypatch: pytest.MonkeyPatch, took_s: float, pause_s: float
) -> None:
    now_s = 0.0
    pauses: list[float] = []

    class _Slow(_Store):
        async def submit(self, job: Job) -> Reply:
            nonlocal now_s
            now_s += took_s
            return await super().submit(job)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        story = _Slow(Reply(Verdict.DONE, outcome=GRANTED)).story()
        with monkeypatch.context() as clock:
            clock.setattr(loop, "time", lambda: now_s)
            clock.setattr(loop, "call_later", lambda delay_s, _: pauses.append(delay_s))
            await story.ask(CHANGE, None, OWN_ID)

    asyncio.run(main())
    assert pauses == [pause_s]


def test_of_a_reply_that_was_lost_on_its_way_a_client_without_a_key_notices_nothing() -> None:
    store = _Store(Reply(Verdict.REPLAYED, outcome=GRANTED))
    assert not store.ask(ADD).replayed
    assert store.jobs[0].dedupe_id == OWN_ID
    assert _Store(Reply(Verdict.REPLAYED, outcome=GRANTED)).ask(ADD, "k").replayed


def test_an_outcome_is_remembered_for_as_long_as_the_lane_may_send_again() -> None:
    store = _Store(Reply(Verdict.DONE, outcome=GRANTED))
    store.ask(ADD, "k")
    assert store.jobs[0].ttl_ms == 4_000


def test_a_retry_that_comes_as_its_outcome_is_forgotten_is_refused_and_leaves_nothing() -> None:
    nothing = Outcome(at_ms=1, shortfalls=[], grants=[], held=[])
    for verdict in (Verdict.DONE, Verdict.REPLAYED):
        store = _Store(Reply(verdict, outcome=nothing), known=True)
        with pytest.raises(FloatingRefused):
            store.ask(NOWHERE, "k")
        (job,) = store.jobs
        assert (job.wants, job.ttl_ms, job.explain_ms, job.catalogue) == ([], 1, 0, b"")


def test_what_nobody_knows_of_is_refused_without_the_ledger() -> None:
    for key in (None, "k"):
        store = _Store()
        with pytest.raises(FloatingRefused):
            store.ask(NOWHERE, key)
        assert store.jobs == []


def test_an_instance_that_is_not_provisioned_has_no_licences() -> None:
    class _Nothing(_Store):
        async def get(self, instance: str) -> Any:
            return None

        fresh = get

    with pytest.raises(FloatingRefused) as raised:
        _Nothing().ask(ADD, "k")
    assert raised.value.refusal is Refusal.LICENSE_NOT_FOUND
