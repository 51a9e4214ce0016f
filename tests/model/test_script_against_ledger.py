"""The script is held to its executable specification: the same requests, the same answers and keys.

A state machine draws requests, changes of the catalogue, steps of the clock and small accidents,
over one real store and the real lane, and compares everything after each step. A failure prints the
steps that lead to it, as short as they could be made, and a line that replays them.
`GATEWAY_MODEL_EXAMPLES` sets the number of examples; `pytest -m slow` runs twice the default more.
"""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.core.calls import INCREMENTAL, TELL
from gateway.core.catalogue import period_of
from gateway.core.model import COUNT_MAX, UNITS_MAX, AccessRequest, Host
from tests.model.asked import Asked
from tests.model.bench import Bench
from tests.model.edges import edges_of, moment_ms, undos_of
from tests.model.floating import FLOATING_HOSTS, SHARED_LINES, Floating, Wish, about_held
from tests.model.floating import floating as floating_asks
from tests.model.lane import HOLDER, STRANGER
from tests.model.machine import EXAMPLES, hold_to_each_other, twin_names
from tests.model.outbox import leased
from tests.model.outbox_rules import OutboxRules
from tests.model.pools import HOSTS, MOMENTS, Change, changes, requests

TOGETHER_MAX = 6


class ScriptAgainstLedger(OutboxRules):
    """Both do the same from one step to the next."""

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
        clock_ms = moment_ms(self.world.twins[name], moment, self.world.clock_ms)
        self.bench.do(self.world.set_clock(clock_ms))
        self.send([self.new(name, request)])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), moment=st.sampled_from(MOMENTS))
    def ask_for_the_same_later(self, data: st.DataObject, moment: str | int) -> None:
        earlier = data.draw(st.sampled_from(self.sent[-8:]))
        clock_ms = moment_ms(earlier.twin, moment, self.world.clock_ms)
        self.bench.do(self.world.set_clock(clock_ms))
        self.send([self.another(earlier.twin, earlier.request)])

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), name=twin_names)
    def undo_some_of_it(self, data: st.DataObject, name: str) -> None:
        twin = self.world.twins[name]
        if undos := undos_of(twin):
            self.send([self.another(twin, data.draw(st.sampled_from(undos)))])

    @rule(data=st.data(), name=twin_names, off_ms=st.sampled_from((-1, 0, 0, 1)))
    def ask_on_the_edge(self, data: st.DataObject, name: str, off_ms: int) -> None:
        """At the very moment when what is asked for lapses, starts, expires or cannot be undone."""
        twin = self.world.twins[name]
        if edges := edges_of(twin, max(self.world.clock_ms, twin.state.last_ms)):
            at_ms, request = data.draw(st.sampled_from(edges))
            self.bench.do(self.world.set_clock(at_ms + off_ms))
            self.send([self.another(twin, request)])

    @rule(name=twin_names, host=st.sampled_from(HOSTS), request=requests(), first=st.booleans())
    def drop_a_host(self, name: str, host: Host, request: AccessRequest, first: bool) -> None:
        """An administrator drops a host, while it may be asking."""
        asked = self.new(name, request)
        nothing = AccessRequest(host=host)
        dropped = dataclasses.replace(self.new(name, nothing), drop=True)
        self.send([dropped, asked] if first else [asked, dropped])

    @rule(
        data=st.data(),
        names=st.lists(twin_names, min_size=1, max_size=4),
        more=st.lists(st.tuples(twin_names, requests()), max_size=3),
        twice=st.booleans(),
    )
    def ask_as_floating_clients(
        self,
        data: st.DataObject,
        names: list[str],
        more: list[tuple[str, AccessRequest]],
        twice: bool,
    ) -> None:
        """Beside others, who may find the catalogue changed by one of them."""
        asked = [self.new_floating(data, name) for name in names]
        others = [self.new(name, request) for name, request in more]
        together = data.draw(st.permutations([*asked, *others]))
        self.send([*together, *asked[: int(twice)]])

    @rule(data=st.data(), name=twin_names, moment=st.sampled_from(MOMENTS))
    def let_time_pass_and_ask_as_a_floating_client(
        self, data: st.DataObject, name: str, moment: str | int
    ) -> None:
        clock_ms = moment_ms(self.world.twins[name], moment, self.world.clock_ms)
        self.bench.do(self.world.set_clock(clock_ms))
        self.send([self.new_floating(data, name)])

    @rule(data=st.data(), name=twin_names, off_ms=st.sampled_from((0, 0, 1, 60_000)))
    def ask_about_what_is_held(self, data: st.DataObject, name: str, off_ms: int) -> None:
        twin = self.world.twins[name]
        held = [
            (host, line, hold)
            for host, of_host in sorted(twin.state.holds.items())
            for line, hold in sorted(of_host.items())
        ]
        if held:
            self.bench.do(self.world.set_clock(self.world.clock_ms + off_ms))
            floating = data.draw(about_held(held))
            self.send([self.another(twin, AccessRequest(host=floating.host), floating)])

    def new_floating(self, data: st.DataObject, name: str) -> Asked:
        twin = self.world.twins[name]
        floating = data.draw(floating_asks(max(self.world.clock_ms, twin.state.last_ms)))
        return self.another(twin, AccessRequest(host=floating.host), floating)

    @rule(
        name=twin_names,
        line_id=st.sampled_from(SHARED_LINES),
        units=st.sampled_from((0, 1, 3, 8, 20, -1, -5, UNITS_MAX, -UNITS_MAX)),
        holder=st.sampled_from((HOLDER, HOLDER, STRANGER)),
        more=st.integers(0, 1),
    )
    def let_others_consume(
        self, name: str, line_id: str, units: int, holder: str, more: int
    ) -> None:
        """Of what is shared with them; somebody without the lease cannot say so. Then somebody asks
        for all that is left, or for one more.
        """
        twin = self.world.twins[name]
        line = twin.index.line[line_id]

        async def note() -> None:
            async with leased(self.world, twin):
                await self.world.take_elsewhere(twin, line, units, holder)

        self.bench.do(note())
        self.check()
        label, _ = period_of(line, max(self.world.clock_ms, twin.state.last_ms))
        used = twin.state.used.get((line_id, label), 0)
        left = line.capacity - units - used + more
        if 0 < left <= COUNT_MAX:
            wishes = (Wish(line_id, left),)
            floating = Floating(FLOATING_HOSTS[0], wishes, INCREMENTAL | TELL)
            self.send([self.another(twin, AccessRequest(host=floating.host), floating)])

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


def test_script_and_specification_agree_on_every_answer_and_every_key(bench: Bench) -> None:
    hold_to_each_other(ScriptAgainstLedger, bench, EXAMPLES)


@pytest.mark.slow
def test_they_agree_at_length(bench: Bench) -> None:
    hold_to_each_other(ScriptAgainstLedger, bench, 2 * EXAMPLES)
