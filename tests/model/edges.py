"""Moments and requests that the present state makes interesting; blind draws seldom meet them.

Decided here: where a limit lies and who would notice. Not decided here: what has to happen there.
"""

from __future__ import annotations

from gateway.core.calendar import make_calendar
from gateway.core.model import AccessRequest, Host, Want
from tests.model.pools import DAY_MS, HOSTS
from tests.model.twins import Twin


def moment_ms(twin: Twin, moment: str | int, clock_ms: int) -> int:
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


def undos_of(twin: Twin) -> list[AccessRequest]:
    """Ask each consumption back that can be: the newest, half of all, all, and one too many."""
    asked: list[AccessRequest] = []
    for (line_id, host), undoable in sorted(twin.state.undo.items()):
        units = [entry.units for entry in undoable.entries]
        feature = twin.index.line[line_id].feature
        several = sorted({1, units[-1], sum(units) // 2 or 1, sum(units), sum(units) + 1})
        asked += [_one(host, feature, -n, incremental=True, partial=n % 2 == 0) for n in several]
    return asked


def edges_of(twin: Twin, now_ms: int) -> list[tuple[int, AccessRequest]]:
    """Give moments still to come, each with a request that comes out otherwise after it."""
    edges = []
    for (line_id, host), undoable in sorted(twin.state.undo.items()):
        line = twin.index.line[line_id]
        for entry in undoable.entries:
            request = _one(host, line.feature, -entry.units, incremental=True)
            edges.append((entry.last_ms + line.undo_ms, request))
    other = HOSTS[-1].canonical
    for host, held in sorted(twin.state.holds.items()):
        for line_id, hold in sorted(held.items()):
            line = twin.index.line[line_id]
            if hold.lapses_ms:
                edges.append((hold.lapses_ms, _one(host, line.feature, 0, incremental=True)))
                edges.append((hold.lapses_ms, _one(other, line.feature, line.capacity)))
    for line in twin.index.catalogue.lines:
        for at_ms in (line.starts_ms, line.expires_ms):
            if at_ms is not None:
                request = _one(other, line.feature, 1, incremental=True, version=line.version)
                edges.append((at_ms, request))
    return [(at_ms, request) for at_ms, request in edges if at_ms > now_ms]


def _one(
    host: str,
    feature: str,
    units: int,
    incremental: bool = False,
    partial: bool = True,
    version: str = "0",
) -> AccessRequest:
    return AccessRequest(
        host=Host(*host.split(":", 1)),
        wants=(Want(feature, version, units),),
        incremental=incremental,
        partial=partial,
        selectors={"site": "ANY"},
    )
