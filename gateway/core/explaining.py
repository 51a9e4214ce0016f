"""Which lines a request looks at, with their counters before it: why it came to what it came to.

Decided here: the filters of candidates, and that what is kept of a request are the facts it was
decided over. Not decided here: how long that is kept (the script is told), and how it is told to
people (protocols/cmapi_explain.py). With ledger.py this is the executable specification of the
script. Pure. Source: SEMANTICS 3, INTERFACE 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.core.calls import (
    SEEN_ROWS_MAX,
    Ask,
    Context,
    Row,
    SeenRow,
    SeenTable,
    SharedRow,
    Table,
    Why,
)
from gateway.core.counters import METERED, State, label_of
from gateway.core.model import Code, Held, Outcome

Filter = tuple[Code, Callable[[Row], bool]]


def filters(place: int, now_ms: int) -> tuple[Filter, ...]:
    """Give the filters of candidates for the want at `place` (from 1), in their order, each with
    the code that is told when it leaves none. Source: SEMANTICS 3.
    """
    return (
        (Code.FEATURE_NOT_FOUND, lambda row: not row.retired),
        (Code.VERSION_TOO_HIGH, lambda row: 0 < row.fit <= place),
        (Code.LICENSE_NOT_YET_VALID, lambda row: row.starts_ms <= now_ms),
        (Code.LICENSE_LAPSED, lambda row: not row.expires_ms or now_ms < row.expires_ms),
        (Code.DENIED_BY_POLICY, lambda row: row.selected),
    )


def excluded(row: Row, place: int, now_ms: int) -> Code | None:
    """Say which filter a line fell to for the want at `place`; None: it was a candidate."""
    for code, keep in filters(place, now_ms):
        if not keep(row):
            return code
    return None


def explain(
    state: State, context: Context, tables: list[Table], ask: Ask, now_ms: int
) -> Callable[[Outcome], Why]:
    """Look at what an ask looks at, as it stands; give what makes of its outcome all that is kept.

    Of the lines SEEN_ROWS_MAX are kept, in the ask's order.
    """
    seen: list[SeenTable] = []
    left = SEEN_ROWS_MAX
    for (at, wants), versions in zip(ask.wants, ask.versions, strict=True):
        table = tables[at]
        undoes = table.model == METERED and bool(wants) and wants[0][0] < 0
        rows = [
            _seen(state, context, ask.host, row, version, undoes, now_ms)
            for row, version in zip(table.rows[:left], versions, strict=False)
        ]
        left -= len(rows)
        seen.append(SeenTable(table.model, rows, len(table.rows) - len(rows), wants))
    held = state.holds.get(ask.host, {})
    had = [Held(line, hold.count, hold.lapses_ms) for line, hold in sorted(held.items())]
    return lambda outcome: Why(
        context.instance, context.version, ask.flags, ask.host, ask.echo, seen, had, outcome
    )


def _seen(
    state: State, context: Context, host: str, row: Row, version: str, undoes: bool, now_ms: int
) -> SeenRow:
    label, _ = label_of(context, row.period, now_ms)
    undoable = state.undo.get((row.id, host)) if undoes and row.undo_ms else None
    units = sum(
        entry.units
        for entry in (undoable.entries if undoable else ())
        if now_ms <= entry.last_ms + row.undo_ms
    )
    of_row = msgspec.structs.astuple(row)[: len(Row.__struct_fields__)]
    elsewhere = state.elsewhere.get((row.id, label), 0) if isinstance(row, SharedRow) else 0
    facts = (*of_row, state.used.get((row.id, label), 0), units, version, elsewhere)
    return msgspec.convert(facts, SeenRow)
