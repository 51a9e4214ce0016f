"""A backup has all of a store as it stood, and a restore brings it back, or is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.backups import End, Ids
from gateway.core.calls import Verdict
from gateway.core.ports import Standing
from gateway.core.usage import Batch
from gateway.service.backup import Backup
from gateway.service.restoring import Refused
from gateway.service.sweeping import Sweeper
from gateway.store import snapshots
from gateway.store.asides import Asides
from gateway.store.explained import read_why
from gateway.store.opening import open_store
from gateway.store.outbox import RedisOutbox
from tests.service.backup_house import (
    PARTITIONS,
    UPSTREAM,
    Site,
    aged,
    at,
    backed_up,
    busy,
    over_two,
    parts,
    restored,
    restoring,
    written,
)

WAITED = {"parked": 10, "open": 0, "sealed": 0}


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [PARTITIONS, 7])
def test_everything_comes_back_wherever_it_is_put(tmp_path: Path, partitions: int) -> None:
    """Round trip: every key, but for what a restore is to change; also over other partitions."""

    async def story(a: Site, b: Site) -> None:
        await busy(a)
        await aged(a)
        await restored(b.store, await backed_up(a.store), send=True)
        if partitions == PARTITIONS:
            before, after = await a.dump(), await b.dump()
            assert before == after
            assert len(before) > 20
        for name in a.names:
            assert await b.acked(name) == 7
            assert await b.acked(name, "L3") == 5
        for (name, key), (request, outcome) in a.journal.items():
            reply = await b.ask(name, key, request)
            assert (reply.verdict, reply.outcome) == (Verdict.REPLAYED, outcome)
            assert reply.echo == f"echo of {key}"
        why = await read_why(b.store.client, b.store.catalogues.keys("DEMO"), "k5")
        assert why is not None
        assert await b.acked("DEMO") == 7
        # Undo records came along: 7 can be given back, the 8th not.
        assert (await b.use("DEMO", "sessions", -8, "k6")).outcome.shortfalls
        assert not (await b.use("DEMO", "sessions", -7, "k7")).outcome.shortfalls
        assert await b.store.catalogues.default() == "DEMO"

    over_two(tmp_path, story, partitions=partitions)


@pytest.mark.slow
def test_what_came_after_the_snapshot_counts_anew_and_once(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "before")
        file = await backed_up(a.store)
        await a.use("DEMO", "sessions", 7, "after")
        losses = await restored(a.store, file)
        assert await a.acked("DEMO") == 5
        told = " ".join(losses.of["DEMO"].sentences)
        assert "1 requests decided" in told
        assert "line L1: 7 units acknowledged" in told
        for _ in range(2):
            await a.use("DEMO", "sessions", 7, "after")
            await a.use("DEMO", "sessions", 5, "before")
        assert await a.acked("DEMO") == 12

    over_two(tmp_path, story)


def test_an_id_answered_while_ids_are_read_is_not_in_the_file(tmp_path: Path) -> None:
    """Ids are read after the snapshots: one that came between has no units there."""

    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 5, "before")
        frames = []
        async for frame in Backup(a.store, "test").frames():
            if not frames:  # the header: no snapshot is taken yet
                await a.use("DEMO", "sessions", 1, "just in time")
            frames.append(frame)
            if frame == End("DEMO"):
                await a.use("DEMO", "sessions", 7, "between")
        await restored(b.store, written(frames))
        assert await b.acked("DEMO") == 6
        verdicts = [
            (await b.use("DEMO", "sessions", units, key)).verdict
            for units, key in ((5, "before"), (1, "just in time"), (7, "between"))
        ]
        assert verdicts == [Verdict.REPLAYED, Verdict.REPLAYED, Verdict.DONE]
        assert await b.acked("DEMO") == 13

    over_two(tmp_path, story)


def test_what_waited_is_set_aside_for_a_person(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 10, "k1")
        await restored(b.store, await backed_up(a.store))
        assert await parts(b) == WAITED
        store = b.store
        asides = Asides(store.topology, store.scripts, store.partitions)
        (batch,) = await asides.batches("DEMO", UPSTREAM)
        assert batch.standing is Standing.PARKED
        assert "it waited: the backup of 20" in batch.why

    over_two(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("send", [False, True])
def test_a_sealed_batch_keeps_its_id_and_bytes(tmp_path: Path, send: bool) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "sessions", 10, "k1")
        outbox = RedisOutbox(a.store.topology, a.store.scripts, PARTITIONS)
        partition = a.store.catalogues.keys("DEMO").partition
        assert await outbox.take_lease(partition, "a:1", 9_000)
        rows = tuple(await outbox.open_rows("DEMO", UPSTREAM, 10))
        await outbox.seal("a:1", Batch("b1", UPSTREAM, "DEMO", rows, b"body"), 1)
        await restored(b.store, await backed_up(a.store), send=send)
        if send:
            there = RedisOutbox(b.store.topology, b.store.scripts, PARTITIONS)
            batch = await there.sealed("DEMO", UPSTREAM)
            assert await parts(b) == {"parked": 0, "open": 0, "sealed": 10}
        else:
            asides = Asides(b.store.topology, b.store.scripts, PARTITIONS)
            batch = await asides.batch("DEMO", UPSTREAM, "b1")
            assert await parts(b) == WAITED
        assert batch is not None
        assert (batch.id, batch.body, batch.rows) == ("b1", b"body", rows)

    over_two(tmp_path, story)


@pytest.mark.slow
def test_what_went_upstream_since_is_never_sent_again(tmp_path: Path) -> None:
    """Whoever forces a restore agrees to forget, not to have units counted twice upstream."""

    async def story(a: Site, b: Site) -> None:
        older = await backed_up(a.store)
        await a.use("DEMO", "sessions", 10, "k1")
        file = await backed_up(a.store)
        assert (await restoring(a.store, file, send=True).look()).against_sending == ""
        outbox = RedisOutbox(a.store.topology, a.store.scripts, PARTITIONS)
        partition = a.store.catalogues.keys("DEMO").partition
        assert await outbox.take_lease(partition, "a:1", 9_000)
        rows = tuple(await outbox.open_rows("DEMO", UPSTREAM, 10))
        batch = Batch("b1", UPSTREAM, "DEMO", rows, b"body")
        await outbox.seal("a:1", batch, 1)
        assert "(DEMO)" in (await restoring(a.store, file, send=True).look()).against_sending
        await outbox.settle("a:1", batch)
        await outbox.drop_lease(partition, "a:1")
        for _ in range(2):  # as it is, and when the restore of an older one forgot that it had gone
            before = await a.dump()
            with pytest.raises(Refused, match="count twice"):
                await restored(a.store, file, send=True)
            assert await a.dump() == before
            await restored(a.store, older)
        await restored(a.store, file)
        assert await parts(a) == WAITED

    over_two(tmp_path, story)


@pytest.mark.slow
def test_seats_and_their_lapses_come_back(tmp_path: Path) -> None:
    async def story(a: Site, b: Site) -> None:
        await a.use("DEMO", "seats", 2, "k1")
        await restored(b.store, await backed_up(a.store))
        keys = b.store.catalogues.keys("DEMO")
        (lapse,) = await b.store.client.zrange(keys.lapse, 0, -1, withscores=True)
        assert await b.store.client.zscore(keys.due, "DEMO") == lapse[1]
        assert await b.store.client.hget(keys.used, "L2|0") == b"2"
        # A store whose clock is past that moment takes them back.
        clock = f"local function now() return {int(lapse[1]) + 1} end"
        async with open_store(
            "embedded", at(tmp_path, "b"), partitions=PARTITIONS, prelude=clock
        ) as later:
            await Sweeper(later.catalogues, later.lane).sweep("DEMO")
            assert await later.client.hget(keys.used, "L2|0") == b"0"
            assert not await later.client.exists(keys.holds)

    over_two(tmp_path, story)


@pytest.mark.slow
def test_the_past_is_read_again_when_it_changed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(a: Site, b: Site) -> None:
        await busy(a)
        await aged(a)
        client, keys = a.store.client, a.store.catalogues.keys("DEMO")
        reading, read = snapshots._pages, []

        async def folded_meanwhile(*args: Any) -> Any:
            found = await reading(*args)
            read.append(args[1])
            if len(read) == 1:
                await client.hset(keys.days(202403), "L2|20240306|p", 9)
            return found

        monkeypatch.setattr(snapshots, "_pages", folded_meanwhile)
        await restored(b.store, await backed_up(a.store), send=True)
        assert read.count(keys.days(202403)) == 2
        assert await a.dump() == await b.dump()

    over_two(tmp_path, story)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [PARTITIONS, 256])
def test_ids_of_an_earlier_release_are_told_apart_or_left_out(
    tmp_path: Path, partitions: int
) -> None:
    """They have no number: alone in its partition an instance owns them, else nobody can tell."""

    async def story(a: Site, b: Site) -> None:
        names = ("DEMO", "SITE-1", "SITE-2", *(f"S{number}" for number in range(4)))
        a.names = names if partitions == PARTITIONS else names[:1]
        await a.provision()
        await a.use("DEMO", "sessions", 5, "k1")
        (key,) = await a.store.client.keys("gw:*:d:*")
        kept = msgspec.msgpack.decode(await a.store.client.get(key), type=list[Any])
        await a.store.client.set(key, msgspec.msgpack.encode(kept[:4]), px=60_000)
        await a.use("DEMO", "sessions", 5, "k2")  # so that k1 is before the last transaction
        making = Backup(a.store, "test")
        frames = [frame async for frame in making.frames()]
        ids = [each for frame in frames if isinstance(frame, Ids) for each in frame.ids]
        assert (len(ids), making.unsure) == ((1, 1) if partitions == PARTITIONS else (2, 0))

    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=partitions) as store:
            await story(Site(store), Site(store))

    asyncio.run(main())
