"""What the wants of a request may have: the specification of apply.lua's rules.

Decided here: which lines may serve, what is granted, held, returned, undone or short; counters move
on trial and nothing is recorded. Not decided here: what becomes of a request as a whole, and how it
is written (ledger.py). Source: SEMANTICS 3, 4 and 6; what floating clients ask for beyond that, the
flags in calls.py.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from gateway.core.calls import RESTOCK, SET, Ask, Context, Row, SharedRow, Table
from gateway.core.counters import METERED, Consumed, Hold, State, label_of
from gateway.core.explaining import filters
from gateway.core.model import UNITS_MAX, Code, Offer, Shortfall


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


class Trial:
    """One request in the making. `had` is what the host held before, `held` what it would after."""

    def __init__(
        self, state: State, context: Context, tables: list[Table], ask: Ask, now_ms: int
    ) -> None:
        self.state, self.context, self.tables, self.ask = state, context, tables, ask
        self.now_ms = now_ms
        self.had = copy.deepcopy(state.holds.get(ask.host, {}))
        self.held = dict(self.had)
        self.used: dict[str, int] = {}  # by line: change of used so far
        self.grants: dict[str, int] = {}
        self.undone: list[tuple[Row, Consumed, int]] = []
        self.restocked: list[tuple[Row, int]] = []
        self.shown: list[str] = []  # lines shown although nothing of their feature is held now
        self.renewed: list[Table] = []
        self.shortfalls: list[Shortfall] = []
        self.denials: list[tuple[str, str]] = []
        self.offers: list[Offer] = []

    def room(self, row: Row) -> int:
        """Units of a line that are free now, what this request moved so far included."""
        label, _ = label_of(self.context, row.period, self.now_ms)
        moved, most = self.used.get(row.id, 0), row.capacity
        if isinstance(row, SharedRow):
            # What came back elsewhere is free here too, but used itself never passes UNITS_MAX.
            most = min(most - self.state.elsewhere.get((row.id, label), 0), UNITS_MAX)
        room = most - (self.state.used.get((row.id, label), 0) + moved)
        if row.period:  # used starts again with each period, a line's life does not
            room = min(room, UNITS_MAX - (self.state.acked.get(row.id, 0) + moved))
        return min(room, UNITS_MAX)

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

    def serve(self, table: Table, place: int, units: int, want: int) -> None:
        """Do what one want says; `units` below 0 are a return."""
        if table.model != METERED and self.ask.flags & SET:
            self.hold(table, place, units, want)
        elif units > 0:
            self.take(table, place, units, want)
        elif units == 0:
            self.look(table, place, want)
        elif table.model != METERED:
            self.give_back(table, place, -units, want)
        elif self.ask.flags & RESTOCK:
            self.restock(table, place, -units, want)
        else:
            self.undo(table, place, -units, want)

    def take(self, table: Table, place: int, units: int, want: int, have: int = 0) -> None:
        """Grant what is missing of `units` to a host that has some already."""
        rows, code = candidates(table, place, self.now_ms)
        left = units - have
        for row in rows:
            taken = min(left, max(0, self.room(row)))
            if taken == 0:
                continue
            left -= taken
            self.used[row.id] = self.used.get(row.id, 0) + taken
            if table.model == METERED:
                self.grants[row.id] = self.grants.get(row.id, 0) + taken
            else:
                hold, had = self.held.get(row.id), self.had.get(row.id)
                since_ms = had.since_ms if had else self.now_ms
                count = (hold.count if hold else 0) + taken
                self.held[row.id] = Hold(count, 0, table.model, since_ms)
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
            self.held[row.id] = replace(hold, count=hold.count - back)
            if hold.count == back:
                del self.held[row.id]
        if not any(row.id in self.held for row in table.rows) and total:
            self.shown.append(pool[-1].id)

    def hold(self, table: Table, place: int, units: int, want: int) -> None:
        """Bring what the host holds of the table's line to `units`, and renew it; below 0: see that
        it holds so many.
        """
        (row,) = table.rows
        have = self.held[row.id].count if row.id in self.held else 0
        rows, code = candidates(table, place, self.now_ms)
        if units < 0:
            if have < -units:
                self.short(want, str(Code.NOT_HELD), -units, have, table, place)
        elif units > 0 and not rows:
            self.short(want, code, units, 0, table, place)
        elif units > have:
            self.take(table, place, units, want, have)
        elif units < have:
            self.used[row.id] = self.used.get(row.id, 0) - (have - units)
            self.held[row.id] = replace(self.held[row.id], count=units)
        if units == 0:
            self.held.pop(row.id, None)
            self.shown.append(row.id)
        elif units > 0 and rows and row.id in self.held:
            self.renewed.append(table)

    def restock(self, table: Table, place: int, units: int, want: int) -> None:
        """Return units of the table's line, consumed by whomever: used may go below 0."""
        (row,) = table.rows
        rows, code = candidates(table, place, self.now_ms)
        label, _ = label_of(self.context, row.period, self.now_ms)
        moved = self.used.get(row.id, 0)
        lowest = min(self.state.used.get((row.id, label), 0), self.state.acked.get(row.id, 0))
        most = max(0, UNITS_MAX + (lowest + moved)) if rows else 0
        if most < units:
            self.short(want, code or str(Code.RETURN_TOO_LARGE), -units, most, table, place)
        if back := min(units, most):
            self.used[row.id] = moved - back
            self.restocked.append((row, back))
            self.grants[row.id] = self.grants.get(row.id, 0) - back

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
