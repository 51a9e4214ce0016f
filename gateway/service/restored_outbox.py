"""What becomes of usage that waited to go upstream when a backup was made.

Decided here: that it is set aside, because it may have gone since: each batch under way under its
id, what was open or refused as batches of one line each, so that a person can hold each against the
upstream's totals. The ledger moves with them. Not decided here: how a person decides (asides.py).
Pure. Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.backups import PARKED_PREFIX
from gateway.core.ports import Standing
from gateway.core.usage import BATCH_ROWS_MAX, Row
from gateway.store.rows import decode_rows, row_of

BATCHES_MAX: Final = 500  # of one upstream: half of what may be set aside

_encode: Final = msgspec.msgpack.Encoder().encode
_Fields = dict[bytes, bytes]


def park(
    outbox: Mapping[str, _Fields], ledger: dict[str, int], upstream: str, why: str, at_ms: int,
    epoch: int,
) -> dict[str, _Fields]:  # fmt: skip
    """Give an upstream's parts with all that waited set aside, and move the ledger's sums.

    `outbox` is by part: open, sealed, blocked, refused, aside. `why` ends in when the backup was
    made. Ids of new batches come of `epoch`, which is another for each restore.
    """
    aside = dict(outbox.get("aside", {}))
    sealed = outbox.get("sealed", {})
    for suffix in _batches(sealed):
        first_ms = int(sealed.get(b"first_sent_ms", 0)) if not suffix else 0
        attempts = int(sealed.get(b"attempts", 0)) if not suffix else 0
        packed = sealed[b"rows" + suffix]
        facts = (Standing.PARKED, f"it was under way: {why}", at_ms, first_ms, attempts)
        _set_aside(aside, sealed[b"id" + suffix], facts, packed, sealed[b"body" + suffix])
        _move(ledger, upstream, "sealed", decode_rows(packed))
    opened = [row_of(*each) for each in outbox.get("open", {}).items()]
    _move(ledger, upstream, "open", opened)
    blocked = [row_of(*each) for each in outbox.get("blocked", {}).items()]
    number = 0
    for word, rows in (("it waited", opened), ("it was refused", blocked)):
        for some in _portions(rows):
            number += 1
            batch_id = f"{PARKED_PREFIX}{epoch:x}-{upstream[:16]}-{number}".encode()
            facts = (Standing.PARKED, f"{word}: {why}", at_ms, 0, 0)
            _set_aside(aside, batch_id, facts, _encode(some), b"")
    return {"aside": aside}


def _batches(sealed: _Fields) -> Iterator[bytes]:
    """Give what follows the names of the batch under way, and of the halves behind it."""
    if b"id" in sealed:
        yield b""
    for number in range(1, int(sealed.get(b"halves", 0)) + 1):
        yield b".%d" % number


def _set_aside(
    aside: _Fields, batch_id: bytes, facts: tuple[object, ...], rows: bytes, body: bytes
) -> None:
    aside[batch_id + b"|facts"] = _encode(facts)
    aside[batch_id + b"|rows"] = rows
    aside[batch_id + b"|body"] = body


def _move(ledger: dict[str, int], upstream: str, place: str, rows: Sequence[Row]) -> None:
    for row in rows:
        tail = f"|{row.line}|{upstream}"
        ledger[place + tail] = ledger.get(place + tail, 0) - row.units
        ledger["parked" + tail] = ledger.get("parked" + tail, 0) + row.units


def _portions(rows: list[Row]) -> Iterator[list[Row]]:
    """Cut rows into batches, of one line each unless that would be too many of them."""
    rows = sorted(rows)
    if len({row.line for row in rows}) > BATCHES_MAX:
        groups = [rows]
    else:
        by_line: dict[str, list[Row]] = {}
        for row in rows:
            by_line.setdefault(row.line, []).append(row)
        groups = list(by_line.values())
    for group in groups:
        for start in range(0, len(group), BATCH_ROWS_MAX):
            yield group[start : start + BATCH_ROWS_MAX]
