"""What the reads of features find in the store: used units, and the hosts behind them.

Decided here: what is read together, so that it was true at one moment, and how hosts are walked
over with no more of them in memory than a page has, in steps that hold neither the store nor the
loop for more than some milliseconds. Not decided here: which lines and periods are looked at and
how many walk at once (service/features.py), who writes what is read (the Lua files).
Source: DESIGN 4.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from operator import itemgetter
from typing import Any, Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.model import Holding
from gateway.core.numbers import served_number
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client
from gateway.store.walks import steps

STEP_HOSTS: Final = 250  # asked for in one step of a walk, about 1 ms; a small hash comes whole
PART_HOSTS: Final = 1_000  # whose last requests are asked for at once

_decode_holds: Final = msgspec.msgpack.Decoder(list[Holding]).decode
# first_ms, last_ms, units, label: as store/lua/counters.lua packs a consumption
_CONSUMED: Final = struct.Struct("<ddd24s")


@dataclass(frozen=True, slots=True)
class Standing:
    """The used units of an instance as they were at `at_ms`, the moment of its last transaction.

    `version` is that of the catalogue then (0: there is none). `settled`: nothing that had lapsed
    by then is still counted. `since_ms` is when the instance was first provisioned.
    """

    version: int
    at_ms: int
    since_ms: int
    settled: bool
    _used: Mapping[bytes, bytes]

    def used(self, line: str, period: str) -> int:
        """Give the used units of a line in a period."""
        return int(self._used.get(f"{line}|{period}".encode(), 0))

    def elsewhere(self, line: str, period: str) -> int:
        """Give what other servers consumed of a line in a period: it is not available here."""
        return int(self._used.get(f"elsewhere|{line}|{period}".encode(), 0))


@dataclass(frozen=True, slots=True)
class Served:
    """What a host, in canonical form, has of a line. `last_ms`: when it last consumed of it, or for
    what is held the moment of the read. `holding`: what is held, as it is kept.
    """

    host: str
    units: int
    last_ms: int
    holding: Holding | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a walk gives and when it ends: the `most` hosts with the lowest numbers above `after`,
    as they stand at `now_ms`, not after `until_s` of the loop's clock.
    """

    after: int
    most: int
    now_ms: int
    until_s: float


async def read_standing(client: Client, keys: InstanceKeys) -> Standing:
    """Read how an instance stands, in one transaction. Raises Unavailable; a retry is safe."""
    pipeline = client.pipeline(transaction=True)
    pipeline.hget(keys.cat, "version")
    pipeline.hmget(keys.ledger, ["last_ms", "since_ms"])
    pipeline.zrange(keys.lapse, 0, 0, withscores=True)
    pipeline.hgetall(keys.used)
    version, (last_ms, since_ms), lapses, used = await answered(pipeline.execute())
    at_ms = int(last_ms or 0)
    settled = not lapses or lapses[0][1] > at_ms
    return Standing(int(version or 0), at_ms, int(since_ms or 0), settled, used)


async def read_holders(
    client: Client, keys: InstanceKeys, line: str, bounds: Bounds
) -> list[tuple[int, Served]]:
    """Walk over all hosts for those that hold some of a line; give them by number, ascending.

    Hosts that come or go during the walk may be missed. Raises Unavailable, also when it takes too
    long.
    """
    now_ms = bounds.now_ms

    def held(host: bytes, packed: bytes) -> Served | None:
        for hold in _decode_holds(packed):
            if hold.line == line and (not hold.lapses_ms or hold.lapses_ms > now_ms):
                return Served(host.decode(), hold.count, now_ms, hold)
        return None

    return await _walk(client, keys.holds, None, held, line, bounds)


async def read_undoable(
    client: Client, keys: InstanceKeys, line: str, undo_ms: int, bounds: Bounds
) -> list[tuple[int, Served]]:
    """Walk over all hosts for those whose consumption of a line can still be undone.

    `undo_ms` is the line's undo interval, its last moment included. Otherwise as `read_holders`.
    """
    now_ms = bounds.now_ms
    prefix = f"{line}|"

    def consumed(name: bytes, packed: bytes) -> Served | None:
        entries = [
            (int(last_ms), int(units))
            for _, last_ms, units, _ in _CONSUMED.iter_unpack(packed)
            if now_ms <= last_ms + undo_ms
        ]
        units = sum(units for _, units in entries)
        if not units:
            return None
        return Served(name.decode().removeprefix(prefix), units, max(entries)[0])

    # An id of a line has none of the characters that mean more than themselves in a pattern.
    return await _walk(client, keys.undo, f"{prefix}*", consumed, line, bounds)


async def read_last_seen(
    client: Client, keys: InstanceKeys, hosts: Sequence[str]
) -> dict[str, int]:
    """Give when each of these hosts asked last; one that was forgotten meanwhile is left out."""
    found: dict[str, int] = {}
    for start in range(0, len(hosts), PART_HOSTS):
        part = list(hosts[start : start + PART_HOSTS])
        scores: Any = await answered(client.zmscore(keys.seen, part))
        found |= {host: int(ms) for host, ms in zip(part, scores, strict=True) if ms is not None}
    return found


async def _walk(
    client: Client,
    key: str,
    pattern: str | None,
    read: Callable[[bytes, bytes], Served | None],
    line: str,
    bounds: Bounds,
) -> list[tuple[int, Served]]:
    """Give the lowest of what `read` makes of a hash, by number, ascending."""
    loop = asyncio.get_running_loop()
    found: dict[str, Served] = {}  # by host: a walk may come by one twice
    numbers: list[tuple[int, str]] = []  # a heap of the same hosts, negative: its first is to go
    async for fields in steps(client, key, match=pattern, count=STEP_HOSTS):
        # Between steps, not by cancelling: the client of the store may swallow that.
        if loop.time() >= bounds.until_s:
            raise Unavailable("The hosts take too long to walk over", "not_applied")
        for each in (read(*entry) for entry in fields.items()):
            if each is None or each.host in found:
                continue
            number = served_number(line, each.host)
            if number <= bounds.after:
                continue
            if len(found) < bounds.most:
                heappush(numbers, (-number, each.host))
            elif number < -numbers[0][0]:
                del found[heapreplace(numbers, (-number, each.host))[1]]
            else:
                continue
            found[each.host] = each
        await asyncio.sleep(0)
    numbers.sort(key=itemgetter(0), reverse=True)
    return [(-negative, found[host]) for negative, host in numbers]
