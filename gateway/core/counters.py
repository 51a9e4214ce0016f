"""The counters of one instance, and how consumption, holds and lapses are recorded in them.

Decided here: what is kept (SEMANTICS 11), which local day and reset period a moment belongs to,
and that a lapse takes effect at its moment. Not decided here: what a request may have (ledger.py).
With ledger.py this is the executable specification of the script; nothing of it runs in a gateway.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from gateway.core.calls import Context, Why
from gateway.core.model import Outcome
from gateway.core.periods import hour_of

METERED, METERED_REUSABLE, CONCURRENT = 0, 1, 2


@dataclass
class Hold:
    """What a host has of a reusable line; `lapses_ms` 0: until returned. `since_ms`, 0 where that
    is not known, is when it began to hold some of it. `borrowed`: its lapse was set to last.
    """

    count: int
    lapses_ms: int
    model: int
    since_ms: int
    borrowed: bool = False


@dataclass
class Consumed:
    """Units of a metered line, near in time, that may still be undone; `label` is their period."""

    first_ms: int
    last_ms: int
    units: int
    label: str


@dataclass
class Undoable:
    """A host's consumption of one line, oldest first; forgotten at `until_ms`."""

    entries: list[Consumed]
    until_ms: int


@dataclass
class Day:
    """One line on one local day: net units, units given back, peak held, held at last, denials by
    code.
    """

    units: int = 0
    back: int = 0
    peak: int | None = None
    held: int | None = None
    denials: dict[str, int] = field(default_factory=dict)


@dataclass
class State:
    """All counters of one instance."""

    version: int = 0
    catalogue: bytes = b""  # the latest that came with an ask
    last_ms: int = 0
    seq: int = 0
    used: dict[tuple[str, str], int] = field(default_factory=dict)  # by line and period label
    elsewhere: dict[tuple[str, str], int] = field(default_factory=dict)  # likewise
    used_until_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    holds: dict[str, dict[str, Hold]] = field(default_factory=dict)  # by host and line
    undo: dict[tuple[str, str], Undoable] = field(default_factory=dict)  # by line and host
    acked: dict[str, int] = field(default_factory=dict)
    days: dict[tuple[str, int], Day] = field(default_factory=dict)  # by line and yyyymmdd
    open: dict[str, dict[tuple[str, int, str], int]] = field(default_factory=dict)  # by upstream
    seen: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, tuple[str, Outcome, str, int]] = field(default_factory=dict)
    explained: dict[str, Why] = field(default_factory=dict)  # by id, as long as it is kept
    decisions: list[tuple[tuple[str, ...], dict[str, int]]] = field(default_factory=list)


def reaches(context: Context, from_ms: int, now_ms: int) -> bool:
    """Say whether the calendar covers local days from `from_ms` and reset periods at `now_ms`."""
    days_ok = context.days[0][0] <= from_ms and now_ms < context.days[-1][0]
    return days_ok and all(
        len(table) == 1 or table[0][0] <= now_ms < table[-1][0] for table in context.periods
    )


def sweep(state: State, context: Context, now_ms: int) -> None:
    """Give back all that has lapsed, each at its moment; forget what can no longer be undone."""
    for at_ms, line, host in due(state, now_ms):
        hold = state.holds[host].pop(line)
        if not state.holds[host]:
            del state.holds[host]
        change_held(
            state, context, host, line, hold.model, -hold.count, at_ms, gross_back=hold.count
        )
    for key in [key for key, each in state.undo.items() if each.until_ms <= now_ms]:
        del state.undo[key]
    for period in [period for period, until in state.used_until_ms.items() if until <= now_ms]:
        del state.used_until_ms[period]
        state.used.pop(period, None)
        state.elsewhere.pop(period, None)


def keep_until(state: State, period: tuple[str, str], until_ms: int) -> None:
    """Keep what is known of a line's period until a moment, or until a later one; 0: for ever."""
    if until_ms:
        state.used_until_ms[period] = max(until_ms, state.used_until_ms.get(period, 0))


def set_elsewhere(state: State, line: str, label: str, units: int, until_ms: int) -> None:
    """Note what another server consumed of a line in a period; what is forgotten is so with it."""
    state.elsewhere[line, label] = units
    keep_until(state, (line, label), until_ms)


def due(state: State, now_ms: int) -> list[tuple[int, str, str]]:
    return sorted(
        (hold.lapses_ms, line, host)
        for host, held in state.holds.items()
        for line, hold in held.items()
        if 0 < hold.lapses_ms <= now_ms
    )


def change_held(
    state: State,
    context: Context,
    host: str,
    line: str,
    model: int,
    delta: int,
    at_ms: int,
    gross_back: int,
) -> None:
    """Move `used` of a reusable line by `delta` and record it: usage when metered, peak when
    concurrent.

    A day's peak begins with what is held once all of its first moment has happened: what goes as
    the day begins was not held on it. `state.last_ms` is that of the transaction before: a hold cut
    back in time, behind it, is joined to a day that has begun.
    """
    before = state.used.get((line, "0"), 0)
    state.used[line, "0"] = before + delta
    if model == METERED_REUSABLE:
        record_usage(state, context, host, line, delta, at_ms, gross_back)
    else:
        begin_ms, label, _ = _entry_of(context, at_ms)
        day = state.days.setdefault((line, label), Day())
        day.held = before + delta
        if at_ms == begin_ms and state.last_ms <= at_ms:
            day.peak = day.held
        else:
            day.peak = max(day.peak or 0, before, day.held)


def record_usage(
    state: State, context: Context, host: str, line: str, units: int, at_ms: int, back: int
) -> None:
    """Write usage of a metered line: its lifetime sum, its local day, a row for each upstream."""
    state.acked[line] = state.acked.get(line, 0) + units
    day = state.days.setdefault((line, day_of(context, at_ms)), Day())
    day.units += units
    day.back += back
    for upstream, by_host in context.upstreams:
        rows = state.open.setdefault(upstream, {})
        row = (line, hour_of(at_ms), host if by_host else "")
        rows[row] = rows.get(row, 0) + units
        if not rows[row]:
            del rows[row]


def day_of(context: Context, at_ms: int) -> int:
    """Give the local day, as yyyymmdd, that contains a moment."""
    return _entry_of(context, at_ms)[1]


def _entry_of(context: Context, at_ms: int) -> tuple[int, int, int]:
    return context.days[bisect_right(context.days, at_ms, key=lambda day: day[0]) - 1]


def label_of(context: Context, period: int, at_ms: int) -> tuple[str, int]:
    """Give the label of the reset period that contains a moment, and when it ends (0: never)."""
    table = context.periods[period]
    if len(table) == 1:
        return table[0][1], 0
    at = bisect_right(table, at_ms, key=lambda entry: entry[0]) - 1
    return table[at][1], table[at + 1][0]
