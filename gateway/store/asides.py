"""Batches set aside and rows refused, as people see them, and the record of what they decided.

Decided here: what is read of them at once, and that a decision and its place in the record are one
step. Not decided here: which decisions fit (service/asides.py). A decision that was carried out is
not there a second time: a repeat changes nothing. Source: DESIGN 4 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.decisions import Aside, Blocked, Decision, Fate, units_of
from gateway.core.ports import Mark, Standing
from gateway.core.usage import Row
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys
from gateway.store.ledgers import read_ledger
from gateway.store.parts import Part
from gateway.store.rows import decode_rows, mark_of, portions, row_of, spelt
from gateway.store.walks import Fields, scan, steps

DECISIONS_MAX: Final = 10_000  # of one instance, read at once; the newest

_encode: Final = msgspec.msgpack.Encoder().encode
_NO_ROWS: Final = _encode(())
_Facts = tuple[str, str, int, int, int]  # as aside.lua packs them
_decode_facts: Final = msgspec.msgpack.Decoder(_Facts).decode


class Waiting(msgspec.Struct, frozen=True):
    """What waits for an upstream: units by line, and by place.

    The places are open, sealed, parked and, of dead batches that nobody has decided about, dead.
    Without any, there are rows that come to nothing.
    """

    units: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Asides(Part):
    """What was taken out of the lanes of a store's instances."""

    async def occupied(self, places: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Keep of instances and upstreams those where something is set aside or blocked."""
        pipeline = self.client.pipeline(transaction=False)
        for instance, upstream in places:
            keys = self._keys(instance)
            pipeline.exists(keys.aside(upstream), keys.blocked(upstream))
        found = await answered(pipeline.execute()) if places else []
        return [place for place, exists in zip(places, found, strict=True) if exists]

    async def waiting(self, instance: str, upstream: str) -> Waiting | None:
        """Say what an upstream cannot be detached from; None: nothing waits for it.

        It is asked as lua/catalogue.lua asks it; that has the last word.
        """
        keys = self._keys(instance)
        outbox = (keys.open, keys.sealed, keys.blocked, keys.aside)
        if not await answered(self.client.exists(*(key(upstream) for key in outbox))):
            return None
        ledger = await read_ledger(self.client, keys)
        units: dict[str, dict[str, int]] = {}
        for line, name in ledger.upstreams:
            sums = ledger.upstream(line, name)
            places = {"open": sums.open, "sealed": sums.sealed, "parked": sums.parked}
            if name == upstream and any(places.values()):
                units[line] = {place: each for place, each in places.items() if each}
        dead = [row for each in await self.batches(instance, upstream) for row in _dead(each)]
        for line, each in units_of(dead).items():
            units.setdefault(line, {})["dead"] = each
        return Waiting(dict(sorted(units.items())))

    async def facts(self, instance: str, upstream: str) -> list[Aside]:
        """List the batches set aside, without rows and bodies, the earliest first."""
        key = self._keys(instance).aside(upstream)
        ids = await self._ids(key)
        found: Any = (
            await answered(self.client.hmget(key, [f"{batch_id}|facts" for batch_id in ids]))
            if ids
            else []
        )
        asides = [
            _aside(instance, upstream, batch_id, facts, _NO_ROWS)
            for batch_id, facts in zip(ids, found, strict=True)
            if facts
        ]
        return sorted(asides, key=_by_moment)

    async def batches(
        self, instance: str, upstream: str, ids: Sequence[str] | None = None
    ) -> list[Aside]:
        """List the batches set aside, all or some, without their bodies, the earliest first."""
        key = self._keys(instance).aside(upstream)
        if ids is None:
            ids = await self._ids(key)
        pipeline = self.client.pipeline(transaction=False)
        for batch_id in ids:
            pipeline.hmget(key, f"{batch_id}|facts", f"{batch_id}|rows")
        found = await answered(pipeline.execute()) if ids else []
        asides = [
            _aside(instance, upstream, batch_id, facts, rows)
            for batch_id, (facts, rows) in zip(ids, found, strict=True)
            if facts
        ]
        return sorted(asides, key=_by_moment)

    async def batch(self, instance: str, upstream: str, batch_id: str) -> Aside | None:
        """Read one batch that is set aside, with its body; None: it is not, or not any more."""
        names = [f"{batch_id}|facts", f"{batch_id}|rows", f"{batch_id}|body"]
        key = self._keys(instance).aside(upstream)
        found: Any = await answered(self.client.hmget(key, names))
        facts, rows, body = found
        return _aside(instance, upstream, batch_id, facts, rows, body) if facts else None

    async def blocked(
        self, instance: str, upstream: str, *, line: str = "", rows_max: int | None = None
    ) -> list[Blocked]:
        """List what the upstream refuses for now, by line, or that of one line.

        Of more than `rows_max` rows not all are told of.
        """
        keys = self._keys(instance)
        fields: Fields = {}
        match = f"{line}|*" if line else None  # no line's id has a sign that patterns know
        async for some in steps(self.client, keys.blocked(upstream), match=match):
            fields.update(some)
            if rows_max is not None and len(fields) >= rows_max:
                break
        rows: dict[str, list[Row]] = {}
        for field, units in fields.items():
            row = row_of(field, units)
            rows.setdefault(row.line, []).append(row)
        marks: dict[str, list[Mark]] = {}
        for field, text in (await scan(self.client, keys.refused(upstream))).items():
            mark = mark_of(field, text)
            if not mark.carried:  # that one speaks of open rows
                marks.setdefault(mark.line, []).append(mark)
        return [
            Blocked(instance, upstream, line, tuple(sorted(found)), tuple(marks.get(line, ())))
            for line, found in sorted(rows.items())
        ]

    async def decide(self, instance: str, fate: Fate, batch_id: str, decision: Decision) -> bool:
        """Carry out a decision about a batch; False: it is not set aside (any more)."""
        keys, upstream = self._keys(instance), decision.upstream
        reply = await self.durable.write(
            self.scripts.decide,
            [keys.aside(upstream), keys.open(upstream), keys.ledger, keys.dirty, keys.record],
            [fate, instance, upstream, batch_id, _encode(decision.fields)],
        )
        return bool(reply)

    async def release(self, blocked: Blocked, fate: Fate, decision: Decision) -> bool:
        """Let a line's blocked rows go again (OPEN) or give them up (DEAD), and its marks away.

        False: none of them waits (any more).
        """
        keys, upstream = self._keys(blocked.instance), blocked.upstream
        fields = [_field(row) for row in blocked.rows]
        marks = [text for mark in blocked.marks for text in spelt(mark)]
        waited = False
        for some, last in portions(fields):
            reply = await self.durable.write(
                self.scripts.unblock,
                [
                    *(keys.lease, keys.blocked(upstream), keys.refused(upstream)),
                    *(keys.open(upstream), keys.ledger, keys.dirty, keys.record),
                ],
                [
                    *("", fate, blocked.instance, upstream, _encode(some)),
                    *(_encode(marks if last else []), _encode(decision.fields)),
                ],
            )
            waited = waited or bool(reply)
        return waited

    async def decisions(self, instance: str) -> list[Decision]:
        """Read the record of an instance, the newest DECISIONS_MAX, the newest first."""
        return [decision for _, decision in await self.decided(instance, DECISIONS_MAX)]

    async def decided(
        self, instance: str, count_max: int, before: str = ""
    ) -> list[tuple[str, Decision]]:
        """Read the newest of an instance's record, the newest first, each with its place there.

        `before` is such a place: what is older than that.
        """
        key = self._keys(instance).record
        end = f"({before}" if before else "+"
        entries: Any = await answered(self.client.xrevrange(key, max=end, count=count_max))
        return [(place.decode(), _decision(place, fields)) for place, fields in entries]

    async def _ids(self, key: str) -> list[str]:
        names: Any = await answered(self.client.hkeys(key))
        return [name.decode().rpartition("|")[0] for name in names if name.endswith(b"|facts")]

    def _keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, self.partitions)


def _aside(
    instance: str, upstream: str, batch_id: str, facts: bytes, rows: bytes, body: bytes = b""
) -> Aside:
    standing, why, at_ms, first_sent_ms, attempts = _decode_facts(facts)
    return Aside(
        batch_id,
        instance,
        upstream,
        Standing(standing),
        why,
        at_ms,
        first_sent_ms,
        attempts,
        decode_rows(rows),
        body,
    )


def _by_moment(aside: Aside) -> tuple[int, str]:
    return aside.at_ms, aside.id


def _dead(aside: Aside) -> tuple[Row, ...]:
    return aside.rows if aside.standing is Standing.DEAD else ()


def _field(row: Row) -> str:
    field = f"{row.line}|{row.hour}"
    return f"{field}|{row.host}" if row.host else field


def _decision(stream_id: bytes, fields: dict[bytes, bytes]) -> Decision:
    members = {name.decode(): value.decode() for name, value in fields.items()}
    return Decision(at_ms=int(stream_id.split(b"-")[0]), **members)
