"""What the reads of features find in the store: used units, and the hosts behind them.

Decided here: what is read together, so that it was true at one moment, and how hosts are walked
over with no more of them in memory than a page has. Not decided here: which lines and periods are
looked at (service/features.py), who writes what is read (the Lua files). Source: DESIGN 4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from gateway.core.errors import Unavailable
from gateway.core.model import Held
from gateway.core.numbers import NUMBER_MAX, served_number
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys

STEP_HOSTS: Final = 1_000  # asked for in one step of a walk; a small hash comes whole
STEPS_MAX: Final = 100_000  # of one walk: a hundred million hosts


# An entry of `holds` has the line's model after these members.
_decode_holds: Final = msgspec.msgpack.Decoder(list[Held]).decode
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


@dataclass(frozen=True, slots=True)
class Served:
    """What a host, in canonical form, has of a line; `lapses_ms` 0: it does not lapse."""

    host: str
    units: int
    lapses_ms: int = 0


async def read_standing(client: Redis, keys: InstanceKeys) -> Standing:
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
    client: Redis, keys: InstanceKeys, line: str, *, after: int, most: int, now_ms: int
) -> list[tuple[int, Served]]:
    """Walk over all hosts for those that hold some of a line at `now_ms`.

    Gives the `most` of them with the lowest numbers above `after`, ascending. Hosts that come or go
    during the walk may be missed. Raises Unavailable.
    """

    def held(host: bytes, packed: bytes) -> Served | None:
        for hold in _decode_holds(packed):
            if hold.line == line and (not hold.lapses_ms or hold.lapses_ms > now_ms):
                return Served(host.decode(), hold.count, hold.lapses_ms)
        return None

    return await _walk(client, keys.holds, None, held, line, after, most)


async def read_undoable(
    client: Redis,
    keys: InstanceKeys,
    line: str,
    undo_ms: int,
    *,
    after: int,
    most: int,
    now_ms: int,
) -> list[tuple[int, Served]]:
    """Walk over all hosts for those whose consumption of a line can still be undone at `now_ms`.

    `undo_ms` is the line's undo interval, its last moment included. Otherwise as `read_holders`.
    """
    prefix = f"{line}|"

    def consumed(name: bytes, packed: bytes) -> Served | None:
        units = sum(
            int(units)
            for _, last_ms, units, _ in _CONSUMED.iter_unpack(packed)
            if now_ms <= last_ms + undo_ms
        )
        return Served(name.decode().removeprefix(prefix), units) if units else None

    # An id of a line has none of the characters that mean more than themselves in a pattern.
    return await _walk(client, keys.undo, f"{prefix}*", consumed, line, after, most)


async def read_last_seen(client: Redis, keys: InstanceKeys, hosts: Sequence[str]) -> dict[str, int]:
    """Give when each of these hosts asked last; one that was forgotten meanwhile is left out."""
    if not hosts:
        return {}
    found: Any = await answered(client.zmscore(keys.seen, list(hosts)))
    return {host: int(at_ms) for host, at_ms in zip(hosts, found, strict=True) if at_ms is not None}


async def _walk(
    client: Redis,
    key: str,
    pattern: str | None,
    read: Callable[[bytes, bytes], Served | None],
    line: str,
    after: int,
    most: int,
) -> list[tuple[int, Served]]:
    """Give the `most` lowest of what `read` makes of a hash, by number, ascending."""
    found: dict[str, tuple[int, Served]] = {}  # by host: a walk may come by one twice
    highest = NUMBER_MAX
    cursor = 0
    for _ in range(STEPS_MAX):
        step: Any = client.hscan(key, cursor, match=pattern, count=STEP_HOSTS)
        cursor, fields = await answered(step)
        for each in (read(*field) for field in fields.items()):
            if each is None:
                continue
            number = served_number(line, each.host)
            if after < number <= highest:
                found[each.host] = (number, each)
        # Not cut each time: two pages in memory are as good as one, and sorting has its price.
        if len(found) >= 2 * most or not cursor:
            lowest = sorted(found.values(), key=lambda pair: (pair[0], pair[1].host))[:most]
            if not cursor:
                return lowest
            highest = lowest[-1][0]
            found = {each.host: (number, each) for number, each in lowest}
    raise Unavailable("There are more hosts than can be walked over", "not_applied")
