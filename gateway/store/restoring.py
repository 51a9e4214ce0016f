"""An instance put in the place of another state of it: staged, closed, swapped.

Decided here: the three steps, and what makes each safe. What a restore brings is staged under keys
of its own, in the same slot. Before anything of the present state is touched, the instance is
closed: its catalogue is put by and its version moves on, so that whoever has it cached is refused
and whoever reads it finds none. The swap is one transaction, and opens it. A restore that is cut
off leaves an instance as it was, closed, or restored; the next run goes on from each of them.
Not decided here: whether it may be replaced (core/histories.py), in which order ids and instances
go (service/restoring.py). Source: DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from gateway.core.backups import text_fields
from gateway.core.errors import GatewayError, Unavailable
from gateway.core.histories import State
from gateway.store.durability import NO_WAIT, Wait
from gateway.store.durable import Durable, answered
from gateway.store.keys import STAGED, InstanceKeys
from gateway.store.snapshots import Entry, Shape, read_record, read_shape
from gateway.store.topology import Client, Topology
from gateway.store.walks import Fields

VERSION_STRIDE: Final = 1_000  # gateways may know versions that were never in this store
RESTORED: Final = "restore"  # in the record, a decision that changes nothing of another one's
SCORED: Final = ("lapse", "seen")  # parts that are sorted sets
CLEAR_KEYS: Final = 100  # deleted in one step


class Changed(GatewayError):
    """The instance changed while it was looked at; nothing was done to it."""


@dataclass(frozen=True)
class Present:
    """What the store has of an instance: None for shape and state where it has none."""

    shape: Shape | None = None
    state: State | None = None
    closed: bool = False


@dataclass
class Restoring:
    """The way to replace instances of a store. All methods raise Unavailable; a repeat is safe."""

    topology: Topology
    partitions: int
    wait: Wait = NO_WAIT
    _staged: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each part has

    @property
    def client(self) -> Client:
        """What takes ordinary commands."""
        return self.topology.client

    async def present(self, instance: str) -> Present:
        """Read how far an instance is; one that a former run has closed is read as it was."""
        keys = InstanceKeys(instance, self.partitions)
        shape = await read_shape(self.client, keys)
        if shape is None:
            return Present()
        decisions: set[str] = set()
        async for entries in read_record(self.client, keys):
            decisions |= decisions_in(entries)
        pipeline = self.client.pipeline(transaction=True)
        pipeline.hmget(keys.cat, ["version", "blob", "closed_version", "closed_blob"])
        pipeline.hgetall(keys.ledger)
        for name in shape.upstreams:
            pipeline.hgetall(keys.sealed(name))
            pipeline.hkeys(keys.aside(name))
        (version, blob, was, put_by), ledger, *outboxes = await answered(pipeline.execute())
        pairs = zip(outboxes[::2], outboxes[1::2], strict=True)
        return Present(
            shape,
            State(
                text_fields(ledger),
                int((version if blob else was) or 0),
                blob or put_by,
                frozenset(one for sealed, names in pairs for one in batches_in(sealed, names)),
                frozenset(decisions),
            ),
            closed=not blob,
        )

    async def close(self, instance: str, present: Present) -> None:
        """Take an instance out of service if it still stands as it was found. Raises Changed."""
        if not present.closed:
            await answered(self._close(instance, present))

    async def _close(self, instance: str, present: Present) -> None:
        if present.shape is None or present.state is None:
            return
        keys = InstanceKeys(instance, self.partitions)
        watched = [keys.cat, keys.ledger, keys.record]
        for name in present.shape.upstreams:
            watched += [keys.sealed(name), keys.aside(name)]
        async with self.client.pipeline(transaction=True) as pipeline:
            try:
                await pipeline.watch(*watched)
                if await self.present(instance) != present:
                    raise WatchError
                version, blob = present.state.version, present.state.blob
                pipeline.multi()  # type: ignore[no-untyped-call]
                put_by: Any = {"closed_version": version, "closed_blob": blob}
                pipeline.hset(keys.cat, mapping=put_by | {"version": version + VERSION_STRIDE})
                pipeline.hdel(keys.cat, "blob")
                await pipeline.execute()
            except WatchError:
                raise Changed(
                    f"Instance {instance} changes while it is looked at: a gateway is running. Stop"
                    " all gateways and forwarders, then run this again"
                ) from None

    async def reopen(self, instance: str) -> None:
        """Put an instance back in service that was closed, and of which nothing was changed."""
        keys = InstanceKeys(instance, self.partitions)
        found: Any = await answered(self.client.hget(keys.cat, "closed_blob"))
        if found is not None:
            pipeline = self.client.pipeline(transaction=True)
            pipeline.hset(keys.cat, "blob", found)
            pipeline.hdel(keys.cat, "closed_blob", "closed_version")
            await answered(pipeline.execute())

    async def clear(self, instance: str, shape: Shape) -> None:
        """Begin to stage an instance of this shape: what a former run has left is taken away."""
        staged = InstanceKeys(instance, self.partitions, STAGED)
        names = [staged.record, *map(staged.part, shape.parts)]
        for start in range(0, len(names), CLEAR_KEYS):
            await answered(self.client.delete(*names[start : start + CLEAR_KEYS]))
        self._staged[instance] = {}

    async def stage(self, instance: str, name: str, fields: Mapping[bytes, bytes]) -> None:
        """Add to a part that will be swapped in."""
        if not fields:
            return
        key = await self._staging(instance, name)
        pairs: Any = dict(fields)
        if name in SCORED:
            added: Any = await answered(self.client.zadd(key, pairs))
        else:
            added = await answered(self.client.hset(key, mapping=pairs))
        self._staged[instance][name] += added

    async def stage_record(self, instance: str, entries: Sequence[Entry]) -> None:
        """Add to the record that will be swapped in; ascending."""
        if not entries:
            return
        key = await self._staging(instance, "record")
        pipeline = self.client.pipeline(transaction=False)
        for stream_id, texts in entries:
            pipeline.execute_command("XADD", key, stream_id, *texts)
        await answered(pipeline.execute())
        self._staged[instance]["record"] = entries[-1][0]

    async def swap(self, instance: str, present: Present, decision: Sequence[str]) -> None:
        """Put what was staged in the place of what there is, in one step, and on record.

        `decision` are names and values. The instance is in service afterwards, as safely as `wait`
        asks.
        """
        keys = InstanceKeys(instance, self.partitions)
        staged = InstanceKeys(instance, self.partitions, STAGED)
        names = self._staged.pop(instance)
        first: Any = []
        if "lapse" in names:
            first = await answered(self.client.zrange(staged.lapse, 0, 0, withscores=True))
        old = present.shape.parts if present.shape else []
        gone = [keys.part(name) for name in (*old, "record") if name not in names]
        async with self.client.pipeline(transaction=True) as pipeline:
            await answered(self._check_staged(pipeline, staged, names))
            pipeline.multi()  # type: ignore[no-untyped-call]
            pipeline.delete(*gone, keys.cat)
            for name in names:
                pipeline.rename(staged.part(name), keys.part(name))
            pipeline.execute_command("XADD", keys.record, "*", *decision)
            pipeline.sadd(keys.instances, instance)
            pipeline.sadd(keys.dirty, instance)  # who forwards looks, and takes it away again
            if first:
                pipeline.zadd(keys.due, {instance: first[0][1]})
            else:
                pipeline.zrem(keys.due, instance)
            await answered(pipeline.execute())
        # Later in the same slot: what is waited for here covers all that went before.
        await Durable(self.topology, self.wait).run("SADD", keys.instances, instance)

    async def _check_staged(
        self, pipeline: Pipeline, staged: InstanceKeys, names: Mapping[str, Any]
    ) -> None:
        """See to it that all that was staged is there, and stays so until the swap.

        A primary that took over meanwhile may lack the end of it. Raises Unavailable.
        """
        await pipeline.watch(*map(staged.part, names))
        for name, has in names.items():
            found: Any
            if name == "record":
                last: Any = await pipeline.xrevrange(staged.record, count=1)
                found = last[0][0].decode() if last else ""
            elif name in SCORED:
                found = await pipeline.zcard(staged.part(name))
            else:
                asked: Any = pipeline.hlen(staged.part(name))
                found = await asked
            if found != has:
                raise Unavailable(
                    "The store lost what was staged: a replica took over. Run this again",
                    "not_applied",
                )

    async def _staging(self, instance: str, name: str) -> str:
        """Give the key under which a part is staged; the first time without what it had."""
        key = InstanceKeys(instance, self.partitions, STAGED).part(name)
        names = self._staged[instance]
        if name not in names:
            await answered(self.client.delete(key))
            names[name] = 0
        return key


def batches_in(sealed: Fields, aside: Sequence[bytes]) -> set[str]:
    """Give the ids of the batch under way, of the halves behind it, and of what is set aside."""
    under_way = {text.decode() for name, text in sealed.items() if name.partition(b".")[0] == b"id"}
    kept = {name.decode().rpartition("|")[0] for name in aside if name.endswith(b"|facts")}
    return under_way | kept


def decisions_in(entries: Sequence[Entry]) -> set[str]:
    """Give the ids of those entries of a record that are decisions about usage."""
    return {
        stream_id
        for stream_id, texts in entries
        if not dict(zip(texts[::2], texts[1::2], strict=True))
        .get(b"what", b"")
        .startswith(RESTORED.encode())
    }
