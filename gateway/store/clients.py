"""The hosts of an instance, by their last request: read page by page, found by their number.

Decided here: the order (last request, then host, as the store sorts them), so that who asks
meanwhile moves to the end and nobody is missed; and that nothing holds the store for long. Not
decided here: what a client is and who may see it (service/clients.py). Nothing is changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.errors import Unavailable
from gateway.core.model import Held, Holding
from gateway.core.numbers import client_number
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.reads import read_last_seen
from gateway.store.topology import Client
from gateway.store.walks import Members, members, steps

PART_HOSTS: Final = 1_000  # asked for at once: about a millisecond of the store's time
PARTS_MAX: Final = 100_000  # of one walk

STEP_HOSTS: Final = 250  # asked for in one step of a walk over what is held, about 1 ms

# An entry of `holds` has the line's model after these members.
_decode_held: Final = msgspec.msgpack.Decoder(list[Held]).decode
_decode_holdings: Final = msgspec.msgpack.Decoder(list[Holding]).decode


class Asked(msgspec.Struct, frozen=True, order=True):
    """A host, in canonical form, and its last request."""

    at_ms: int
    host: str

    @property
    def number(self) -> int:
        return client_number(self.host)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Reads what the store knows of hosts. What is read is as of the moment of each part."""

    client: Client
    partitions: int

    async def page(
        self, instance: str, after: tuple[int, int] | None, limit: int
    ) -> tuple[list[Asked], bool]:
        """Give up to `limit` hosts past the one that `after` tells, and whether there are more.

        `after` is a moment in ms and a number. When its host has moved meanwhile, the page begins
        with the first of that moment: one may be told again, none is missed. Raises Unavailable.
        """
        passed = after is None
        found: dict[str, Asked] = {}  # by host: the walk may tell one again
        async for asked in self._walk(instance, 0 if after is None else after[0]):
            if after is not None and not passed:
                if asked.at_ms == after[0] and asked.number == after[1]:
                    passed = True
                    found.clear()
                    continue
                passed = asked.at_ms > after[0]
            # Of those before the one that is looked for no more are kept than a page may need.
            if len(found) <= limit:
                found.setdefault(asked.host, asked)
            if passed and len(found) > limit:
                break
        ordered = sorted(found.values())
        return ordered[:limit], len(ordered) > limit

    async def asked(self, instance: str, host: str) -> Asked | None:
        """Find a host, in canonical form; None: it never asked, or is gone. Raises Unavailable."""
        asking: Any = self.client.zscore(self._keys(instance).seen, host)
        at_ms = await answered(asking)
        return None if at_ms is None else Asked(int(at_ms), host)

    async def latest(self, instance: str, start: int, count: int) -> tuple[list[Asked], int]:
        """Give hosts by their last request, the latest first, and how many there are in all.

        Raises Unavailable.
        """
        pipeline = self.client.pipeline(transaction=False)
        key = self._keys(instance).seen
        pipeline.zrange(key, start, start + count - 1, desc=True, withscores=True)
        pipeline.zcard(key)
        entries, total = await answered(pipeline.execute())
        return [_asked(entry) for entry in entries], int(total)

    def all(self, instance: str) -> AsyncIterator[Members]:
        """Walk over all hosts with the moments of their last requests; one may come twice."""
        return members(self.client, self._keys(instance).seen, count=PART_HOSTS)

    async def holdings(self, instance: str, hosts: Sequence[str]) -> list[list[Holding] | None]:
        """Give what each host holds, with since when, in their order; None: it cannot be read.

        Raises Unavailable.
        """
        return [
            [] if packed is None else _holdings(packed)
            for packed in await self._packed(instance, hosts)
        ]

    async def holding(self, instance: str) -> AsyncIterator[dict[str, list[Holding] | None]]:
        """Walk over all hosts that hold something, as `holdings` gives it; one may come twice.

        Raises Unavailable.
        """
        async for fields in steps(self.client, self._keys(instance).holds, count=STEP_HOSTS):
            yield {host.decode(): _holdings(packed) for host, packed in fields.items()}

    async def seen(self, instance: str, hosts: Sequence[str]) -> dict[str, int]:
        """Give when each host asked last; one that is gone is left out. Raises Unavailable."""
        return await read_last_seen(self.client, self._keys(instance), hosts)

    async def held(self, instance: str, hosts: Sequence[str]) -> list[list[Held]]:
        """Give what each host holds, in their order. Raises Unavailable."""
        return [
            [] if packed is None else _decode_held(packed)
            for packed in await self._packed(instance, hosts)
        ]

    async def _packed(self, instance: str, hosts: Sequence[str]) -> list[bytes | None]:
        key = self._keys(instance).holds
        found: list[bytes | None] = []
        for start in range(0, len(hosts), PART_HOSTS):
            part: Any = self.client.hmget(key, list(hosts[start : start + PART_HOSTS]))
            found += await answered(part)
        return found

    async def numbered(self, instance: str, number: int) -> list[Asked]:
        """Find the hosts of a number: none, one, or by rare chance two. Raises Unavailable."""
        key = self._keys(instance).seen
        found: dict[str, Asked] = {}  # by host: a walk may tell one again
        async for entries in members(self.client, key, count=PART_HOSTS):
            for asked in map(_asked, entries):
                if asked.number == number:
                    found[asked.host] = asked
        return sorted(found.values())

    async def _walk(self, instance: str, from_ms: int) -> AsyncIterator[Asked]:
        """Tell all hosts from the first of a moment on, in order.

        One that moves meanwhile is told again; then, after it, perhaps others of its moment.
        """
        key = self._keys(instance).seen
        last: Any = None
        for _ in range(PARTS_MAX):
            if last is None:
                asking: Any = self.client.zrangebyscore(
                    key, from_ms, "+inf", start=0, num=PART_HOSTS, withscores=True
                )
                part = await answered(asking)
            else:
                ranked: Any = self.client.zrank(key, last[0])
                part = await self._from_rank(key, await answered(ranked))
                if part[:1] != [last]:
                    # It has moved, or others around it: anew from the first of its moment.
                    from_ms, last = int(last[1]), None
                    continue
                del part[0]
            for entry in part:
                yield _asked(entry)
            if len(part) < PART_HOSTS:
                return
            last = part[-1]
        raise _too_many()

    async def _from_rank(self, key: str, rank: int | None) -> list[Any]:
        if rank is None:
            return []
        asking: Any = self.client.zrange(key, rank, rank + PART_HOSTS, withscores=True)
        return list(await answered(asking))

    def _keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, self.partitions)


def _holdings(packed: bytes) -> list[Holding] | None:
    try:
        return _decode_holdings(packed)
    except msgspec.DecodeError:
        return None


def _asked(entry: Any) -> Asked:
    host, at_ms = entry
    return Asked(int(at_ms), host.decode())


def _too_many() -> Unavailable:
    return Unavailable("Too many hosts to look at", "not_applied")
