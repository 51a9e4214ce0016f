"""What a request does to the counters: the executable specification of store/lua/apply.lua.

Decided here: grants, returns, undo, and what a repeat is told, for one request at a time, in the
plainest words. Not decided here: how the script batches and bounds the same work. The model test
draws requests and holds the script to this page after every step. Source: SEMANTICS 4 to 7, 9, 11.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from gateway.core.calls import (
    DROP,
    INCREMENTAL,
    LATER,
    PARTIAL,
    PREVIEW,
    SET,
    TELL,
    Ask,
    Context,
    Reply,
    Row,
    SharedRow,
    Table,
    Verdict,
)
from gateway.core.counters import (
    Consumed,
    Day,
    Hold,
    State,
    Undoable,
    change_held,
    day_of,
    due,
    keep_until,
    label_of,
    reaches,
    record_usage,
    sweep,
)
from gateway.core.explaining import explain
from gateway.core.intervals import lapse_at_ms
from gateway.core.model import Grant, Held, Offer, Outcome, Preview, Told
from gateway.core.trial import Trial, candidates

UNDO_BUCKETS = 1024  # consumption is remembered to this fraction of the undo interval

_NO_HOLD = Hold(0, 0, 0, 0)
_NONE: dict[tuple[str, str], int] = {}


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
    if ask.catalogue and not outcome.shortfalls:
        state.version, state.catalogue = state.version + 1, ask.catalogue
    state.outcomes[ask.id] = (ask.fingerprint, outcome, ask.echo, clock_ms + ask.ttl_ms)
    return state, Reply(Verdict.DONE, outcome=outcome)


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


class _Request(Trial):
    """A trial as a whole: written if it goes through, answered in any case."""

    def run(self) -> Outcome:
        if not self.ask.flags & INCREMENTAL:
            for line, hold in self.held.items():
                self.used[line] = -hold.count
            self.held = {}
        for index, wants in self.ask.wants:
            table = self.tables[index]
            for place, (units, want) in enumerate(wants, 1):
                self.serve(table, place, units, want)
        partial = self.ask.flags & PARTIAL and not self.ask.catalogue
        if self.shortfalls and not partial:
            self.grants, self.shown = {}, []
            self.held = self.had
        else:
            self.renew()
            self.write()
        for line, code in self.denials:
            key = (line, day_of(self.context, self.now_ms))
            denials = self.state.days.setdefault(key, Day()).denials
            denials[code] = denials.get(code, 0) + 1
        grants = [Grant(line, units) for line, units in self.grants.items()]
        told = self.tell() if self.ask.flags & TELL else []
        return Outcome(self.now_ms, self.shortfalls, grants, self.answer_held(), told)

    def renew(self) -> None:
        for table in self.renewed:
            for row in table.rows:
                if row.id in self.held and not row.retired:
                    self.held[row.id] = self.renewal(row)

    def renewal(self, row: Row) -> Hold:
        hold, had = self.held[row.id], self.had.get(row.id)
        interval_ms, expires_ms = row.interval_ms or None, row.expires_ms or None
        lapses_ms = lapse_at_ms(self.now_ms, interval_ms, expires_ms) or 0
        borrowed = bool(self.ask.flags & SET)
        if self.ask.flags & LATER:
            borrowed = False
            if had and had.lapses_ms and lapses_ms:
                lapses_ms = max(lapses_ms, had.lapses_ms)
            elif had:
                lapses_ms = 0
            if had and lapses_ms == had.lapses_ms:
                borrowed = had.borrowed
        return replace(hold, lapses_ms=lapses_ms, borrowed=borrowed)

    def write(self) -> None:
        host = self.ask.host
        for line in sorted(self.had.keys() | self.held.keys()):
            old, new = self.had.get(line), self.held.get(line)
            delta = (new.count if new else 0) - (old.count if old else 0)
            if delta:
                model = (new or old or _NO_HOLD).model
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
            # A period may be forgotten that the line, with a longer undo interval, still knows of.
            if (row.id, entry.label) in self.state.used:
                self.state.used[row.id, entry.label] -= units
            entry.units -= units
            record_usage(self.state, self.context, host, row.id, -units, self.now_ms, units)
        for row, _, _ in self.undone:
            undoable = self.state.undo.get((row.id, host))
            if undoable:
                undoable.entries = [entry for entry in undoable.entries if entry.units]
                if not undoable.entries:
                    del self.state.undo[row.id, host]
        for row, units in self.restocked:
            self.move_used(row, -units)
            record_usage(self.state, self.context, host, row.id, -units, self.now_ms, units)

    def move_used(self, row: Row, units: int) -> str:
        """Move `used` of the present period; gives its label."""
        label, end_ms = label_of(self.context, row.period, self.now_ms)
        period = (row.id, label)
        keep_until(self.state, period, end_ms and end_ms + row.undo_ms + 1)
        self.state.used[period] = self.state.used.get(period, 0) + units
        return label

    def consume(self, row: Row, units: int) -> None:
        label = self.move_used(row, units)
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

    def tell(self) -> list[Told]:
        told = []
        for index, _ in self.ask.wants:
            for row in self.tables[index].rows:
                period = (row.id, label_of(self.context, row.period, self.now_ms)[0])
                elsewhere = self.state.elsewhere if isinstance(row, SharedRow) else _NONE
                told.append(Told(row.id, self.state.used.get(period, 0), elsewhere.get(period, 0)))
        return told

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
