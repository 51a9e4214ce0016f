"""The script is held to its executable specification: the same requests, the same answers and keys.

A state machine draws requests, changes of the catalogue, steps of the clock and small accidents,
over one real store and the real lane, and compares everything after each step. A failure prints the
steps that lead to it, as short as they could be made, and a line that replays them.
`GATEWAY_MODEL_EXAMPLES` sets the number of examples; `pytest -m slow` runs ten times the default.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core.calendar import make_calendar
from gateway.core.model import UNITS_MAX, AccessRequest
from tests.model.bench import Bench
from tests.model.laws import check_laws
from tests.model.pools import (
    AT_THE_END_OF_NUMBERS,
    BEGIN_MS,
    DAY_MS,
    LEFT_AT_THE_END,
    MOMENTS,
    Change,
    changes,
    first_catalogues,
    requests,
)
from tests.model.twins import Asked, Twin, World

EXAMPLES = int(os.environ.get("GATEWAY_MODEL_EXAMPLES", "100"))
STEPS = 40
TOGETHER_MAX = 6

RUNS = count(1)
twin_names = st.sampled_from(("paris", "utc"))


class ScriptAgainstLedger(RuleBasedStateMachine):
    """Both do the same from one step to the next."""

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

    @rule(name=twin_names, request=requests())
    def ask(self, name: str, request: AccessRequest) -> None:
        self.send([self.new(name, request)])

    @rule(asked=st.lists(st.tuples(twin_names, requests()), min_size=2, max_size=TOGETHER_MAX))
    def ask_together(self, asked: list[tuple[str, AccessRequest]]) -> None:
        self.send([self.new(name, request) for name, request in asked])

    @rule(name=twin_names, request=requests(), more=st.lists(requests(), max_size=2))
    def ask_twice_at_once(
        self, name: str, request: AccessRequest, more: list[AccessRequest]
    ) -> None:
        first = self.new(name, request)
        self.send([first, *(self.new(name, each) for each in more), first])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), together=st.integers(1, 3))
    def repeat(self, data: st.DataObject, together: int) -> None:
        drawn = st.lists(st.sampled_from(self.sent), min_size=together, max_size=together)
        self.send([self.now(each) for each in data.draw(drawn)])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), request=requests())
    def use_an_id_for_another_request(self, data: st.DataObject, request: AccessRequest) -> None:
        earlier = data.draw(st.sampled_from(self.sent))
        self.send([Asked(earlier.twin, earlier.twin.index, request, earlier.name)])

    @rule(name=twin_names, request=requests(), after=requests())
    def look_and_ask(self, name: str, request: AccessRequest, after: AccessRequest) -> None:
        twin = self.world.twins[name]
        look = Asked(twin, twin.index, request, "", preview=True)
        self.send([look, self.new(name, after), look])

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def ask_by_an_old_catalogue(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.left))
        self.send([old, self.now(old)])

    @rule(name=twin_names, moment=st.sampled_from(MOMENTS), request=requests())
    def let_time_pass_and_ask(self, name: str, moment: str | int, request: AccessRequest) -> None:
        clock_ms = _moment_ms(self.world.twins[name], moment, self.world.clock_ms)
        self.bench.do(self.world.set_clock(clock_ms))
        self.send([self.new(name, request)])

    @rule(name=twin_names)
    def sweep(self, name: str) -> None:
        self.bench.do(self.world.sweep(self.world.twins[name]))
        self.check()

    @rule(name=twin_names, change=changes())
    def change_the_catalogue(self, name: str, change: Change) -> None:
        twin = self.world.twins[name]
        self.left = [each for each in self.sent if each.index is twin.index][-4:] or self.left
        self.bench.do(self.world.change(twin, change))
        self.check()

    @rule(accident=st.sampled_from(("script flush", "client kill type normal skipme yes")))
    def let_something_happen(self, accident: str) -> None:
        self.bench.do(self.world.command(*accident.split()))

    def new(self, name: str, request: AccessRequest) -> Asked:
        twin = self.world.twins[name]
        asked = Asked(twin, twin.index, request, f"id-{len(self.sent)}")
        self.sent.append(asked)
        return asked

    def now(self, earlier: Asked) -> Asked:
        """The same request again, by the catalogue now in force."""
        return Asked(earlier.twin, earlier.twin.index, earlier.request, earlier.name)

    def send(self, asked: list[Asked]) -> None:
        self.bench.do(self.world.ask(asked))
        self.check()

    def check(self) -> None:
        found = self.bench.do(self.world.compare())
        for twin in self.world.twins.values():
            check_laws(twin, self.seen, found, max(self.world.clock_ms, twin.state.last_ms))
        self.seen = found


def _moment_ms(twin: Twin, moment: str | int, clock_ms: int) -> int:
    """Find the next moment of a kind, or the present one when there is none."""
    if isinstance(moment, int):
        return clock_ms + moment
    state = twin.state
    now_ms = max(clock_ms, state.last_ms)
    days = make_calendar(twin.index, now_ms, now_ms + 40 * DAY_MS).context.days
    kind = moment.removeprefix("before ").removeprefix("after ")
    moments = {
        "a lapse": [hold.lapses_ms for held in state.holds.values() for hold in held.values()],
        "midnight": [start_ms for start_ms, *_ in days],
        "a month": [start_ms for start_ms, day, _ in days if day % 100 == 1],
        "an undo's end": [each.until_ms - 1 for each in state.undo.values()],
    }[kind]
    off_ms = -1 if moment.startswith("before ") else 1 if moment.startswith("after ") else 0
    return min((at + off_ms for at in moments if at + off_ms > now_ms), default=clock_ms)


def hold_to_each_other(bench: Bench, examples: int) -> None:
    machine: Any = partial(ScriptAgainstLedger, bench)
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


def test_script_and_specification_agree_on_every_answer_and_every_key(bench: Bench) -> None:
    hold_to_each_other(bench, EXAMPLES)


@pytest.mark.slow
def test_they_agree_at_length(bench: Bench) -> None:
    hold_to_each_other(bench, 10 * EXAMPLES)
