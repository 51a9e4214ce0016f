"""Sealing and settling, in a real store and by the equation: units move, and none is lost.

Decided here: what each step has to do to open rows and to the ledger's sums, and that a repeat does
nothing. Rows are chosen by the code under test; whatever it chooses, the books must balance.
"""

from __future__ import annotations

from itertools import count

from gateway.core.ports import Step
from gateway.core.usage import Batch, Row, choose_rows
from gateway.store.outbox import RedisOutbox
from tests.model.twins import Twin, World

HOLDER = "model:1"
STRANGER = "somebody:2"
LEASE_MS = 60_000
ROWS_MAX = 3  # so that a batch seldom takes everything

_numbers = count(1)


async def seal(world: World, twin: Twin, upstream: str) -> None:
    """Seal a batch, and once more, and once as a stranger: only the first changes anything."""
    outbox = await _leased(world, twin)
    rows = await outbox.open_rows(twin.keys.instance, upstream, 10_000)
    by_host = next(u.by_host for u in twin.index.catalogue.upstreams if u.name == upstream)
    choice = choose_rows(rows, twin.index.line, by_host=by_host, rows_max=ROWS_MAX)
    if choice.rows:
        batch = Batch(f"b{next(_numbers)}", upstream, twin.keys.instance, choice.rows, b"body")
        assert await outbox.seal(STRANGER, batch) == (Step.LEASE_LOST, None)
        known = twin.sealed.get(upstream)
        if known is None:
            twin.sealed[upstream] = known = batch
            _move(twin, batch, -1, "sealed")
            assert (Step.DONE, batch) == await outbox.seal(HOLDER, batch)
        assert (Step.GONE, known) == await outbox.seal(HOLDER, batch)
    await outbox.drop_lease(twin.keys.partition, HOLDER)


async def settle(world: World, twin: Twin, upstream: str) -> None:
    """Settle what is sealed; a repeat and a stranger change nothing."""
    outbox = await _leased(world, twin)
    batch = twin.sealed.pop(upstream)
    assert await outbox.settle(STRANGER, batch) is Step.LEASE_LOST
    for row in batch.rows:
        _add(twin, "sealed", row, upstream, -row.units)
        _add(twin, "forwarded", row, upstream, row.units)
    assert await outbox.settle(HOLDER, batch) is Step.DONE
    assert await outbox.settle(HOLDER, batch) is Step.GONE
    assert await outbox.unseal(HOLDER, batch) is Step.GONE
    await outbox.drop_lease(twin.keys.partition, HOLDER)


async def unseal(world: World, twin: Twin, upstream: str) -> None:
    """Give what is sealed back to open; a repeat and a stranger change nothing."""
    outbox = await _leased(world, twin)
    batch = twin.sealed.pop(upstream)
    assert await outbox.unseal(STRANGER, batch) is Step.LEASE_LOST
    _move(twin, batch, 1, "sealed")
    assert await outbox.unseal(HOLDER, batch) is Step.DONE
    assert await outbox.unseal(HOLDER, batch) is Step.GONE
    assert await outbox.settle(HOLDER, batch) is Step.GONE
    await outbox.drop_lease(twin.keys.partition, HOLDER)


async def _leased(world: World, twin: Twin) -> RedisOutbox:
    outbox = RedisOutbox(world.store.client, world.store.scripts, world.store.partitions)
    assert await outbox.take_lease(twin.keys.partition, HOLDER, LEASE_MS)
    return outbox


def _move(twin: Twin, batch: Batch, sign: int, place: str) -> None:
    """Add a batch's units to open with a sign, and take them from a place."""
    rows = twin.state.open.setdefault(batch.upstream, {})
    for row in batch.rows:
        key = (row.line, row.hour, row.host)
        rows[key] = rows.get(key, 0) + sign * row.units
        if not rows[key]:
            del rows[key]
        _add(twin, place, row, batch.upstream, -sign * row.units)


def _add(twin: Twin, place: str, row: Row, upstream: str, units: int) -> None:
    name = f"{place}|{row.line}|{upstream}"
    twin.ledger[name] = twin.ledger.get(name, 0) + units
