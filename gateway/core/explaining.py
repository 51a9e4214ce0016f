"""Which lines a request looks at, with their counters before it: why it came to what it came to.

Decided here: the filters of candidates, and that what is kept of a request are the facts it was
decided over. Not decided here: how long that is kept (the script is told), and how it is told to
people (protocols/cmapi_explain.py). With ledger.py this is the executable specification of the
script. Pure. Source: SEMANTICS 3, INTERFACE 2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.core.calls import Ask, Context, Row, SeenRow, SeenTable, Table, Why
from gateway.core.counters import Hold, State, label_of
from gateway.core.model import Code, Outcome

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


def seen_by(
    state: State, context: Context, tables: list[Table], ask: Ask, now_ms: int
) -> list[SeenTable]:
    """Give the lines that an ask looks at with their counters as they stand; a specification."""
    held: Mapping[str, Hold] = state.holds.get(ask.host, {})

    def seen(row: Row) -> SeenRow:
        label, _ = label_of(context, row.period, now_ms)
        used, hold = state.used.get((row.id, label), 0), held.get(row.id)
        counters = (used, hold.count if hold else 0)
        return msgspec.convert((*msgspec.structs.astuple(row), *counters), SeenRow)

    return [
        SeenTable(tables[at].model, [seen(row) for row in tables[at].rows], wants)
        for at, wants in ask.wants
    ]


def why(context: Context, ask: Ask, seen: list[SeenTable], outcome: Outcome) -> Why:
    """Put together what is kept of an ask that was decided over `seen`."""
    return Why(context.instance, context.version, ask.flags, ask.host, ask.echo, seen, outcome)
