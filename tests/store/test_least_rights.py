"""A user of the store with the rights that the README gives it, and no others, is enough.

For each kind of store, with all that is done over one beside answering requests.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from gateway.store.keys import InstanceKeys
from gateway.store.opening import open_store
from gateway.store.scripts import Scripts
from gateway.store.server import StoreAway
from tests.store.chores import Chores
from tests.store.rights import (
    CLUSTER_RIGHTS,
    RIGHTS,
    SECRET,
    SENTINEL_RIGHTS,
    USER,
    WATCHER,
    allow,
    refused,
    url_of,
    url_of_watched,
)
from tests.stores import clusters
from tests.stores.clusters import Cluster
from tests.stores.sentinels import QUIET_MS, Sentinels
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove

ROOT = Path(__file__).parents[2]
PARTITIONS = 16
PORTION_KEYS = 5
PORTION_S = 0.02  # that nothing is moved in, so that everything comes by


async def nothing() -> None:
    return None


async def all_is_done(
    url: str, data_dir: Path, ack: str, meanwhile: Callable[[], Awaitable[object]] = nothing
) -> None:
    async with open_store(url, data_dir, partitions=PARTITIONS, ack=ack) as store:
        chores = Chores(store, [f"SITE-{number}" for number in range(4)])
        await chores.provision()
        with chores.listening():
            chores.begin()
            try:
                await chores.done_again()
                await meanwhile()
                await chores.done_again()
            finally:
                await chores.end()
            await chores.check()


def test_every_command_of_every_script_is_allowed() -> None:
    texts = [script.text for script in vars(Scripts()).values()]
    told = {name for text in texts for name in re.findall(r"(?:call|store)\('([A-Z]+)'", text)}
    assert len(told) > 20
    assert {f"+{name.lower()}" for name in told} <= set(RIGHTS)


def test_what_is_not_allowed_is_told_without_the_password(tmp_path: Path) -> None:
    async def story(server: Server, url: str) -> None:
        with pytest.raises(StoreAway, match="permission") as told:
            async with open_store(url, tmp_path, partitions=PARTITIONS):
                pass
        assert SECRET[:4] not in str(told.value)
        assert server.ask("DBSIZE") == 0

    server = Server(tmp_path / "store")
    allow([server], [each for each in RIGHTS if each != "+info"])
    with server:
        asyncio.run(story(server, url_of(server.url)))


@pytest.mark.slow
@pytest.mark.parametrize("ack", ["written", "local"])
def test_one_server(tmp_path: Path, ack: str) -> None:
    server = Server(tmp_path / "store", appendfsync="always")
    allow([server], RIGHTS)
    with server:
        asyncio.run(all_is_done(url_of(server.url), tmp_path, ack))
        assert refused([server]) == set()


@pytest.mark.slow
@pytest.mark.parametrize("ack", ["replica", "replica_fsync"])
def test_a_primary_behind_sentinels(tmp_path: Path, ack: str) -> None:
    quiet: dict[str, Any] = {"down_after_ms": QUIET_MS, "appendfsync": "always"}
    house = Sentinels(tmp_path / "store", replicas=1, **quiet)
    allow(house.servers, RIGHTS)
    allow(house.sentinels, SENTINEL_RIGHTS, WATCHER)
    with house:
        asyncio.run(all_is_done(url_of_watched(house.url), tmp_path, ack))
        assert refused([*house.servers, *house.sentinels]) == set()


@pytest.mark.slow
def test_a_cluster_with_a_slot_on_its_way(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "store", cluster_node_timeout=clusters.QUIET_MS)
    allow(cluster.servers, CLUSTER_RIGHTS)

    def moved() -> None:
        key = InstanceKeys("SITE-0", PARTITIONS).cat
        owner = cluster.owner_of(key)
        other = next(each for each in cluster.primaries() if each is not owner)
        move = SlotMove(cluster, key_slot(key.encode()), other)
        move.begin()
        while move.portion(PORTION_KEYS):
            time.sleep(PORTION_S)
        move.finish()

    async def meanwhile() -> None:
        await asyncio.to_thread(moved)

    with cluster:
        asyncio.run(all_is_done(url_of(cluster.url), tmp_path, "replica", meanwhile))
        assert refused(cluster.servers) == set()


def test_readme_gives_these_rights_and_no_others() -> None:
    """What the README tells the owner of a store is what was tried here."""
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"ACL SETUSER {USER} on >PASSWORD {' '.join(RIGHTS)} ```" in readme
    assert f"`{' '.join(CLUSTER_RIGHTS[len(RIGHTS) :])}`" in readme
    assert f"`ACL SETUSER {WATCHER} on >PASSWORD {' '.join(SENTINEL_RIGHTS)}`" in readme
