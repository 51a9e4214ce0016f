"""What a request does to the counters: the executable specification of store/lua/apply.lua.

Decided here: grants, returns, undo, and what a repeat is told, for one request at a time, in the
plainest words. Not decided here: how the script batches and bounds the same work. The model test
draws requests and holds the script to this page after every step. Source: SEMANTICS 4 to 7, 9, 11.
"""

from __future__ import annotations

import copy

from gateway.core.calls import (
    DROP,
    INCREMENTAL,
    PARTIAL,
    PREVIEW,
    Ask,
    Context,
    Reply,
    Row,
    Table,
    Verdict,
)
from gateway.core.counters import (
    METERED,
    Consumed,
    Day,
    Hold,
    State,
    Undoable,
    change_held,
    day_of,
    due,
    label_of,
    reaches,
    record_usage,
    sweep,
)
from gateway.core.explaining import explain, filters
from gateway.core.intervals import lapse_at_ms
from gateway.core.model import UNITS_MAX, Code, Grant, Held, Offer, Outcome, Preview, Shortfall

UNDO_BUCKETS = 1024  # consumption is remembered to this fraction of the undo interval


def apply(
    before: State, context: Context, tables: list[Table], ask: Ask, clock_ms: int
) -> tuple[State, Reply]:
    """Do what one ask says at the store's `clock_ms` and return the state after it and the reply.

    Pure: `before` is left as it was. The transaction time is the clock's, but never before an
    earlier one.
    """
    if context.version != before.version:
        return before, Reply(Verdict.STALE, version=before.version)
    now_ms = max(clock_ms, before.last_ms)
    from_ms = min([now_ms, *(at for at, *_ in due(before, now_ms))])
    if not reaches(context, from_ms, now_ms):
        return before, Reply(Verdict.CALENDAR, from_ms=from_ms, now_ms=now_ms)
    state = copy.deepcopy(before)
    sweep(state, context, now_ms)
    state.last_ms = now_ms
    if ask.flags & PREVIEW:
        return state, Reply(Verdict.DONE, preview=preview(state, context, tables, ask, now_ms))
    if (known := state.outcomes.get(ask.id)) and clock_ms < known[3]:
        fingerprint, outcome, echo, _ = known
        if fingerprint != ask.fingerprint:
            return state, Reply(Verdict.MISMATCH)
        return state, Reply(Verdict.REPLAYED, outcome=outcome, echo=echo)
    why = explain(state, context, tables, ask, now_ms) if ask.explain_ms else None
    outcome = _Request(state, context, tables, ask, now_ms).run()
    state.seq += 1
    state.seen[ask.host] = now_ms
    if ask.flags & DROP:
        del state.seen[ask.host]
    if ask.decision:
        state.decisions.append((ask.decision, {held.line: held.count for held in outcome.held}))
    if why:
        state.explained[ask.id] = why(outcome)
    state.outcomes[ask.id] = (ask.fingerprint, outcome, ask.echo, clock_ms + ask.ttl_ms)
    return state, Reply(Verdict.DONE, outcome=outcome)


def candidates(table: Table, place: int, now_ms: int) -> tuple[list[Row], str]:
    """Filter rows for the want at `place` (from 1); none left: the code of the filter that left
    none.
    """
    left = table.rows
    for code, keep in filters(place, now_ms):
        left = [row for row in left if keep(row)]
        if not left:
            return [], str(code)
    return left, ""


def preview(state: State, context: Context, tables: list[Table], ask: Ask, now_ms: int) -> Preview:
    """Say what the host could get of each want now: per candidate line what is free and what it
    holds.
    """
    request = _Request(state, context, tables, ask, now_ms)
    for index, wants in ask.wants:
        for place, (_, want) in enumerate(wants, 1):
            rows, code = candidates(tables[index], place, now_ms)
            if code:
                request.short(want, code, 0, 0, tables[index], place)
            for row in rows:
                held = request.held.get(row.id)
                request.offers.append(
                    Offer(want, row.id, max(0, request.room(row)), held.count if held else 0)
                )
    return Preview(now_ms, request.shortfalls, request.offers)


class _Request:
    """One request in the making: counters move on trial, and are written if it goes through."""

    def __init__(
        self, state: State, context: Context, tables: list[Table], ask: Ask, now_ms: int
    ) -> None:
        self.state, self.context, self.tables, self.ask = state, context, tables, ask
        self.now_ms = now_ms
        self.held = copy.deepcopy(state.holds.get(ask.host, {}))
        self.used: dict[str, int] = {}  # by line: change of used so far
        self.grants: dict[str, int] = {}
        self.undone: list[tuple[Row, Consumed, int]] = []
        self.shown: list[str] = []  # lines shown although nothing of their feature is held now
        self.renewed: list[Table] = []
        self.shortfalls: list[Shortfall] = []
        self.denials: list[tuple[str, str]] = []
        self.offers: list[Offer] = []

    def run(self) -> Outcome:
        incremental = self.ask.flags & INCREMENTAL
        self.had = dict(self.held)
        if not incremental:
            for line, hold in self.held.items():
                self.used[line] = -hold.count
            self.held = {}
        for index, wants in self.ask.wants:
            table = self.tables[index]
            for place, (units, want) in enumerate(wants, 1):
                if units > 0:
                    self.take(table, place, units, want)
                elif units == 0:
                    self.look(table, place, want)
                elif table.model == METERED:
                    self.undo(table, place, -units, want)
                else:
                    self.give_back(table, place, -units, want)
        if self.shortfalls and not self.ask.flags & PARTIAL:
            self.grants, self.undone, self.shown = {}, [], []
            self.held = self.had
        else:
            self.renew()
            self.write()
        for line, code in self.denials:
            key = (line, day_of(self.context, self.now_ms))
            denials = self.state.days.setdefault(key, Day()).denials
            denials[code] = denials.get(code, 0) + 1
        grants = [Grant(line, units) for line, units in self.grants.items()]
        return Outcome(self.now_ms, self.shortfalls, grants, self.answer_held())

    def room(self, row: Row) -> int:
        """Units of a line that are free now, what this request moved so far included."""
        label, _ = label_of(self.context, row.period, self.now_ms)
        moved = self.used.get(row.id, 0)
        room = row.capacity - self.state.used.get((row.id, label), 0) - moved
        if row.period:  # used starts again with each period, a line's life does not
            room = min(room, UNITS_MAX - self.state.acked.get(row.id, 0) - moved)
        return room

    def short(
        self, want: int, code: str, asked: int, available: int, table: Table, place: int
    ) -> None:
        """Note a shortfall; it is counted as a denial of the first candidate or, where there is
        none, of the first line that is not retired.
        """
        self.shortfalls.append(Shortfall(want, code, asked, available))
        rows, _ = candidates(table, place, self.now_ms)
        live = rows or [row for row in table.rows if not row.retired]
        self.denials.append((live[0].id if live else "", code))

    def take(self, table: Table, place: int, units: int, want: int) -> None:
        rows, code = candidates(table, place, self.now_ms)
        left = units
        for row in rows:
            taken = min(left, max(0, self.room(row)))
            if taken == 0:
                continue
            left -= taken
            self.used[row.id] = self.used.get(row.id, 0) + taken
            if table.model == METERED:
                self.grants[row.id] = self.grants.get(row.id, 0) + taken
            else:
                hold = self.held.get(row.id) or Hold(0, 0, table.model)
                self.held[row.id] = Hold(hold.count + taken, hold.lapses_ms, table.model)
                if table not in self.renewed:
                    self.renewed.append(table)
        if left:
            code = code or str(Code.FEATURE_COUNT_INSUFFICIENT)
            self.short(want, code, units, units - left, table, place)

    def look(self, table: Table, place: int, want: int) -> None:
        rows, code = candidates(table, place, self.now_ms)
        if table.model == METERED:
            if rows:
                self.grants.setdefault(rows[0].id, 0)
            else:
                self.short(want, code, 0, 0, table, place)
            return
        had = [row for row in table.rows if row.id in self.had]
        if not rows and not had:
            self.short(want, code, 0, 0, table, place)
        elif not any(row.id in self.held for row in table.rows):
            self.shown.append((rows or had)[0].id)

    def give_back(self, table: Table, place: int, units: int, want: int) -> None:
        pool = [row for row in table.rows[::-1] if row.fit and row.fit <= place]
        pool = [row for row in pool if row.id in self.held]
        total = sum(self.held[row.id].count for row in pool)
        if total < units:
            code = candidates(table, place, self.now_ms)[1] if total == 0 else ""
            code = code or str(Code.RETURN_TOO_LARGE)
            self.short(want, code, -units, total, table, place)
        left = min(units, total)
        for row in pool:
            hold = self.held[row.id]
            back = min(left, hold.count)
            left -= back
            self.used[row.id] = self.used.get(row.id, 0) - back
            self.held[row.id] = Hold(hold.count - back, hold.lapses_ms, hold.model)
            if hold.count == back:
                del self.held[row.id]
        if not any(row.id in self.held for row in table.rows) and total:
            self.shown.append(pool[-1].id)

    def undo(self, table: Table, place: int, units: int, want: int) -> None:
        found: list[tuple[Row, Consumed]] = []
        for row in table.rows:
            if row.fit and row.fit <= place and row.undo_ms:
                undoable = self.state.undo.get((row.id, self.ask.host))
                found.extend(
                    (row, entry)
                    for entry in (undoable.entries if undoable else ())
                    if self.now_ms <= entry.last_ms + row.undo_ms
                )
        found.reverse()
        found.sort(key=lambda each: each[1].last_ms, reverse=True)
        total = sum(entry.units for _, entry in found)
        if total < units:
            rows, code = candidates(table, place, self.now_ms)
            if total or (rows and any(row.undo_ms for row in rows)):
                code = str(Code.UNDO_WINDOW_CLOSED)
            elif rows:
                code = str(Code.CONSUMED_NOT_RETURNABLE)
            self.short(want, code, -units, total, table, place)
        left = min(units, total)
        for row, entry in found:
            taken = min(left, entry.units)
            left -= taken
            if taken:
                self.undone.append((row, entry, taken))
                self.grants[row.id] = self.grants.get(row.id, 0) - taken

    def renew(self) -> None:
        for table in self.renewed:
            for row in table.rows:
                if row.id in self.held and not row.retired:
                    interval_ms, expires_ms = row.interval_ms or None, row.expires_ms or None
                    lapses_ms = lapse_at_ms(self.now_ms, interval_ms, expires_ms) or 0
                    self.held[row.id].lapses_ms = lapses_ms

    def write(self) -> None:
        host = self.ask.host
        for line in sorted(self.had.keys() | self.held.keys()):
            old, new = self.had.get(line), self.held.get(line)
            delta = (new.count if new else 0) - (old.count if old else 0)
            if delta:
                model = (new or old or Hold(0, 0, 0)).model
                change_held(
                    self.state, self.context, host, line, model, delta, self.now_ms, max(0, -delta)
                )
        if self.held:
            self.state.holds[host] = self.held
        else:
            self.state.holds.pop(host, None)
        rows = {row.id: row for index, _ in self.ask.wants for row in self.tables[index].rows}
        for line, units in self.grants.items():
            if units > 0:
                self.consume(rows[line], units)
        for row, entry, units in self.undone:
            # Less is left only of a period forgotten before the line got a longer undo interval.
            if self.state.used.get((row.id, entry.label), 0) >= units:
                self.state.used[row.id, entry.label] -= units
            entry.units -= units
            record_usage(self.state, self.context, host, row.id, -units, self.now_ms, units)
        for row, _, _ in self.undone:
            undoable = self.state.undo.get((row.id, host))
            if undoable:
                undoable.entries = [entry for entry in undoable.entries if entry.units]
                if not undoable.entries:
                    del self.state.undo[row.id, host]

    def consume(self, row: Row, units: int) -> None:
        label, end_ms = label_of(self.context, row.period, self.now_ms)
        period = (row.id, label)
        if end_ms:
            until_ms = end_ms + row.undo_ms + 1
            self.state.used_until_ms[period] = max(
                until_ms, self.state.used_until_ms.get(period, 0)
            )
        self.state.used[period] = self.state.used.get(period, 0) + units
        record_usage(self.state, self.context, self.ask.host, row.id, units, self.now_ms, 0)
        if not row.undo_ms:
            return
        undoable = self.state.undo.setdefault((row.id, self.ask.host), Undoable([], 0))
        entries = [e for e in undoable.entries if self.now_ms <= e.last_ms + row.undo_ms]
        width_ms = -(-row.undo_ms // UNDO_BUCKETS)
        newest = entries[-1] if entries else None
        if newest and newest.label == label and self.now_ms - newest.first_ms < width_ms:
            newest.units += units
            newest.last_ms = self.now_ms
        else:
            entries.append(Consumed(self.now_ms, self.now_ms, units, label))
        undoable.entries = entries
        undoable.until_ms = self.now_ms + row.undo_ms + 1

    def answer_held(self) -> list[Held]:
        if not self.ask.wants:
            held = self.had if self.ask.flags & DROP else self.held
            return [Held(line, h.count, h.lapses_ms) for line, h in sorted(held.items())]
        answer = {}
        for index, _ in self.ask.wants:
            for row in self.tables[index].rows:
                if hold := self.held.get(row.id):
                    answer[row.id] = Held(row.id, hold.count, hold.lapses_ms)
        for line in self.shown:
            answer.setdefault(line, Held(line, 0, 0))
        return list(answer.values())
