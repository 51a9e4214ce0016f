"""Syncs with an upstream that tells what it has: when they are due, and what was last heard.

Decided here: how that is kept, in one hash per instance and upstream, and what is read together so
that units used and units not settled yet belong to one moment. Not decided here: when a sync is due
(core/syncing.py), what follows from a total (core/elsewhere.py). What was last heard may be lost:
then less is known, and nothing is counted wrong. Source: DESIGN 4 and 5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.elsewhere import Known
from gateway.core.errors import Unavailable
from gateway.core.model import Line
from gateway.core.ports import Counters, PartlyUnavailable, Step
from gateway.core.syncing import Schedule
from gateway.core.usage import Row
from gateway.store.durable import answered
from gateway.store.elsewhere import Taken, note_elsewhere
from gateway.store.keys import InstanceKeys
from gateway.store.partitions import names_by_partition
from gateway.store.parts import Part
from gateway.store.rows import decode_rows, row_of
from gateway.store.walks import scan

READ_TRIES_MAX: Final = 5  # batches are set aside, or decided about, now and then

# No line's id has a bar.
_FIELDS: Final = ("|enabled", "|hours", "|minutes", "|asked", "|answered", "|begun_ms")
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Known).decode


@dataclass(frozen=True)
class Syncs(Part):
    """The syncs of a store's instances. `wait` follows each step that must be safe."""

    async def schedule(self, instance: str, upstream: str) -> Schedule:
        """Read when an instance is synced, and the store's time. Raises Unavailable."""
        key = self._keys(instance).sync(upstream)
        script = self.scripts.schedule.run(self.client, [key], list(_FIELDS))
        now_ms, enabled, hours, minutes, asked, told, begun_ms = await answered(script)
        return Schedule(
            enabled=enabled != b"0",
            hours=None if hours is None else int(hours),
            minutes=None if minutes is None else int(minutes),
            asked=int(asked or 0),
            answered=int(told or 0),
            begun_ms=int(begun_ms or 0),
            now_ms=now_ms,
        )

    async def asking(self, instances: Sequence[str], upstream: str) -> list[str]:
        """Keep of some instances those where something was said about their syncs."""
        pipeline = self.client.pipeline(transaction=False)
        for instance in instances:
            pipeline.exists(self._keys(instance).sync(upstream))
        found = await answered(pipeline.execute()) if instances else []
        return [name for name, exists in zip(instances, found, strict=True) if exists]

    async def set_schedule(
        self, instance: str, upstream: str, *, enabled: bool, hours: int | None, minutes: int | None
    ) -> None:
        """Say when an instance is synced; None for hours or minutes leaves what was said before."""
        said = {"|enabled": int(enabled), "|hours": hours, "|minutes": minutes}
        fields = [
            text for name, value in said.items() if value is not None for text in (name, str(value))
        ]
        await self.durable.run("HSET", self._keys(instance).sync(upstream), *fields)

    async def ask(self, instance: str, upstream: str) -> None:
        """Demand a sync at once: whoever forwards sees it within some seconds."""
        keys = self._keys(instance)
        await self.durable.run("HINCRBY", keys.sync(upstream), "|asked", "1")
        # A forwarder that does not know the instance yet looks at those with something to forward.
        await self.durable.run("SADD", keys.dirty, instance)

    async def demanded(self, upstream: str) -> list[str]:
        """List the instances with something to forward where a demand is not met yet.

        Of a store that answers in parts only, those that it tells of. Raises Unavailable.
        """
        try:
            places = await names_by_partition(
                self.topology, self.partitions, lambda ask, keys: ask.smembers(keys.dirty)
            )
        except PartlyUnavailable as error:
            places = error.found
        names = [name for some in places.values() for name in some]
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hmget(self._keys(name).sync(upstream), "|asked", "|answered")
        # One that is damaged keeps no other from being seen.
        found = await answered(pipeline.execute(raise_on_error=False)) if names else []
        return [
            name
            for name, told in zip(names, found, strict=True)
            if not isinstance(told, Exception) and told[0] is not None and told[0] != told[1]
        ]

    async def synced(self, instance: str, upstream: str, begun_ms: int, answered: int) -> None:
        """Note that a sync is over which began at `begun_ms` and met so many demands."""
        key = self._keys(instance).sync(upstream)
        said = ("|begun_ms", str(begun_ms), "|answered", str(answered))
        await self.durable.run("HSET", key, *said)

    async def known(self, instance: str, upstream: str) -> Mapping[str, Known]:
        """Read what was last heard of each line. Raises Unavailable."""
        fields = await scan(self.client, self._keys(instance).sync(upstream))
        return {
            name.decode(): _decode(text)
            for name, text in fields.items()
            if not name.startswith(b"|")
        }

    async def known_of(self, instance: str, upstream: str, line: str) -> Known | None:
        """Read what was last heard of one line. Raises Unavailable."""
        key = self._keys(instance).sync(upstream)
        found: Any = await answered(self.client.hget(key, line))
        return None if found is None else _decode(found)

    async def note(self, instance: str, upstream: str, known: Mapping[str, Known]) -> None:
        """Keep what was heard of lines, in the place of what was heard before."""
        key = self._keys(instance).sync(upstream)
        fields: dict[Any, Any] = {line: _encode(each) for line, each in known.items()}
        if fields:
            await answered(self.client.hset(key, mapping=fields))

    async def counters(self, instance: str, upstream: str) -> Counters:
        """Read what was used, and every row that the upstream does not have, as of one moment.

        Raises Unavailable, also when batches are set aside faster than that can be read.
        """
        keys = self._keys(instance)
        aside = keys.aside(upstream)
        for _ in range(READ_TRIES_MAX):
            kept: Any = await answered(self.client.hkeys(aside))
            names = _row_fields(kept)
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hgetall(keys.used)
            pipeline.hgetall(keys.open(upstream))
            pipeline.hgetall(keys.blocked(upstream))
            pipeline.hgetall(keys.sealed(upstream))
            pipeline.hkeys(aside)
            if names:
                pipeline.hmget(aside, names)
            used, opened, blocked, sealed, still, *packed = await answered(pipeline.execute())
            if _row_fields(still) != names:
                continue
            under_way = _sealed_rows(sealed)
            rows = [row_of(*each) for part in (opened, blocked) for each in part.items()]
            rows += under_way
            rows += [row for text in (packed[0] if packed else []) for row in decode_rows(text)]
            return Counters(
                {name.decode(): int(units) for name, units in used.items()},
                _by_line(rows),
                frozenset(row.line for row in under_way),
            )
        raise Unavailable("Batches are set aside faster than they can be read", "not_applied")

    async def set_elsewhere(
        self, holder: str, instance: str, taken: Sequence[tuple[Line, int, int]]
    ) -> Step:
        """Set what others consumed: line, a moment of the period, units. See note_elsewhere."""
        told = [Taken.at(line, at_ms, units) for line, at_ms, units in taken]
        return await note_elsewhere(self.durable, self.scripts, self._keys(instance), holder, told)

    def _keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, self.partitions)


def _row_fields(names: Iterable[bytes]) -> list[str]:
    return sorted(name.decode() for name in names if name.endswith(b"|rows"))


def _sealed_rows(fields: Mapping[bytes, bytes]) -> list[Row]:
    packed = [text for name, text in fields.items() if name.partition(b".")[0] == b"rows"]
    return [row for text in packed for row in decode_rows(text)]


def _by_line(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.line].append(row)
    return dict(found)
