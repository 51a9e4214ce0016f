"""The outbox in the store: leases, open rows, the one sealed batch per instance and upstream.

Decided here: how rows and batches are spelt in the store, what is read at once, and that what a
script wrote is as safe as an acknowledged count before the caller goes on. Not decided here: what
each step means (the head of each Lua file) and in which order steps are taken (upstream/).
Reads and scripts may be repeated at any time; a store that does not answer is Unavailable.
Source: DESIGN 4 and 5, RELIABILITY 2.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway.core.errors import Unavailable
from gateway.core.ports import Rest, Step
from gateway.core.usage import Batch, Row
from gateway.store.keys import InstanceKeys, PartitionKeys
from gateway.store.scripts import Script, Scripts, refused

SCAN_COUNT: Final = 1_000  # fields per step; a larger step would hold the store for longer
DUE_MAX: Final = 100  # instances of a partition told at once; the next look tells more
FSYNC_MS_MAX: Final = 800  # below the client's socket time-out

_T = TypeVar("_T")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_rows: Final = msgspec.msgpack.Decoder(tuple[Row, ...]).decode


@dataclass
class RedisOutbox:
    """The outbox of a store. `fsync`: each step waits for the disk (Strength.fsync_each_call)."""

    client: Redis
    scripts: Scripts
    partitions: int
    fsync: bool = False

    async def dirty(self) -> dict[int, list[str]]:
        """List the instances that have something to forward, by partition, sorted."""
        pipeline = self.client.pipeline(transaction=False)
        for partition in range(self.partitions):
            pipeline.smembers(PartitionKeys(partition).dirty)
        return _by_partition(await _answered(pipeline.execute()))

    async def due(self, now_ms: int) -> dict[int, list[str]]:
        """List the instances where something lapses by `now_ms`, by partition, DUE_MAX of each."""
        pipeline = self.client.pipeline(transaction=False)
        for partition in range(self.partitions):
            due = PartitionKeys(partition).due
            pipeline.zrangebyscore(due, "-inf", now_ms, start=0, num=DUE_MAX)
        return _by_partition(await _answered(pipeline.execute()))

    async def take_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
        """Take the lease of a partition for a holder; False: somebody else has it."""
        return await self._lease("take", partition, holder, ttl_ms)

    async def keep_lease(self, partition: int, holder: str, ttl_ms: int) -> bool:
        """Prolong a lease; False: it is lost, and must not be worked under any more."""
        return await self._lease("keep", partition, holder, ttl_ms)

    async def drop_lease(self, partition: int, holder: str) -> bool:
        """Give a lease back; False: it was lost before."""
        return await self._lease("drop", partition, holder, 0)

    async def open_rows(self, instance: str, upstream: str, rows_max: int) -> list[Row]:
        """Read open rows, at least `rows_max` of them when there are so many, in no order."""
        key = self._keys(instance).open(upstream)
        found: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            step: Awaitable[Any] = self.client.hscan(key, cursor, count=SCAN_COUNT)
            cursor, fields = await _answered(step)
            found.update(fields)
            if not cursor or len(found) >= rows_max:
                return [_row(field, units) for field, units in found.items()]

    async def sealed(self, instance: str, upstream: str) -> Batch | None:
        """Read the batch under way, or None."""
        key = self._keys(instance).sealed(upstream)
        fields = ["id", "rows", "body", "first_sent_ms", "attempts"]
        return _batch(instance, upstream, await _answered(self.client.hmget(key, fields)))

    async def seal(self, holder: str, batch: Batch) -> tuple[Step, Batch | None]:
        """Move the batch's rows from open to sealed, and give what is sealed now.

        DONE with this batch, GONE with the one that was sealed already (nothing moved), or
        LEASE_LOST with None.
        """
        keys = self._keys(batch.instance)
        code, *fields = await self._write(
            self.scripts.seal,
            [keys.lease, keys.open(batch.upstream), keys.sealed(batch.upstream), keys.ledger],
            [holder, batch.upstream, batch.id, _encode(batch.rows), batch.body],
        )
        step = Step(code)
        if step is Step.LEASE_LOST:
            return step, None
        return step, _batch(batch.instance, batch.upstream, fields)

    async def begin_attempt(self, holder: str, batch: Batch, horizon_ms: int) -> Step:
        """Note that attempt `batch.attempts` + 1 begins; only after DONE may a byte be sent.

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
        reply = await self._write(
            self.scripts.settle,
            [keys.lease, keys.sealed(batch.upstream), keys.ledger],
            [holder, batch.upstream, batch.id],
        )
        return Step(reply)

    async def unseal(self, holder: str, batch: Batch) -> Step:
        """Give a refused batch's units back to open; GONE when that was done before."""
        keys = self._keys(batch.instance)
        reply = await self._write(
            self.scripts.unseal,
            [keys.lease, keys.open(batch.upstream), keys.sealed(batch.upstream), keys.ledger],
            [holder, batch.upstream, batch.id],
        )
        return Step(reply)

    async def clean(self, instance: str, version: int, upstreams: list[str]) -> bool:
        """Take the instance's dirty mark away when nothing is open or sealed for any upstream.

        `upstreams` are all that the catalogue attaches in its `version`; in another, nothing is
        done.
        """
        keys = self._keys(instance)
        outboxes = [key(name) for name in upstreams for key in (keys.open, keys.sealed)]
        script = self.scripts.clean.run(
            self.client, [keys.cat, keys.dirty, *outboxes], [instance, version]
        )
        return bool(await _answered(script))

    async def rest(self, instance: str, upstream: str) -> Rest:
        """Say what the outbox still has."""
        keys = self._keys(instance)
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hlen(keys.open(upstream))
        pipeline.hget(keys.sealed(upstream), "id")
        open_rows, sealed = await _answered(pipeline.execute())
        return Rest(open_rows, (sealed or b"").decode())

    def _keys(self, instance: str) -> InstanceKeys:
        return InstanceKeys(instance, self.partitions)

    async def _lease(self, verb: str, partition: int, holder: str, ttl_ms: int) -> bool:
        key = PartitionKeys(partition).lease
        script = self.scripts.lease.run(self.client, [key], [verb, holder, ttl_ms])
        return Step(await _answered(script)) is Step.DONE

    async def _attempt(
        self, verb: str, holder: str, batch: Batch, number: int, horizon_ms: int
    ) -> Step:
        keys = self._keys(batch.instance)
        reply = await self._write(
            self.scripts.attempt,
            [keys.lease, keys.sealed(batch.upstream)],
            [verb, holder, batch.id, number, horizon_ms],
        )
        return Step(reply)

    async def _write(self, script: Script, keys: list[str], args: list[Any]) -> Any:
        """Run a script; at a level that asks for it, wait until the disk has what it wrote."""
        if not self.fsync:
            return await _answered(script.run(self.client, keys, args))
        for _ in range(2):
            # One connection, because WAITAOF speaks only for the one that wrote.
            pipeline = self.client.pipeline(transaction=False)
            pipeline.evalsha(script.sha, len(keys), *keys, *args)
            pipeline.execute_command("WAITAOF", 1, 0, FSYNC_MS_MAX)
            reply, synced = await _answered(pipeline.execute(raise_on_error=False))
            if isinstance(reply, NoScriptError):
                await _answered(self.client.script_load(script.text))
                continue
            for each in (reply, synced):
                if isinstance(each, RedisError):
                    raise _unavailable(each) from each
            if synced[0] < 1:
                raise Unavailable("Applied, but not yet safe on disk", "applied_not_durable")
            return reply
        raise Unavailable("The store forgets its scripts", "not_applied")


async def _answered(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except (RedisError, OSError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, RedisError) and refused(error):
        return Unavailable("The store refuses to write", "not_applied")
    return Unavailable("The store gave no usable answer", "unknown")


def _by_partition(replies: list[Any]) -> dict[int, list[str]]:
    return {
        partition: sorted(name.decode() for name in names)
        for partition, names in enumerate(replies)
        if names
    }


def _row(field: bytes, units: bytes) -> Row:
    # A host's value may hold a bar, a line's id does not.
    line, hour, *host = field.decode().split("|", 2)
    return Row(line, int(hour), host[0] if host else "", int(units))


def _batch(instance: str, upstream: str, fields: list[Any]) -> Batch | None:
    batch_id, rows, body, first_sent_ms, attempts = fields
    if batch_id is None:
        return None
    return Batch(
        id=batch_id.decode(),
        upstream=upstream,
        instance=instance,
        rows=_decode_rows(rows),
        body=body,
        first_sent_ms=int(first_sent_ms) if first_sent_ms else None,
        attempts=int(attempts),
    )
