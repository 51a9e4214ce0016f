"""A ledger read whole: the sums of an instance as they stood at one moment.

Decided here: what is read together in one transaction, so that the equations hold under load, and
how the ledger's fields are spelt. Not decided here: which sums have to agree (service/balance.py)
and who writes them (the Lua files). The past is read page by page before the transaction, which the
store refuses if it changed since: a deep read holds the store only for this month's days and the
rows on their way, a third of a second for a million of them. A past that will not keep still is
read in the transaction itself. Of batches set aside the bodies are left where they are.
Source: DESIGN 4 and 5, RELIABILITY 1 (I3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from gateway.core.errors import Unavailable
from gateway.core.periods import months_between
from gateway.core.ports import Standing
from gateway.core.usage import Row, Scope, units_by_scope
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.rows import mark_of, row_of
from gateway.store.topology import Client
from gateway.store.walks import watched_steps

# Batches are set aside, or decided about, now and then; days of past months are folded, and change
# by lapses that are swept late.
DEEP_TRIES_MAX: Final = 5
PRESENT_MONTHS: Final = 3  # the last of those listed: read in the transaction itself
PAST_PAGE_FIELDS: Final = 4_000  # asked for at a time; holds the store for about 2 ms

_decode_rows: Final = msgspec.msgpack.Decoder(tuple[Row, ...]).decode
_decode_facts: Final = msgspec.msgpack.Decoder(tuple[Standing, str, int, int, int]).decode


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
    """The same sums, added up from the rows they stand for; by line, or by (line, upstream).

    `sealed` has the halves that wait behind a sealed batch, `parked` the blocked rows and those of
    batches set aside that are not dead.
    """

    days: Mapping[str, int]
    open: Mapping[tuple[str, str], int]
    sealed: Mapping[tuple[str, str], int]
    parked: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sums of an instance at one moment; whatever is absent is 0.

    `version` is that of the catalogue in force at that moment (0: there is none). `used` is by
    `<line>|<period label>`. `now_ms` is the moment, never before the last transaction's. `carried`
    is what of `open` was undone and is not taken back, by (line, upstream); below 0.
    """

    version: int
    now_ms: int
    since_ms: int
    acked: Mapping[str, int]
    days: Mapping[str, int]
    upstreams: Mapping[tuple[str, str], UpstreamSums]
    used: Mapping[str, int]
    rows: RowSums | None = field(default=None)
    carried: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def upstream(self, line: str, name: str) -> UpstreamSums:
        """Give the sums of a line and an upstream."""
        return self.upstreams.get((line, name), _NOTHING)


_NOTHING: Final = UpstreamSums()
_MEMBERS: Final = frozenset(UpstreamSums.__dataclass_fields__)
_Label = tuple[str, str]  # which part of an instance is read, of which upstream or month
_Replies = Mapping[_Label, Any]


async def read_ledger(client: Client, keys: InstanceKeys, upstreams: Sequence[str] = ()) -> Ledger:
    """Read an instance's ledger in one transaction; one that does not exist is all zeros.

    What is carried is told of these `upstreams`. Raises Unavailable; a retry is always safe.
    """
    return await answered(_read(client, keys, upstreams))


async def _read(client: Client, keys: InstanceKeys, upstreams: Sequence[str]) -> Ledger:
    looked = await _run(client, {("refused", name): _refused(keys, name) for name in upstreams})
    # Few upstreams carry anything, and only of those the open rows are looked at.
    carrying = [name for name in upstreams if _carried_scopes(looked["refused", name])]
    replies = await _run(client, _sums(keys) | _carriage(keys, carrying))
    return _ledger(replies, carrying)


async def read_deep(
    client: Client, keys: InstanceKeys, upstreams: Sequence[str], timezone: str
) -> Ledger:
    """Read a ledger together with the sums of all rows it stands for, in one transaction.

    `upstreams` are the attached ones, `timezone` is the instance's. Raises Unavailable, also when
    batches are set aside faster than that can be read; a retry is always safe.
    """
    return await answered(_read_deep(client, keys, upstreams, timezone))


async def _read_deep(
    client: Client, keys: InstanceKeys, upstreams: Sequence[str], timezone: str
) -> Ledger:
    first = _ledger(await _run(client, _sums(keys)), [])
    # Two months ahead: the clock may move between the two reads, and an empty month costs nothing.
    months = months_between(first.since_ms or first.now_ms, first.now_ms, timezone, ahead=2)
    commands: dict[_Label, tuple[str, ...]] = _sums(keys) | _carriage(keys, upstreams)
    for name in upstreams:
        commands["sealed", name] = ("HGETALL", keys.sealed(name))
        commands["blocked", name] = ("HGETALL", keys.blocked(name))
        commands["names", name] = ("HKEYS", keys.aside(name))
    past, present = months[:-PRESENT_MONTHS], months[-PRESENT_MONTHS:]
    for month in present:
        commands["days", str(month)] = ("HGETALL", keys.days(month))
    recorded = [*map(keys.month, months), *map(keys.days, past)]
    asides = {name: await _aside_fields(client, keys, name) for name in upstreams}
    for tries_left in reversed(range(DEEP_TRIES_MAX)):
        kept: dict[_Label, tuple[str, ...]] = {
            ("aside", name): ("HMGET", keys.aside(name), *fields)
            for name, fields in asides.items()
            if fields
        }
        if tries_left:
            try:
                past_units, replies = await _run_after(client, recorded, commands | kept)
            except WatchError:
                continue  # the past changed while it was read
        else:
            whole = {("days", key): ("HGETALL", key) for key in recorded}
            past_units, replies = Counter(), await _run(client, commands | kept | whole)
        found = {name: _without_bodies(replies["names", name]) for name in upstreams}
        if found == asides:
            return _ledger(replies, upstreams, _row_sums(upstreams, asides, replies, past_units))
        asides = found
    raise Unavailable("Batches are set aside faster than they can be read", "not_applied")


async def _run_after(
    client: Client, recorded: Sequence[str], commands: Mapping[_Label, tuple[str, ...]]
) -> tuple[Counter[str], _Replies]:
    """Add up what is recorded, then run the commands, both as of one moment.

    Raises WatchError when what was added up changed before the commands ran.
    """
    async with client.pipeline(transaction=True) as pipeline:
        await pipeline.watch(*recorded)
        units = await _units_by_line(pipeline, recorded)
        pipeline.multi()  # type: ignore[no-untyped-call]
        return units, await _execute(pipeline, commands)


async def _units_by_line(pipeline: Pipeline, recorded: Iterable[str]) -> Counter[str]:
    """Add up the units of each line in hashes of days or months, page by page.

    Over the connection that watches them: it speaks for one server, and so does the watch.
    """
    sums: Counter[str] = Counter()
    for key in recorded:
        units: dict[bytes, bytes] = {}  # by field, for one may come twice
        async for fields in watched_steps(pipeline, key, match="*|u", count=PAST_PAGE_FIELDS):
            units |= fields
        for name, value in units.items():
            sums[name.decode().partition("|")[0]] += int(value)
    return sums


def _sums(keys: InstanceKeys) -> dict[_Label, tuple[str, ...]]:
    return {
        ("time", ""): ("TIME",),
        ("version", ""): ("HGET", keys.cat, "version"),
        ("ledger", ""): ("HGETALL", keys.ledger),
        ("used", ""): ("HGETALL", keys.used),
    }


def _carriage(keys: InstanceKeys, upstreams: Iterable[str]) -> dict[_Label, tuple[str, ...]]:
    commands: dict[_Label, tuple[str, ...]] = {}
    for name in upstreams:
        commands["open", name] = ("HGETALL", keys.open(name))
        commands["refused", name] = _refused(keys, name)
    return commands


def _refused(keys: InstanceKeys, upstream: str) -> tuple[str, ...]:
    return "HGETALL", keys.refused(upstream)


async def _run(client: Client, commands: Mapping[_Label, tuple[str, ...]]) -> _Replies:
    return await _execute(client.pipeline(transaction=True), commands)


async def _execute(pipeline: Pipeline, commands: Mapping[_Label, tuple[str, ...]]) -> _Replies:
    for command in commands.values():
        pipeline.execute_command(*command)
    return dict(zip(commands, await pipeline.execute(), strict=True))


async def _aside_fields(client: Client, keys: InstanceKeys, upstream: str) -> list[str]:
    names: Any = await client.hkeys(keys.aside(upstream))
    return _without_bodies(names)


def _without_bodies(names: list[bytes]) -> list[str]:
    """Give the fields of batches set aside that tell their units: facts and rows, by turns."""
    ids = sorted(name.decode().removesuffix("|facts") for name in names if name.endswith(b"|facts"))
    return [f"{each}|{part}" for each in ids for part in ("facts", "rows")]


def _ledger(replies: _Replies, upstreams: Iterable[str], rows: RowSums | None = None) -> Ledger:
    seconds, micros = replies["time", ""]
    fields = {name.decode(): int(units) for name, units in replies["ledger", ""].items()}
    lines: dict[str, dict[str, int]] = {"acked": {}, "days": {}}
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for name, units in fields.items():
        kind, *rest = name.split("|")
        if len(rest) == 1 and kind in lines:
            lines[kind][rest[0]] = units
        elif len(rest) == 2 and kind in _MEMBERS:
            sums.setdefault((rest[0], rest[1]), {})[kind] = units
    return Ledger(
        version=int(replies["version", ""] or 0),
        now_ms=max(seconds * 1000 + micros // 1000, fields.get("last_ms", 0)),
        since_ms=fields.get("since_ms", 0),
        acked=lines["acked"],
        days=lines["days"],
        upstreams={pair: UpstreamSums(**found) for pair, found in sums.items()},
        used={name.decode(): int(units) for name, units in replies["used", ""].items()},
        rows=rows,
        carried=_carried(upstreams, replies),
    )


def _carried(upstreams: Iterable[str], replies: _Replies) -> dict[tuple[str, str], int]:
    """Sum up what was undone in scopes that an upstream takes nothing back of."""
    carried: Counter[tuple[str, str]] = Counter()
    for name in upstreams:
        scopes = _carried_scopes(replies["refused", name])
        if not scopes:
            continue
        sums = units_by_scope(scopes, _rows(replies["open", name]))
        for (line, _), units in sums.items():
            carried[line, name] += min(0, sum(units))
    return {pair: units for pair, units in carried.items() if units}


def _carried_scopes(marks: Mapping[bytes, bytes]) -> set[Scope]:
    return {mark.scope for mark in (mark_of(*each) for each in marks.items()) if mark.carried}


def _row_sums(
    upstreams: Iterable[str],
    asides: Mapping[str, list[str]],
    replies: _Replies,
    past: Mapping[str, int],
) -> RowSums:
    opened: Counter[tuple[str, str]] = Counter()
    sealed: Counter[tuple[str, str]] = Counter()
    parked: Counter[tuple[str, str]] = Counter()
    for name in upstreams:
        for row in _rows(replies["open", name]):
            opened[row.line, name] += row.units
        for row in _rows(replies["blocked", name]):
            parked[row.line, name] += row.units
        for part, packed in replies["sealed", name].items():
            if part == b"rows" or part.startswith(b"rows."):
                for row in _decode_rows(packed):
                    sealed[row.line, name] += row.units
        kept = replies["aside", name] if asides[name] else []
        for facts, packed in zip(kept[::2], kept[1::2], strict=True):
            if _decode_facts(facts)[0] is Standing.PARKED:
                for row in _decode_rows(packed):
                    parked[row.line, name] += row.units
    days: Counter[str] = Counter(past)
    for (part, _), reply in replies.items():
        for entry, units in reply.items() if part == "days" else ():
            line, _, kind = entry.decode().split("|", 2)
            if kind == "u":
                days[line] += int(units)
    return RowSums(days, opened, sealed, parked)


def _rows(fields: Mapping[bytes, bytes]) -> Iterable[Row]:
    return (row_of(*each) for each in fields.items())
