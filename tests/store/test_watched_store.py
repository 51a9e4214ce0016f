"""A store in use: whether its gateway is ready, what is logged, and one whose shards differ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.service import health
from gateway.service.health import reasons_not_ready, watched
from gateway.store import opening
from gateway.store.durability import NO_WAIT
from gateway.store.findings import Finding, Verdict
from gateway.store.opening import Store, open_store
from gateway.store.server import StoreUnfit
from gateway.store.strength import Strength
from tests.store.lane_bench import eventually
from tests.store.topologies import examine_each_time, until
from tests.stores.clusters import Cluster
from tests.stores.servers import Server, in_sync
from tests.system import processes


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("watched")) as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    yield _server
    _server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "EXAMINE_S", 0.0)
    monkeypatch.setattr(health, "WATCH_S", 0.01)
    monkeypatch.setattr(health, "LOOK_S_MAX", 40.0)


def over(url: str, tmp_path: Path, story: Callable[[Store], Any], **settings: Any) -> None:
    async def run() -> None:
        async with open_store(url, tmp_path, partitions=8, **settings) as store:
            await story(store)

    asyncio.run(run())


def test_change_of_verdict_is_logged_once_though_nobody_asks(
    server: Server, tmp_path: Path
) -> None:
    async def story(store: Store) -> None:
        with capture_logs() as lines:
            async with watched(store):
                await looks(store, 3)
                assert lines == []
                server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
                await eventually(lambda: len(lines) == 1)
                await looks(store, 3)
                server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
                await eventually(lambda: len(lines) == 2)
                await looks(store, 3)
        weak, fit = lines
        assert (weak["event"], weak["log_level"], weak["ack"]) == (
            "store_weak",
            "warning",
            "written",
        )
        assert weak["why"].endswith("could be evicted; set maxmemory-policy noeviction")
        assert (fit["event"], fit["log_level"]) == ("store_fit", "info")

    over(server.url, tmp_path, story)


def test_store_that_may_be_weaker_is_ready_and_says_so_once(server: Server, tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        with capture_logs() as lines:
            async with watched(store):
                await looks(store, 3)
        assert [line["event"] for line in lines] == ["store_weak"]
        assert "replicas connected: 0" in lines[0]["why"]
        assert await reasons_not_ready(store, time.time) == []

    over(server.url, tmp_path, story, ack="replica", allow_weaker=True)


def test_watch_ends_with_the_store_away(tmp_path: Path) -> None:
    async def story(store: Store) -> None:
        with capture_logs() as lines:
            async with watched(store):
                server.kill()
                assert await reasons_not_ready(store, time.time) == ["The store cannot be reached"]
        assert lines == []

    with Server(tmp_path / "store") as server:
        over(server.url, tmp_path, story)


async def looks(store: Store, count: int) -> None:
    """Wait for that many examinations from now on."""
    for _ in range(count):
        before = store._examined_at_s
        await eventually(lambda before=before: store._examined_at_s > before)  # type: ignore[misc]


def strength(*findings: Finding) -> Strength:
    return Strength("Valkey 9.1.2", NO_WAIT, ("a", "b"), findings)


def test_shard_that_fails_its_own_calls_takes_no_gateway_away() -> None:
    lonely = [
        Finding("replicas", Verdict.FAIL, "none", where=node, noticed=True) for node in ("a", "b")
    ]
    away = Finding("reach", Verdict.FAIL, "away", where="b", away=True)
    evicting = Finding("eviction", Verdict.FAIL, "evicts", where="b")
    assert strength(lonely[0]).unready == ()
    assert strength(lonely[0]).weak == ("a: none",)
    assert strength(lonely[0], evicting).unready == ("b: evicts",)
    assert strength(*lonely).unready == ("a: none", "b: none")
    assert strength(lonely[0], away).unready == ("a: none",)
    assert strength(away).unready == ()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_replica_that_does_not_sync_each_write_is_named(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine_each_time(monkeypatch)
    primary = Server(tmp_path / "primary", appendfsync="always")
    replica = Server(tmp_path / "replica", replicaof=f"127.0.0.1 {primary.port}")

    async def story(store: Store) -> None:
        assert [each.told for each in replicas(store)] == ["appendfsync is always"]
        replica.ask("CONFIG", "SET", "appendfsync", policy)
        await store.look_again()
        (weak, *_) = store.strength.weak
        assert weak.startswith(f"{replica.address}: appendfsync is {policy}: ")
        assert "also on the replicas" in weak
        assert await reasons_not_ready(store, time.time) != []
        replica.ask("CONFIG", "SET", "appendfsync", "always")
        assert await reasons_not_ready(store, time.time) == []
        replica.ask("ACL", "SETUSER", "default", "-info")
        await store.look_again()
        (unsure,) = replicas(store)
        assert unsure.verdict is Verdict.WARN
        assert "see to it yourself that it has appendonly yes" in unsure.mend

    with primary, replica:
        processes.eventually(lambda: in_sync(primary, [replica]) == 1)
        replica.ask("CONFIG", "SET", "appendfsync", policy)
        with pytest.raises(StoreUnfit, match=f"{replica.address}: appendfsync is {policy}"):
            over(primary.url, tmp_path, story, ack="replica_fsync")
        replica.ask("CONFIG", "SET", "appendfsync", "always")
        over(primary.url, tmp_path, story, ack="replica_fsync")


def replicas(store: Store) -> list[Finding]:
    return [each for each in store.strength.findings if each.check == "replica"]


@pytest.mark.slow
@pytest.mark.parametrize("full_coverage", [False, True])
def test_cluster_of_which_one_node_hangs_is_not_called_weak(
    tmp_path: Path, full_coverage: bool
) -> None:
    """Else one shard in trouble would take every gateway out of the balancer."""

    async def story(store: Store) -> None:
        cluster.servers[1].pause()
        assert await reasons_not_ready(store, time.time) == []
        assert len(await store.clocks_s()) == 2
        silent = 3 if full_coverage else 1  # the two others then say that the cluster is down
        await until(lambda: looked_again(store, lambda found: len(found.away) == silent))
        assert store.strength.weak == ()
        if not full_coverage:
            cluster.servers[0].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            await until(lambda: looked_again(store, lambda found: bool(found.weak)))
            assert "could be evicted" in (await reasons_not_ready(store, time.time))[0]

    async def run() -> None:
        async with open_store(cluster.url, tmp_path, partitions=64) as store:
            await story(store)

    with Cluster(tmp_path / "cluster", replicas=0, full_coverage=full_coverage) as cluster:
        asyncio.run(run())


async def looked_again(store: Store, condition: Callable[[Strength], bool]) -> bool:
    return condition(await store.look_again())
