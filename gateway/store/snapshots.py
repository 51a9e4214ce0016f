"""An instance read whole, as it stood at one moment of its server.

Decided here: which keys an instance can have, that all of them are read in one transaction, and
that what is recorded of past months is read page by page before it, under WATCH: it seldom changes.
The transaction holds the server for as long as it takes to read the rest. The record of decisions
is only ever added to, so of it the transaction reads the end alone. Not decided here: what is made
of it. Source: DESIGN 4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue
from gateway.core.periods import months_between
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.topology import Client
from gateway.store.walks import Fields, watched_steps

TRIES_MAX: Final = 5  # catalogues change and days are folded now and then
PRESENT_MONTHS: Final = 3  # the last of those listed: read in the transaction itself
PAGE_FIELDS: Final = 2_000  # of a past month, asked for at a time; about 1 ms of the store
PAGE_ENTRIES: Final = 1_000  # of the record of decisions
OUTBOX: Final = ("open", "sealed", "blocked", "refused", "aside", "sync")

_decode: Final = msgspec.msgpack.Decoder(Catalogue).decode
Entry = tuple[str, list[bytes]]  # of the record: id, names and values by turns


class PastChanged(Exception):
    """What is recorded of past months changed while it was read."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What names an instance's keys: the upstreams it is attached to and the months on record."""

    upstreams: tuple[str, ...]
    months: tuple[int, ...]

    @property
    def hashes(self) -> list[str]:
        """The parts that are hashes, all but those of months."""
        of_upstream = [f"{part}:{name}" for name in self.upstreams for part in OUTBOX]
        return ["cat", "ledger", "used", "holds", "undo", *of_upstream]

    @property
    def recorded(self) -> list[str]:
        """The parts that are hashes of months."""
        return [f"{part}:{month}" for month in self.months for part in ("month", "days")]

    @property
    def parts(self) -> list[str]:
        """All parts but the record of decisions."""
        return [*self.hashes, *self.recorded, "lapse", "seen"]


@dataclass(slots=True)
class Snapshot:
    """An instance at `at_ms` of its server. `record` is the id of the last decision, "" for none.

    `scored` are the sorted sets, with scores as text, and all else is in `hashes`.
    """

    instance: str
    at_ms: int
    hashes: dict[str, Fields] = field(default_factory=dict)
    scored: dict[str, Fields] = field(default_factory=dict)
    record: str = ""


async def read_shape(client: Client, keys: InstanceKeys) -> Shape | None:
    """Read what names an instance's keys; None: there is no such instance. Raises Unavailable."""
    pipeline = client.pipeline(transaction=True)
    pipeline.time()
    pipeline.hmget(keys.cat, ["blob", "closed_blob"])
    pipeline.hmget(keys.ledger, ["since_ms", "last_ms"])
    (seconds, _), (blob, closed), (since_ms, last_ms) = await answered(pipeline.execute())
    blob = blob or closed
    if blob is None:
        return None
    catalogue = _decode(blob)
    now_ms = max(seconds * 1000, int(last_ms or 0))
    # Two months ahead: the clock may move between two reads, and an empty month costs nothing.
    months = months_between(int(since_ms or now_ms), now_ms, catalogue.timezone, ahead=2)
    return Shape(tuple(each.name for each in catalogue.upstreams), tuple(months))


async def read_snapshot(client: Client, keys: InstanceKeys) -> Snapshot | None:
    """Read an instance whole, in one step; None: there is none, or it is being restored.

    Raises Unavailable, also when its catalogue changes faster than it can be read.
    """
    for tries_left in reversed(range(TRIES_MAX)):
        shape = await read_shape(client, keys)
        if shape is None:
            return None
        past = shape.recorded[: -2 * PRESENT_MONTHS] if tries_left else []
        try:
            snapshot = await answered(_read(client, keys, shape, past))
        except PastChanged:
            continue
        blob = snapshot.hashes["cat"].get(b"blob")
        if blob is None:
            return None
        if {each.name for each in _decode(blob).upstreams} == set(shape.upstreams):
            return snapshot
    raise Unavailable(f"The catalogue of {keys.instance} changes too fast to follow", "not_applied")


async def _read(client: Client, keys: InstanceKeys, shape: Shape, past: Sequence[str]) -> Snapshot:
    async with client.pipeline(transaction=True) as pipeline:
        found: dict[str, Fields] = {}
        if past:
            await pipeline.watch(*map(keys.part, past))
            for name in past:
                found[name] = await _pages(pipeline, keys.part(name))
            pipeline.multi()  # type: ignore[no-untyped-call]
        present = [*shape.hashes, *(each for each in shape.recorded if each not in found)]
        pipeline.time()
        for name in present:
            pipeline.hgetall(keys.part(name))
        for name in ("lapse", "seen"):
            pipeline.zrange(keys.part(name), 0, -1, withscores=True)
        pipeline.xrevrange(keys.record, count=1)
        try:
            (seconds, micros), *replies, lapse, seen, last = await pipeline.execute()
        except WatchError:
            raise PastChanged from None
    found |= dict(zip(present, replies, strict=True))
    return Snapshot(
        instance=keys.instance,
        at_ms=seconds * 1000 + micros // 1000,
        hashes={name: fields for name, fields in found.items() if fields},
        scored={name: _texts(members) for name, members in (("lapse", lapse), ("seen", seen))},
        record=last[0][0].decode() if last else "",
    )


async def _pages(pipeline: Pipeline, key: str) -> Fields:
    found: Fields = {}
    async for fields in watched_steps(pipeline, key, count=PAGE_FIELDS):
        found |= fields
    return found


def _texts(members: Sequence[tuple[bytes, float]]) -> Fields:
    return {member: b"%d" % score for member, score in members}  # moments in ms are whole


async def read_record(
    client: Client, keys: InstanceKeys, after: str = "", until: str = "+"
) -> AsyncIterator[list[Entry]]:
    """Give the record of decisions after an entry, up to one, ascending. Raises Unavailable."""
    while True:
        start = f"({after}" if after else "-"
        asked: Any = client.xrange(keys.record, start, until, count=PAGE_ENTRIES)
        found: Sequence[tuple[bytes, Mapping[bytes, bytes]]] = await answered(asked)
        if found:
            yield [
                (stream_id.decode(), [text for pair in fields.items() for text in pair])
                for stream_id, fields in found
            ]
        if len(found) < PAGE_ENTRIES:
            return
        after = found[-1][0].decode()
