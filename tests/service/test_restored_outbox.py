"""What waited when a backup was made is set aside to the last unit, and the ledger with it."""

from __future__ import annotations

import msgspec

from gateway.core.usage import Row
from gateway.service import restored_outbox
from gateway.service.restored_outbox import park

WHY = "the backup of today was restored; it may have gone since"
_pack = msgspec.msgpack.Encoder().encode


def row(line: str, units: int, hour: int = 1) -> Row:
    return Row(line, hour, "", units)


def facts(aside: dict[bytes, bytes], batch_id: bytes) -> list[object]:
    return msgspec.msgpack.decode(aside[batch_id + b"|facts"], type=list[object])


def test_open_under_way_halves_and_refused_all_go_aside() -> None:
    outbox = {
        "open": {b"L1|1": b"10", b"L1|2|STRING:a|b": b"-3", b"L2|1": b"5"},
        "sealed": {
            b"id": b"b1", b"rows": _pack([row("L1", 4)]), b"body": b"one", b"attempts": b"2",
            b"first_sent_ms": b"99", b"halves": b"1",
            b"id.1": b"b2", b"rows.1": _pack([row("L2", 6)]), b"body.1": b"two",
        },
        "blocked": {b"L1|7": b"8"},
        "refused": {b"L1|": b"{}"},
        "aside": {b"old|facts": b"f", b"old|rows": b"r", b"old|body": b"b"},
    }  # fmt: skip
    ledger = {
        "open|L1|up": 7, "sealed|L1|up": 4, "parked|L1|up": 8 + 1,
        "open|L2|up": 5, "sealed|L2|up": 6, "acked|L1": 100,
    }  # fmt: skip
    parts = park(outbox, ledger, "up", WHY, at_ms=55, epoch=0x1F)
    assert list(parts) == ["aside"]
    aside = parts["aside"]
    assert ledger == {
        "open|L1|up": 0, "sealed|L1|up": 0, "parked|L1|up": 20,
        "open|L2|up": 0, "sealed|L2|up": 0, "parked|L2|up": 11, "acked|L1": 100,
    }  # fmt: skip
    assert facts(aside, b"b1") == ["parked", f"it was under way: {WHY}", 55, 99, 2]
    assert facts(aside, b"b2") == ["parked", f"it was under way: {WHY}", 55, 0, 0]
    assert (aside[b"b1|body"], aside[b"b2|body"], aside[b"old|facts"]) == (b"one", b"two", b"f")
    made = sorted(name for name in aside if name.startswith(b"restored-1f-up-"))
    assert len(made) == 9  # a batch a line of what was open, one of what was refused
    rows = [
        tuple(each)
        for name in made
        if name.endswith(b"|rows")
        for each in msgspec.msgpack.decode(aside[name])
    ]
    assert rows == [
        ("L1", 1, "", 10), ("L1", 2, "STRING:a|b", -3), ("L2", 1, "", 5), ("L1", 7, "", 8),
    ]  # fmt: skip


def test_many_lines_share_batches_so_that_there_is_room_for_them() -> None:
    opened = {b"L%d|1" % n: b"1" for n in range(5_000)}
    aside = park({"open": opened}, {}, "up", WHY, 0, 1)["aside"]
    batches = [name for name in aside if name.endswith(b"|rows")]
    assert len(batches) == 3
    assert len(batches) < restored_outbox.BATCHES_MAX
    assert sum(len(msgspec.msgpack.decode(aside[name])) for name in batches) == 5_000
