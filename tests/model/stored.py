"""The whole key space as plain values, and what it has to be by the specification's state.

Decided here: how counters are spelt in the store, a second time and independently of the script, so
that a field of any other name, or a key outside the layout, is a difference. Zeros are left out on
both sides where the layout leaves it open whether they are written.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.core.counters import Hold, State
from gateway.store.keys import InstanceKeys
from tests.model.stored_lanes import plain_aside, plain_record, plain_refused, plain_sealed

Dump = dict[str, Any]

_CONSUMED: Final = struct.Struct("<ddd24s")
_COMMANDS: Final = {
    b"hash": "HGETALL",
    b"zset": "ZRANGE",
    b"set": "SMEMBERS",
    b"string": "GET",
    b"stream": "XRANGE",
}
_WHOLE: Final[dict[bytes, tuple[Any, ...]]] = {
    b"zset": (0, -1, "WITHSCORES"),
    b"stream": ("-", "+"),
}
_OF_UPSTREAM: Final = {"sealed": plain_sealed, "aside": plain_aside, "refused": plain_refused}
_READ_AS_ZERO: Final = ("used", "ledger")  # hashes in which 0 and nothing are the same


async def read_store(client: Redis) -> Dump:
    """Read every key, at one moment: nothing else may be at work. Values by kind of key."""
    listed: Any = await client.keys("*")
    keys: list[bytes] = sorted(listed)
    kinds = client.pipeline(transaction=False)
    for key in keys:
        kinds.type(key)
    values = client.pipeline(transaction=False)
    for key, kind in zip(keys, await kinds.execute(), strict=True):
        values.execute_command(_COMMANDS[kind], key, *_WHOLE.get(kind, ()))
    found = await values.execute()
    return {
        key.decode(): _plain(key.decode(), value) for key, value in zip(keys, found, strict=True)
    }


def _plain(key: str, value: Any) -> Any:
    if ":d:" in key or ":e:" in key or key == "gw:clock":
        return value
    if key.endswith(":record"):
        return plain_record(value)
    if isinstance(value, (set, list)) and not (value and isinstance(value, list)):
        return {member.decode() for member in value}
    if isinstance(value, list):  # a sorted set
        pairs = (
            value if isinstance(value[0], (tuple, list)) else zip(*[iter(value)] * 2, strict=True)
        )
        return {member.decode(): int(float(score)) for member, score in pairs}
    fields = {field.decode(): text for field, text in value.items()}
    *_, kind, last = key.split(":")
    if kind in _OF_UPSTREAM:
        return _OF_UPSTREAM[kind](fields)
    if last == "holds":
        return {host: _holds(text) for host, text in fields.items()}
    if last == "undo":
        return {name: _consumptions(text) for name, text in fields.items()}
    if last in ("cat", "meta"):
        return fields
    numbers = {field: int(text) for field, text in fields.items()}
    return without_zeros(key, numbers)


def without_zeros(key: str, numbers: dict[str, int]) -> dict[str, int]:
    """Leave out fields of 0 where that means the same as no field."""
    if key.rpartition(":")[2] in _READ_AS_ZERO:
        return {field: units for field, units in numbers.items() if units}
    if ":days:" in key:  # a peak of 0 and seats held at last of 0 are facts
        return {f: units for f, units in numbers.items() if units or f.endswith(("|p", "|h"))}
    return numbers


def _holds(text: bytes) -> dict[str, tuple[Any, ...]]:
    return {line: tuple(hold) for line, *hold in msgspec.msgpack.decode(text)}


def _consumptions(text: bytes) -> list[tuple[int, int, int, str]]:
    return [
        (int(first), int(last), int(units), label.rstrip(b"\0").decode())
        for first, last, units, label in _CONSUMED.iter_unpack(text)
    ]


def counters_of(keys: InstanceKeys, state: State, ledger: dict[str, int]) -> Dump:
    """Spell a state as the keys of one instance; `ledger` are the sums that no request changes.

    Keys without a field are left out, as the store does.
    """
    open_rows = {
        up: {"|".join(map(str, row if row[2] else row[:2])): units for row, units in rows.items()}
        for up, rows in state.open.items()
    }
    sums = dict(ledger)
    for line, units in state.acked.items():
        sums[f"acked|{line}"] = sums[f"days|{line}"] = units
    sums["seq"], sums["last_ms"] = state.seq, state.last_ms
    dump: Dump = {
        keys.used: {f"{line}|{label}": units for (line, label), units in state.used.items()}
        | {f"elsewhere|{line}|{label}": units for (line, label), units in state.elsewhere.items()},
        keys.holds: {
            host: {line: _hold(hold) for line, hold in held.items()}
            for host, held in state.holds.items()
        },
        keys.undo: {
            f"{line}|{host}": [(e.first_ms, e.last_ms, e.units, e.label) for e in each.entries]
            for (line, host), each in state.undo.items()
        },
        keys.lapse: lapses_of(state),
        keys.seen: dict(state.seen),
        keys.ledger: sums,
        **{keys.open(up): rows for up, rows in open_rows.items()},
        **_months(keys, state),
    }
    dump = {key: without_zeros(key, value) for key, value in dump.items()}
    return {key: value for key, value in dump.items() if value}


def _hold(hold: Hold) -> tuple[Any, ...]:
    kept = (hold.count, hold.lapses_ms, hold.model, hold.since_ms)
    return (*kept, True) if hold.borrowed else kept


def lapses_of(state: State) -> dict[str, int]:
    """Derive the lapse set: hosts by their next lapse, and what is forgotten, and when."""
    lapses = {
        host: min(moments)
        for host, held in state.holds.items()
        if (moments := [hold.lapses_ms for hold in held.values() if hold.lapses_ms])
    }
    for (line, host), each in state.undo.items():
        lapses[f"u|{line}|{host}"] = each.until_ms
    for (line, label), until_ms in state.used_until_ms.items():
        lapses[f"p|{line}|{label}"] = until_ms
    return lapses


def _months(keys: InstanceKeys, state: State) -> Dump:
    months: dict[str, dict[str, int]] = {}
    for (line, day), each in state.days.items():
        fields = months.setdefault(keys.days(day // 100), {})
        prefix = f"{line}|{day}|"
        fields[prefix + "u"], fields[prefix + "b"] = each.units, each.back
        if each.peak is not None and each.held is not None:
            fields[prefix + "p"], fields[prefix + "h"] = each.peak, each.held
        for code, times in each.denials.items():
            fields[f"{prefix}d:{code}"] = times
    return months
