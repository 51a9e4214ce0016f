"""The public examples E1 to E21 and E30, straight on the executable specification.

E5, E18 and E22 are refused before the ledger; of E5 what it says (a mismatch) is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.core import ledger
from gateway.core.calendar import DAY_MS, make_calendar
from gateway.core.calls import INCREMENTAL, PARTIAL, PREVIEW, Ask, Context, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.counters import State
from gateway.core.fingerprint import fingerprint
from gateway.core.model import (
    COUNT_MAX,
    UNITS_MAX,
    AccessRequest,
    Attachment,
    Catalogue,
    Grant,
    Held,
    Host,
    Line,
    Model,
    Offer,
    Shortfall,
    Want,
)

NOW_MS = 1_795_348_800_250
HOUR_MS = 3_600_000
RETENTION_MS = HOUR_MS
LAPSE_MS = NOW_MS + HOUR_MS + 750  # of a grant for an hour, rounded up to a whole second


def _line(line_id: str, feature: str, model: Model, count: int, **more: Any) -> Line:
    said: dict[str, Any] = {"version": "1.0", "capacity": count} | more
    return Line(id=line_id, feature=feature, model=model, count=count, **said)


DEMO = Catalogue(
    id="DEMO",
    version=1,
    lines=(
        _line("SE", "sessions", Model.METERED, 100),
        _line("US", "users", Model.METERED, 10, overdraft="2", capacity=12, undo_ms=HOUR_MS),
        _line("ED", "editor", Model.CONCURRENT, 3, version="2.0"),
        _line("PA", "pages", Model.METERED_REUSABLE, 50),
        _line("AP", "api", Model.METERED, UNITS_MAX),
    ),
    upstreams=(Attachment("cloud"), Attachment("by-host", by_host=True)),
)


@dataclass
class Demo:
    """The instance of the examples: its state, its clock, and one way to ask."""

    state: State = field(default_factory=lambda: State(version=1))
    clock_ms: int = NOW_MS
    index: CatalogueIndex = field(default_factory=lambda: CatalogueIndex(DEMO))
    asked: int = 0

    @property
    def context(self) -> Context:
        return make_calendar(self.index, self.clock_ms - DAY_MS, self.clock_ms).context

    def ask(
        self,
        *wants: tuple[str, str, int],
        host: str = "h1",
        inc: bool = False,
        partial: bool = False,
        interval_s: int = 0,
        name: str | None = None,
        preview: bool = False,
    ) -> Reply:
        self.asked += 1
        request = AccessRequest(
            host=Host("string", host),
            wants=tuple(Want(*want) for want in wants),
            incremental=inc,
            partial=partial,
            interval_s=interval_s,
        )
        resolved = self.index.resolve(request)
        ask = Ask(
            context=0,
            id=name or f"own-{self.asked}",
            ttl_ms=RETENTION_MS,
            fingerprint=fingerprint(request).hex(),
            echo="as sent",
            host=request.host.canonical,
            flags=INCREMENTAL * inc | PARTIAL * partial | PREVIEW * preview,
            wants=[(at, units) for at, (_, units) in enumerate(resolved)],
        )
        tables, now_ms = [table.table for table, _ in resolved], self.clock_ms
        self.state, reply = ledger.apply(self.state, self.context, tables, ask, now_ms)
        return reply

    def used(self, line: str) -> int:
        return self.state.used.get((line, "0"), 0)

    def counters(self) -> tuple[Any, ...]:
        """All that a request counts in; what only tells that it came is left out."""
        state = self.state
        days = {key: units for key, day in state.days.items() if (units := day.units)}
        used = {key: units for key, units in state.used.items() if units}
        return used, state.holds, state.undo, state.acked, state.open, days


SESSIONS_42 = ("sessions", "0", 42)
USERS_7 = ("users", "0", 7)
EDITOR_2 = ("editor", "1.0", 2)
SHORT = "FEATURE_COUNT_INSUFFICIENT"


def after_e1() -> Demo:
    demo = Demo()
    reply = demo.ask(SESSIONS_42, USERS_7, partial=True, name="e1")
    assert [Grant("SE", 42), Grant("US", 7)] == outcome(reply).grants
    return demo


def after_e2() -> Demo:
    demo = after_e1()
    said = outcome(demo.ask(SESSIONS_42, USERS_7, partial=True))
    assert ([Grant("SE", 42), Grant("US", 5)], [Shortfall(1, SHORT, 7, 5)]) == (
        said.grants,
        said.shortfalls,
    )
    return demo


def after_e6() -> Demo:
    said = outcome((demo := Demo()).ask(EDITOR_2, interval_s=3_600))
    assert ([Held("ED", 2, LAPSE_MS)], []) == (said.held, said.shortfalls)
    return demo


def outcome(reply: Reply) -> Any:
    assert (reply.verdict, reply.outcome is not None) == (Verdict.DONE, True)
    return reply.outcome


def codes(reply: Reply) -> list[str]:
    return [each.code for each in outcome(reply).shortfalls]


def test_e1_both_are_granted() -> None:
    demo = after_e1()
    assert (demo.used("SE"), demo.used("US")) == (42, 7)


def test_e2_the_same_again_adds_and_the_overdraft_is_the_end() -> None:
    demo = after_e2()
    assert (demo.used("SE"), demo.used("US")) == (84, 12)


def test_e3_without_partial_nothing_changes_when_one_feature_is_short() -> None:
    demo = after_e2()
    before = demo.counters()
    said = outcome(demo.ask(("sessions", "0", 10), ("users", "0", 1)))
    assert ([Shortfall(1, SHORT, 1, 0)], [], []) == (said.shortfalls, said.grants, said.held)
    assert before == demo.counters()


def test_e4_the_same_id_is_answered_as_the_first_time_and_counts_nothing() -> None:
    demo = Demo()
    first = demo.ask(SESSIONS_42, USERS_7, partial=True, name="e1")
    demo.ask(SESSIONS_42, USERS_7, partial=True)
    before, demo.clock_ms = demo.counters(), NOW_MS + RETENTION_MS - 1
    again = demo.ask(USERS_7, SESSIONS_42, partial=True, name="e1")
    assert (Verdict.REPLAYED, first.outcome, "as sent") == (
        again.verdict,
        again.outcome,
        again.echo,
    )
    assert before == demo.counters()


def test_an_id_is_forgotten_after_its_retention() -> None:
    demo = after_e1()
    demo.clock_ms += RETENTION_MS
    assert [Grant("SE", 42), Grant("US", 5)] == outcome(
        demo.ask(SESSIONS_42, USERS_7, partial=True, name="e1")
    ).grants


def test_e5_the_same_id_with_another_meaning_is_a_mismatch() -> None:
    demo = after_e2()
    before = demo.counters()
    reply = demo.ask(("sessions", "0", 43), USERS_7, partial=True, name="e1")
    assert Reply(Verdict.MISMATCH) == reply
    assert before == demo.counters()


def test_e6_seats_are_held_for_the_interval() -> None:
    assert after_e6().used("ED") == 2


def test_e7_another_host_is_denied_what_is_not_there() -> None:
    demo = after_e6()
    before = demo.counters()
    said = outcome(demo.ask(("editor", "0", 2), host="h2"))
    assert ([Shortfall(0, SHORT, 2, 1)], []) == (said.shortfalls, said.held)
    assert before == demo.counters()


def test_e8_or_gets_what_is_there_with_partial() -> None:
    said = outcome(after_e6().ask(("editor", "0", 2), host="h2", partial=True, interval_s=3_600))
    assert ([Shortfall(0, SHORT, 2, 1)], [Held("ED", 1, LAPSE_MS)]) == (said.shortfalls, said.held)


def test_e9_one_more_moves_the_expiry_of_all() -> None:
    demo = after_e6()
    demo.clock_ms += 60_000
    said = outcome(demo.ask(("editor", "0", 1), inc=True, interval_s=3_600))
    assert [Held("ED", 3, LAPSE_MS + 60_000)] == said.held


def test_e10_an_empty_list_releases_all() -> None:
    demo = after_e6()
    assert outcome(demo.ask()).held == []
    assert (demo.used("ED"), demo.state.holds) == (0, {})


def test_e11_or_reads_back_when_incremental() -> None:
    demo = after_e6()
    before = demo.counters()
    assert [Held("ED", 2, LAPSE_MS)] == outcome(demo.ask(inc=True)).held
    assert before == demo.counters()


@pytest.mark.parametrize(("late_ms", "held"), [(-1, 1), (0, 3)])
def test_e12_a_lapse_frees_seats_at_its_moment(late_ms: int, held: int) -> None:
    demo = after_e6()
    demo.clock_ms = LAPSE_MS + late_ms
    said = outcome(demo.ask(("editor", "0", 3), host="h2", partial=True))
    assert [held] == [each.count for each in said.held]


def test_e13_a_higher_version_than_any_line_has() -> None:
    assert codes(Demo().ask(("editor", "2.1", 1))) == ["VERSION_TOO_HIGH"]


def test_e14_an_undo_gives_back_what_was_consumed() -> None:
    demo = after_e1()
    assert [Grant("US", -3)] == outcome(demo.ask(("users", "0", -3), inc=True)).grants
    assert (demo.used("US"), demo.state.acked["US"]) == (4, 4)


@pytest.mark.parametrize(
    ("late_ms", "expected"),
    [(0, []), (1, ["UNDO_WINDOW_CLOSED"]), (HOUR_MS, ["UNDO_WINDOW_CLOSED"])],
)
def test_e15_but_not_after_its_window(late_ms: int, expected: list[str]) -> None:
    demo = after_e1()
    before, demo.clock_ms = demo.counters(), NOW_MS + HOUR_MS + late_ms
    assert expected == codes(demo.ask(("users", "0", -3), inc=True))
    assert (7 if expected else 4) == demo.used("US")
    if expected:
        assert before[3:] == demo.counters()[3:]


def test_e16_what_has_no_undo_interval_is_not_returnable() -> None:
    demo = after_e1()
    before = demo.counters()
    assert codes(demo.ask(("sessions", "0", -1), inc=True)) == ["CONSUMED_NOT_RETURNABLE"]
    assert before == demo.counters()


def test_e17_fewer_pages_write_a_negative_usage_row() -> None:
    demo = Demo()
    demo.ask(("pages", "0", 20))
    hour = NOW_MS // HOUR_MS
    assert demo.state.open["cloud"]["PA", hour, ""] == 20
    demo.clock_ms += HOUR_MS
    assert [Held("PA", 5, 0)] == outcome(demo.ask(("pages", "0", 5))).held
    rows = {("PA", hour, "STRING:h1"): 20, ("PA", hour + 1, "STRING:h1"): -15}
    assert rows == demo.state.open["by-host"]


def test_e19_an_uncounted_line_grants_the_most_that_can_be_asked() -> None:
    said = outcome(Demo().ask(("api", "0", COUNT_MAX)))
    assert ([Grant("AP", COUNT_MAX)], []) == (said.grants, said.shortfalls)


def test_e20_the_list_is_the_whole_set_of_reusable_features() -> None:
    demo = after_e6()
    said = outcome(demo.ask(("sessions", "0", 1)))
    assert ([Grant("SE", 1)], []) == (said.grants, said.held)
    assert (demo.used("SE"), demo.used("ED")) == (1, 0)


def test_e21_its_own_seats_count_again() -> None:
    demo = after_e6()
    assert [each.count for each in outcome(demo.ask(("editor", "0", 3))).held] == [3]
    assert [each.count for each in outcome(demo.ask(("editor", "0", 1))).held] == [1]
    assert demo.used("ED") == 1


def test_e30_acked_is_the_sum_of_days_and_of_what_waits() -> None:
    demo = after_e2()
    demo.ask(("pages", "0", 20), ("api", "0", 3), interval_s=60)
    demo.clock_ms += 30 * 60_000
    demo.ask(("users", "0", -4), inc=True)
    demo.clock_ms += 2 * DAY_MS  # the pages lapsed in the hour of their lapse, two days ago
    demo.ask(("sessions", "0", 2))
    state = demo.state
    assert state.acked == {"SE": 86, "US": 8, "PA": 0, "AP": 3}
    for line, units in state.acked.items():
        assert units == sum(day.units for (of, _), day in state.days.items() if of == line)
        for rows in state.open.values():
            assert units == sum(each for (of, *_), each in rows.items() if of == line)


def test_a_stale_catalogue_and_a_short_calendar_change_nothing() -> None:
    demo = after_e6()
    before = demo.state
    ask = Ask(1, "x", 1, "f", "", "STRING:h1", 0, [])
    other = Context("DEMO", 7, [], demo.context.days, demo.context.periods)
    assert (before, Reply(Verdict.STALE, version=1)) == ledger.apply(before, other, [], ask, NOW_MS)
    later_ms = NOW_MS + 9 * DAY_MS
    assert (before, Reply(Verdict.CALENDAR, from_ms=LAPSE_MS, now_ms=later_ms)) == ledger.apply(
        before, demo.context, [], ask, later_ms
    )


def test_time_never_goes_back() -> None:
    demo = after_e6()
    demo.clock_ms -= 2 * HOUR_MS
    assert outcome(demo.ask(("sessions", "0", 1), inc=True)).at_ms == NOW_MS


def test_a_preview_changes_nothing_and_tells_free_and_held() -> None:
    demo = after_e6()
    before = demo.counters()
    wants = (("editor", "0", 0), ("users", "0", 0), ("ghost", "0", 0))
    preview = demo.ask(*wants, preview=True).preview
    assert preview is not None
    assert [Offer(0, "ED", 1, 2), Offer(1, "US", 12, 0)] == preview.offers
    assert [each.code for each in preview.shortfalls] == ["FEATURE_NOT_FOUND"]
    assert before == demo.counters()
