"""What holds in the store after every step, whatever was asked: RELIABILITY 1, read from the keys.

These are checked on what the store holds, not on the specification's state: were both wrong in the
same way, the laws would still tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from gateway.core.catalogue import is_shared
from gateway.core.counters import label_of
from gateway.core.model import UNITS_MAX, Line
from gateway.core.usage import Row
from tests.model.stored import Dump
from tests.model.twins import Twin

PLACES: Final = ("base", "forwarded", "dead", "parked", "open", "sealed")


def check_laws(twin: Twin, before: Dump, after: Dump, now_ms: int) -> None:
    """Check I3 and I4, and that only what may come back without a window is below 0; `before` is
    the store one step earlier.
    """
    used, ledger = after.get(twin.keys.used, {}), after.get(twin.keys.ledger, {})
    used_before = before.get(twin.keys.used, {})
    may_be_negative = {
        line.id for line in twin.index.catalogue.lines if line.allow_negative_consumptions
    } | {"elsewhere"}
    assert all(
        units >= 0 for name, units in used.items() if name.split("|")[0] not in may_be_negative
    )
    held: Counter[str] = Counter()
    for holds in after.get(twin.keys.holds, {}).values():
        assert holds
        for line, (count, *_) in holds.items():
            assert count > 0
            held[line] += count
    for line in twin.index.catalogue.lines:
        _check_capacity(twin, line, used_before, used, now_ms)
        if line.model.reusable:
            assert used.get(f"{line.id}|0", 0) == held[line.id]
        if line.model.metered:
            _check_ledger(twin, line.id, ledger, after)


def _check_capacity(
    twin: Twin, line: Line, before: dict[str, int], after: dict[str, int], now_ms: int
) -> None:
    """I4: never over what others leave of a capacity; where that is below used, nothing more is
    granted. Of requests together some may come before a change of the capacity by one of them.
    """
    context = twin.context(now_ms, now_ms)
    rule = twin.index.rules.index((line.reset, line.reset_timezone, line.reset_epoch))
    name = f"{line.id}|{label_of(context, rule, now_ms)[0]}"
    indexes = (*twin.former, twin.index)
    capacity = max(each.line[line.id].capacity for each in indexes if line.id in each.line)
    if is_shared(line):
        capacity = min(capacity - after.get(f"elsewhere|{name}", 0), UNITS_MAX)
    assert after.get(name, 0) <= max(capacity, before.get(name, 0))


def _check_ledger(twin: Twin, line: str, ledger: dict[str, int], after: Dump) -> None:
    """I3: acked is the sum of its days, and per upstream all of it is somewhere, in rows too."""
    acked = ledger.get(f"acked|{line}", 0)
    in_days = sum(
        units
        for key, fields in after.items()
        if key.startswith(f"{twin.keys.prefix}days:")
        for field, units in fields.items()
        if field.startswith(f"{line}|") and field.endswith("|u")
    )
    assert acked == in_days == ledger.get(f"days|{line}", 0)
    for up in twin.lanes:
        sums = {place: ledger.get(f"{place}|{line}|{up}", 0) for place in PLACES}
        waiting = _waiting(twin, line, up, after)
        assert waiting == {place: sums[place] for place in waiting}
        if up in twin.attached:
            assert acked == sum(sums.values())


def _waiting(twin: Twin, line: str, up: str, after: Dump) -> dict[str, int]:
    """Add up the rows of a line: what the ledger says of them has to be the same."""
    keys = twin.keys
    sealed = after.get(keys.sealed(up))
    batches = [sealed, *sealed["halves"]] if sealed else []
    aside = after.get(keys.aside(up), {})
    parked = [
        aside[name.replace("|facts", "|rows")]
        for name, facts in aside.items()
        if name.endswith("|facts") and facts[0] == "parked"
    ]
    return {
        "open": _in_fields(line, after.get(keys.open(up), {})),
        "sealed": sum(_in_rows(line, batch["rows"]) for batch in batches),
        "parked": _in_fields(line, after.get(keys.blocked(up), {}))
        + sum(_in_rows(line, rows) for rows in parked),
    }


def _in_fields(line: str, rows: dict[str, int]) -> int:
    return sum(units for row, units in rows.items() if row.split("|")[0] == line)


def _in_rows(line: str, rows: Iterable[Row]) -> int:
    return sum(row.units for row in rows if row.line == line)
