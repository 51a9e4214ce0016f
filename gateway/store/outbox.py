"""The outbox in the store: leases, open rows, the sealed batch and what is refused, per upstream.

Decided here: how rows, marks and batches are spelt in the store, and what is read at once. Not
decided here: what each step means (the head of each Lua file), in which order steps are taken
(upstream/), what people decide (asides.py). Reads and scripts may be repeated at any time; a store
that does not answer is Unavailable. Source: DESIGN 4 and 5, RELIABILITY 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.core.ports import Mark, PartlyUnavailable, Places, Rest, Standing, Step
from gateway.core.usage import Batch, Row, units_by_scope
from gateway.store.durable import answered
from gateway.store.keys import InstanceKeys, PartitionKeys
from gateway.store.partitions import Ask, names_by_partition
from gateway.store.parts import Part
from gateway.store.rows import decode_rows, mark_of, portions, row_of, spelt
from gateway.store.walks import scan, steps

DUE_MAX: Final = 100  # instances of a partition told at once; the next look tells more
ASIDE_MAX: Final = 1_000  # batches kept for a decision, per instance and upstream
CARRIED_ROWS_MAX: Final = 20_000  # open rows looked at to say whether they are only carried

_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class RedisOutbox(Part):
    """The outbox of a store. `wait` follows each step that must be safe (Strength.wait)."""

    async def dirty(self) -> Places:
        """List the instances that have something to forward, by partition, sorted."""
        return await self._names(lambda ask, keys: ask.smembers(keys.dirty))

    async def due(self, now_ms: int) -> Places:
        """List the instances where something lapses by `now_ms`, by partition, DUE_MAX of each."""
        bounds: Any = ("-inf", now_ms, 0, DUE_MAX)
        return await self._names(lambda ask, keys: ask.zrangebyscore(keys.due, *bounds))

    async def instances(self) -> Places:
        """List all instances, by partition, sorted."""
        return await self._names(lambda ask, keys: ask.smembers(keys.instances))

    async def take_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
        """Take the lease of a partition for a holder; False: somebody else has it."""
        return await self._lease("take", partition, holder, ttl_ms)

    async def keep_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False: it is lost, and must not be worked under any more."""
        return await self._lease("keep", partition, holder, ttl_ms)

    async def drop_lease(self, partition: int, holder: str) -> bool:
        """Give a lease back; False: it was lost before."""
        return await self._lease("drop", partition, holder, 0)

    async def open_rows(
        self,
        instance: str,
        upstream: str,
        rows_max: int,
        wanted: Callable[[Row], bool] = lambda _: True,
    ) -> list[Row]:
        """Read wanted open rows, at least `rows_max` when there are so many, in no order."""
        key = self._keys(instance).open(upstream)
        rows: dict[bytes, Row] = {}
        async for fields in steps(self.client, key):
            found = {field: row_of(field, units) for field, units in fields.items()}
            rows.update((field, row) for field, row in found.items() if wanted(row))
            if len(rows) >= rows_max:
                break
        return list(rows.values())

    async def marks(self, instance: str, upstream: str) -> tuple[list[Mark], int]:
        """Read what the upstream refuses for now, and the store's time in ms."""
        key = self._keys(instance).refused(upstream)
        now_ms, *found = await answered(self.scripts.marks.run(self.client, [key], []))
        return [mark_of(*each) for each in zip(found[::2], found[1::2], strict=True)], now_ms

    async def sealed(self, instance: str, upstream: str) -> Batch | None:
        """Read the batch under way, or None."""
        key = self._keys(instance).sealed(upstream)
        fields = ["id", "rows", "body", "first_sent_ms", "attempts", "before"]
        return _batch(instance, upstream, await answered(self.client.hmget(key, fields)))

    async def seal(self, holder: str, batch: Batch, version: int) -> tuple[Step, Batch | None]:
        """Move the batch's rows from open to sealed, and give what is sealed now.

        `version` is that of the catalogue by which the rows were chosen. DONE with this batch, GONE
        with the one that was sealed already (nothing moved), or LEASE_LOST with None, also when
        another catalogue is in force.
        """
        keys = self._keys(batch.instance)
        code, *fields = await self.durable.write(
            self.scripts.seal,
            [
                *(keys.lease, keys.open(batch.upstream), keys.sealed(batch.upstream)),
                *(keys.ledger, keys.cat, keys.dirty),
            ],
            [
                *(holder, batch.upstream, batch.id, _encode(batch.rows), batch.body),
                *(version, batch.instance),
            ],
        )
        step = Step(code)
        if step is Step.LEASE_LOST:
            return step, None
        return step, _batch(batch.instance, batch.upstream, fields)

    async def begin_attempt(self, holder: str, batch: Batch, horizon_ms: int) -> Step:
        """Note that attempt `batch.attempts` + 1 begins, and what was `before` it; only after DONE
        may a byte be sent.

        IN_DOUBT when an earlier attempt may have been applied and began `horizon_ms` ago or more:
        the upstream would not know the id any more. GONE when another is sealed by now.
        """
        return await self._attempt("begin", holder, batch, batch.attempts + 1, horizon_ms)

    async def clear_attempt(self, holder: str, batch: Batch) -> Step:
        """Note that attempt `batch.attempts` + 1 was not applied for sure."""
        return await self._attempt("clear", holder, batch, batch.attempts + 1, 0)

    async def settle(self, holder: str, batch: Batch) -> Step:
        """Move the batch's units from sealed to forwarded; GONE when that was done before."""
        keys = self._keys(batch.instance)
        reply = await self.durable.write(
            self.scripts.settle,
            [keys.lease, keys.sealed(batch.upstream), keys.ledger],
            [holder, batch.upstream, batch.id],
        )
        return Step(reply)

    async def refuse(
        self, holder: str, batch: Batch, blocked: Sequence[int], marks: Sequence[Mark]
    ) -> Step:
        """End a refused batch: the rows at the places `blocked` wait, all others are open again.

        `marks` say what is refused from now on. GONE when that was done before.
        """
        keys, up = self._keys(batch.instance), batch.upstream
        reply = await self.durable.write(
            self.scripts.refuse,
            [
                *(keys.lease, keys.open(up), keys.sealed(up)),
                *(keys.ledger, keys.blocked(up), keys.refused(up)),
            ],
            [
                *(holder, up, batch.id, _encode([place + 1 for place in blocked])),
                _encode([text for mark in marks for text in spelt(mark)]),
            ],
        )
        return Step(reply)

    async def unblock(
        self, holder: str, instance: str, upstream: str, marks: Sequence[Mark]
    ) -> Step:
        """Let go again what was refused: its rows are open, and its marks are gone.

        GONE when no row of them waited, as when they were only carried.
        """
        scopes = {mark.scope for mark in marks}
        keys = self._keys(instance)
        fields = await scan(self.client, keys.blocked(upstream))
        # A mark without host stands for its whole line. Text: the store's msgpack knows no bytes.
        waiting = [
            field.decode()
            for field in fields
            if (row := row_of(field, b"0")).scope in scopes or (row.line, "") in scopes
        ]
        reply = Step.GONE
        # The marks go with the last of the rows, so that none is forgotten.
        for some, last in portions(waiting):
            reply = Step(
                await self.durable.write(
                    self.scripts.unblock,
                    [
                        *(keys.lease, keys.blocked(upstream), keys.refused(upstream)),
                        *(keys.open(upstream), keys.ledger, keys.dirty, keys.record),
                    ],
                    [
                        *(holder, "open", instance, upstream, _encode(some)),
                        _encode([text for mark in marks for text in spelt(mark)] if last else []),
                        _encode([]),
                    ],
                )
            )
            if reply is Step.LEASE_LOST:
                break
        return reply

    async def split(self, holder: str, batch: Batch, first: Batch, second: Batch) -> Step:
        """Put two halves in the place of the sealed batch; `first` is the one under way now."""
        keys = self._keys(batch.instance)
        halves = [
            text for half in (first, second) for text in (half.id, _encode(half.rows), half.body)
        ]
        reply = await self.durable.write(
            self.scripts.split,
            [keys.lease, keys.sealed(batch.upstream)],
            [holder, batch.id, *halves],
        )
        return Step(reply)

    async def set_aside(self, holder: str, batch: Batch, standing: Standing, why: str) -> Step:
        """Take the sealed batch out of the lane; FULL when ASIDE_MAX are kept there already."""
        keys = self._keys(batch.instance)
        reply = await self.durable.write(
            self.scripts.aside,
            [
                *(keys.lease, keys.sealed(batch.upstream), keys.ledger),
                keys.aside(batch.upstream),
            ],
            [holder, batch.upstream, batch.id, standing, why, ASIDE_MAX],
        )
        return Step(reply)

    async def clean(self, instance: str, version: int, upstreams: list[str]) -> bool:
        """Take the instance's dirty mark away when nothing is to be sent to any upstream.

        `upstreams` are all that the catalogue attaches in its `version`; in another, nothing is
        done.
        """
        keys = self._keys(instance)
        of_upstream = (keys.open, keys.sealed, keys.blocked)
        outboxes = [key(name) for name in upstreams for key in of_upstream]
        script = self.scripts.clean.run(
            self.client, [keys.cat, keys.dirty, *outboxes], [instance, version]
        )
        return bool(await answered(script))

    async def crowded(self, upstream: str, rows: int) -> set[str]:
        """List the instances with as many open rows for this upstream, or more.

        Of a store that answers in parts only, those that it tells of.
        """
        try:
            places = await self.dirty()
        except PartlyUnavailable as error:
            places = error.found
        names = [name for some in places.values() for name in some]
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hlen(self._keys(name).open(upstream))
        lengths = await answered(pipeline.execute()) if names else []
        return {name for name, length in zip(names, lengths, strict=True) if length >= rows}

    async def rest(self, instance: str, upstream: str) -> Rest:
        """Say what the outbox still has, but for what is only carried."""
        keys = self._keys(instance)
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hlen(keys.open(upstream))
        pipeline.hget(keys.sealed(upstream), "id")
        pipeline.hgetall(keys.refused(upstream))
        open_rows, sealed, marks = await answered(pipeline.execute())
        carried = {
            mark.scope for mark in (mark_of(*each) for each in marks.items()) if mark.carried
        }
        if carried and open_rows:
            rows = await self.open_rows(instance, upstream, CARRIED_ROWS_MAX)
            sums = units_by_scope(carried, rows)
            open_rows -= sum(len(units) for units in sums.values() if sum(units) < 0)
        return Rest(max(0, open_rows), (sealed or b"").decode())

    async def _names(self, ask: Ask) -> Places:
        return await names_by_partition(self.topology, self.partitions, ask)

    def _keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, self.partitions)

    async def _lease(self, verb: str, partition: int, holder: str, ttl_ms: int) -> bool:
        key = PartitionKeys(partition).lease
        script = self.scripts.lease.run(self.client, [key], [verb, holder, ttl_ms])
        return Step(await answered(script)) is Step.DONE

    async def _attempt(
        self, verb: str, holder: str, batch: Batch, number: int, horizon_ms: int
    ) -> Step:
        keys = self._keys(batch.instance)
        reply = await self.durable.write(
            self.scripts.attempt,
            [keys.lease, keys.sealed(batch.upstream), keys.ledger],
            [verb, holder, batch.id, number, horizon_ms, batch.before],
        )
        return Step(reply)


def _batch(instance: str, upstream: str, fields: list[Any]) -> Batch | None:
    batch_id, rows, body, first_sent_ms, attempts, before = fields
    if batch_id is None:
        return None
    return Batch(
        id=batch_id.decode(),
        upstream=upstream,
        instance=instance,
        rows=decode_rows(rows),
        body=body,
        first_sent_ms=int(first_sent_ms) if first_sent_ms else None,
        attempts=int(attempts),
        before=(before or b"").decode(),
    )
