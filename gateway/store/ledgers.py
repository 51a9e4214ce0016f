"""A ledger read whole: the sums of an instance as they stood at one moment.

Decided here: what is read together in one transaction, so that the equations hold under load, and
how the ledger's fields are spelt. Not decided here: which sums have to agree (service/balance.py)
and who writes them (the Lua files). A deep read holds the store for as long as its rows take: about
a third of a second for a million of them. Source: DESIGN 4 and 5, RELIABILITY 1 (I3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.core.periods import day_number, local_day, zone
from gateway.core.usage import Row
from gateway.store.keys import InstanceKeys

_decode_rows: Final = msgspec.msgpack.Decoder(tuple[Row, ...]).decode


@dataclass(frozen=True, slots=True)
class UpstreamSums:
    """What became of a line's units on the way to one upstream.

    `base` is what was acked before the upstream was attached. `open` may be negative: more was
    undone than used, and waits to be netted.
    """

    base: int = 0
    open: int = 0
    sealed: int = 0
    forwarded: int = 0
    parked: int = 0
    dead: int = 0

    @property
    def accounted(self) -> int:
        """All that is known to be somewhere since the upstream was attached."""
        return self.open + self.sealed + self.forwarded + self.parked + self.dead


@dataclass(frozen=True, slots=True)
class RowSums:
    """The same sums, added up from the rows they stand for; by line, or by (line, upstream)."""

    days: Mapping[str, int]
    open: Mapping[tuple[str, str], int]
    sealed: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums of an instance at one moment; whatever is absent is 0.

    `version` is that of the catalogue in force at that moment (0: there is none). `used` is by
    `<line>|<period label>`. `now_ms` is the moment, never before the last transaction's.
    """

    version: int
    now_ms: int
    since_ms: int
    acked: Mapping[str, int]
    days: Mapping[str, int]
    upstreams: Mapping[tuple[str, str], UpstreamSums]
    used: Mapping[str, int]
    rows: RowSums | None = field(default=None)

    def upstream(self, line: str, name: str) -> UpstreamSums:
        """Give the sums of a line and an upstream."""
        return self.upstreams.get((line, name), _NOTHING)


_NOTHING: Final = UpstreamSums()
_MEMBERS: Final = frozenset(UpstreamSums.__dataclass_fields__)


async def read_ledger(client: Redis, keys: InstanceKeys) -> Ledger:
    """Read an instance's ledger in one transaction; one that does not exist is all zeros.

    Raises what the client raises; a retry is always safe.
    """
    return _ledger(await _read(client, keys, [], []))


async def read_deep(
    client: Redis, keys: InstanceKeys, upstreams: list[str], timezone: str
) -> Ledger:
    """Read a ledger together with the sums of all rows it stands for, in one transaction.

    `upstreams` are the attached ones, `timezone` is the instance's. Raises as `read_ledger`.
    """
    first = await read_ledger(client, keys)
    # Two months ahead: the clock may move between the two reads, and an empty month costs nothing.
    months = _months(first.since_ms or first.now_ms, first.now_ms, timezone)
    replies = await _read(client, keys, upstreams, months)
    return _ledger(replies, _row_sums(upstreams, replies[_HEAD:]))


_HEAD: Final = 4  # replies that every read begins with


async def _read(
    client: Redis, keys: InstanceKeys, upstreams: list[str], months: list[int]
) -> list[Any]:
    pipeline = client.pipeline(transaction=True)
    pipeline.time()
    pipeline.hget(keys.cat, "version")
    pipeline.hgetall(keys.ledger)
    pipeline.hgetall(keys.used)
    for name in upstreams:
        pipeline.hgetall(keys.open(name))
        pipeline.hget(keys.sealed(name), "rows")
    for month in months:
        pipeline.hgetall(keys.days(month))
    replies: list[Any] = await pipeline.execute()
    return replies


def _ledger(replies: list[Any], rows: RowSums | None = None) -> Ledger:
    (seconds, micros), version, found, used = replies[:_HEAD]
    fields = {name.decode(): int(units) for name, units in found.items()}
    lines: dict[str, dict[str, int]] = {"acked": {}, "days": {}}
    upstreams: dict[tuple[str, str], dict[str, int]] = {}
    for name, units in fields.items():
        kind, *rest = name.split("|")
        if len(rest) == 1 and kind in lines:
            lines[kind][rest[0]] = units
        elif len(rest) == 2 and kind in _MEMBERS:
            upstreams.setdefault((rest[0], rest[1]), {})[kind] = units
    return Ledger(
        version=int(version or 0),
        now_ms=max(seconds * 1000 + micros // 1000, fields.get("last_ms", 0)),
        since_ms=fields.get("since_ms", 0),
        acked=lines["acked"],
        days=lines["days"],
        upstreams={pair: UpstreamSums(**sums) for pair, sums in upstreams.items()},
        used={name.decode(): int(units) for name, units in used.items()},
        rows=rows,
    )


def _row_sums(upstreams: list[str], replies: list[Any]) -> RowSums:
    opened: Counter[tuple[str, str]] = Counter()
    sealed: Counter[tuple[str, str]] = Counter()
    days: Counter[str] = Counter()
    for at, name in enumerate(upstreams):
        for row, units in replies[2 * at].items():
            opened[row.decode().split("|", 1)[0], name] += int(units)
        for each in _decode_rows(replies[2 * at + 1] or b"\x90"):  # an empty array
            sealed[each.line, name] += each.units
    for month in replies[2 * len(upstreams) :]:
        for entry, units in month.items():
            line, _, kind = entry.decode().split("|", 2)
            if kind == "u":
                days[line] += int(units)
    return RowSums(days, opened, sealed)


def _months(from_ms: int, to_ms: int, timezone: str) -> list[int]:
    """List the months (yyyymm) from one moment's local day to two after another's."""
    tz = zone(timezone)
    first, last = (day_number(local_day(at_ms, tz)) // 100 for at_ms in (from_ms, to_ms))
    numbers = range(first // 100 * 12 + first % 100 - 1, last // 100 * 12 + last % 100 + 2)
    return [number // 12 * 100 + number % 12 + 1 for number in numbers]
