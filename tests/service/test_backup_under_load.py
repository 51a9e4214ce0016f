"""A backup taken amid traffic: each answer is in it with its units, or is not at all."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from pathlib import Path

import pytest
from redis.crc import key_slot

from gateway.core.backups import Ids
from gateway.core.calls import Verdict
from gateway.core.errors import Unavailable
from gateway.core.model import Outcome
from gateway.protocols.backup_file import read_frames
from gateway.store.opening import open_store
from tests.service.backup_house import Site, at, backed_up, restored, wanting
from tests.store.rights import CLUSTER_RIGHTS, RIGHTS, allow, refused, url_of
from tests.stores.clusters import Cluster
from tests.stores.homes import emptied
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove

PARTITIONS = 16
CLIENTS = 8
WANTS = (("sessions", 1), ("sessions", 7), ("sessions", -2), ("seats", 1), ("pages", 3))
pytestmark = pytest.mark.slow


class Traffic:
    """Clients that ask at random, some of it twice; `done` counts what was answered."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.random, self.done, self.ending = site, random.Random(seed), 0, False  # noqa: S311  a test
        self.tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]

    async def _client(self, client: int) -> None:
        number = 0
        while not self.ending:
            number += 1
            key, name = f"c{client}-{number}", self.random.choice(self.site.names)
            request = wanting(*self.random.choice(WANTS), f"h{self.random.randrange(6)}")
            for _ in range(self.random.choice((1, 1, 1, 2))):
                await self.site.ask(name, key, request, self.random.choice((0, 60_000)))
            self.done += 1

    async def more(self, answers: int) -> None:
        """Wait until so many more are answered; raises what a client has raised."""
        until = self.done + answers
        while self.done < until:
            for task in self.tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.ending = True
        await asyncio.gather(*self.tasks)


async def backed_up_under_load(site: Site, seed: int) -> tuple[bytes, set[tuple[str, str]]]:
    """Give a file, and the answers that were given before it was begun."""
    traffic = Traffic(site, seed)
    await traffic.more(100)
    before = set(site.journal)
    during = asyncio.create_task(backed_up(site.store))
    await traffic.more(30)
    file = await during
    await traffic.more(50)
    await traffic.end()
    return file, before


async def held_to_the_journal(there: Site, site: Site, before: set[tuple[str, str]]) -> None:
    """Send every request again: what is replayed was counted, what is not counts now, once."""
    present = {name: await there.acked(name) for name in site.names}
    replayed: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    verdicts: Counter[Verdict] = Counter()
    for (name, key), (request, outcome) in site.journal.items():
        reply = await there.ask(name, key, request)
        verdicts[reply.verdict] += 1
        assert reply.outcome is not None
        if reply.verdict is Verdict.REPLAYED:
            assert reply.outcome == outcome
            replayed[name] += units(outcome)
        else:
            assert (name, key) not in before, "an answer given before the backup was lost"
            counted[name] += units(reply.outcome)
    assert present == {name: replayed[name] for name in site.names}
    assert verdicts[Verdict.REPLAYED] > 50
    assert verdicts[Verdict.DONE] > 20
    for (name, key), (request, _) in site.journal.items():
        assert (await there.ask(name, key, request)).verdict is Verdict.REPLAYED
    for name in site.names:
        assert await there.acked(name) == replayed[name] + counted[name]


def units(outcome: Outcome) -> int:
    return sum(grant.units for grant in outcome.grants if grant.line == "L1")


@pytest.mark.parametrize("seed", range(4))
def test_into_a_fresh_store(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        async with (
            open_store("embedded", at(tmp_path, "a"), partitions=2) as here,
            open_store("embedded", at(tmp_path, "b"), partitions=PARTITIONS) as there,
        ):
            site, other = Site(here), Site(there)
            await site.provision()
            file, before = await backed_up_under_load(site, seed)
            await restored(there, file)
            await held_to_the_journal(other, site, before)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(2))
def test_over_the_store_that_went_on(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        async with open_store("embedded", tmp_path, partitions=2) as here:
            site = Site(here)
            await site.provision()
            file, before = await backed_up_under_load(site, seed)
            losses = await restored(here, file)
            assert set(losses.of) == set(site.names)
            await held_to_the_journal(Site(here), site, before)

    asyncio.run(main())


def test_out_of_a_cluster_into_one_server(tmp_path: Path, three_nodes: Cluster) -> None:
    async def main() -> None:
        url = emptied(three_nodes)
        async with (
            open_store(url, tmp_path, partitions=PARTITIONS) as here,
            open_store("embedded", at(tmp_path, "b"), partitions=2) as there,
        ):
            site = Site(here)
            await site.provision()
            file, before = await backed_up_under_load(site, 1)
            await restored(there, file)
            await held_to_the_journal(Site(there), site, before)

    asyncio.run(main())


def test_no_backup_is_made_while_a_slot_is_on_its_way(tmp_path: Path) -> None:
    """Its keys come by in neither place, or in both: an id might be missed."""

    async def main(cluster: Cluster) -> None:
        async with open_store(cluster.url, tmp_path, partitions=PARTITIONS) as store:
            site = Site(store)
            await site.provision()
            for number in range(20):
                await site.use("DEMO", "sessions", 1, f"k{number}")
            key = store.catalogues.keys("DEMO").cat
            owner = cluster.owner_of(key)
            other = next(each for each in cluster.primaries() if each is not owner)
            move = SlotMove(cluster, key_slot(key.encode()), other)
            await asyncio.to_thread(move.begin)
            assert await asyncio.to_thread(move.portion)
            with pytest.raises(Unavailable, match="slot is on its way"):
                await backed_up(store, ["SITE-1"])  # whose slot stays where it is
            while await asyncio.to_thread(move.portion):
                pass
            await asyncio.to_thread(move.finish)
            file = await backed_up(store)
            ids = [each for frame in read_frames(io.BytesIO(file)) if isinstance(frame, Ids)
                   for each in frame.ids]  # fmt: skip
            assert len({each.name for each in ids}) == 20

    with Cluster(tmp_path / "cluster", replicas=0) as cluster:
        asyncio.run(main(cluster))


def test_out_of_one_server_into_a_cluster_with_the_least_rights(tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    cluster = Cluster(tmp_path / "cluster", replicas=0)
    allow([server], RIGHTS)
    allow(cluster.servers, CLUSTER_RIGHTS)

    async def main() -> None:
        one, many = url_of(server.url), url_of(cluster.url)
        async with (
            open_store(one, tmp_path, partitions=PARTITIONS) as here,
            open_store(many, tmp_path, partitions=PARTITIONS) as there,
        ):
            site = Site(here)
            await site.provision()
            file, before = await backed_up_under_load(site, 1)
            for _ in range(2):  # also over what is there
                await restored(there, file)
            await held_to_the_journal(Site(there), site, before)

    with server, cluster:
        asyncio.run(main())
        assert refused([server, *cluster.servers]) == set()
