"""What a store is found to be against the level asked of it, at its start and while it is used."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.service import health
from gateway.service.health import reasons_not_ready
from gateway.store import opening
from gateway.store.facts import fullest
from gateway.store.findings import Finding, Verdict, judge
from gateway.store.keys import META, PartitionKeys
from gateway.store.opening import Store, make_topology, open_store
from gateway.store.primaries import key_by_node
from gateway.store.server import StoreAway, StoreUnfit
from gateway.store.strength import examine
from gateway.store.topology import OneServer
from tests.store.topologies import examine_each_time, until, until_refused
from tests.stores.clusters import Cluster
from tests.stores.servers import Server, in_sync
from tests.system.processes import eventually

SOUND: dict[str, Any] = {
    "valkey_version": "9.1.2",
    "redis_version": "7.2.4",
    "server_mode": "standalone",
    "role": "master",
    "aof_enabled": 1,
    "maxmemory_policy": "noeviction",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "min-replicas-to-write": "1",
    "slave0": {"ip": "127.0.0.1", "port": 1, "state": "online", "offset": 9, "lag": 0},
}
WAITING = {"ip": "127.0.0.1", "port": 1, "state": "wait_bgsave", "offset": 0, "lag": 0}
LEVELS = ("memory", "written", "local", "replica", "replica_fsync")
ON_DISK = ("local", "replica_fsync")
LONG_S = 60.0  # no machine stalls for as long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("examine")) as server:
        yield server


def failures(
    facts: dict[str, Any], ack: str, *, node: str = "", replicas: int = 1
) -> list[Finding]:
    return [each for each in judge(node, facts, ack, replicas) if each.verdict is Verdict.FAIL]


@pytest.mark.parametrize("ack", LEVELS)
def test_sound_server_is_enough_for_every_level(ack: str) -> None:
    found = list(judge("", SOUND, ack, 1))
    assert [each.verdict for each in found] == [Verdict.OK] * len(found)


WEAK = [
    # what is otherwise, the levels it is too weak for, words of it
    ({"valkey_version": "7.1.9"}, LEVELS, "Valkey 7.1.9 is too old; Redis 7.0 or Valkey 7.2"),
    ({"server_mode": "sentinel"}, LEVELS, "this is a sentinel; write redis.url as redis+sentinel"),
    ({"cluster_enabled": 1}, LEVELS, "this is a node of a cluster; write redis.url as"),
    ({"maxmemory_policy": "volatile-lru"}, LEVELS, "could be evicted; set maxmemory-policy"),
    ({"role": "slave"}, LEVELS, "it is a replica: counts are written to a primary; write"),
    ({"aof_enabled": 0}, LEVELS[1:], "needs an append-only file; set appendonly yes"),
    ({"appendfsync": "no"}, ON_DISK, "appendfsync is no: nobody knows when the disk has it"),
    (
        {"appendfsync": "everysec"},
        ON_DISK,
        "set appendfsync always (CONFIG SET appendfsync always;",
    ),
    ({"no-appendfsync-on-rewrite": "yes"}, ON_DISK, "while the file is rewritten; set no-append"),
    ({"slave0": WAITING}, LEVELS[3:], "replicas connected: 0, redis.ack_replicas asks for 1"),
]


@pytest.mark.parametrize(("otherwise", "levels", "words"), WEAK)
def test_weakness_is_told_to_the_levels_it_matters_to(
    otherwise: dict[str, Any], levels: tuple[str, ...], words: str
) -> None:
    facts = SOUND | otherwise
    assert tuple(ack for ack in LEVELS if failures(facts, ack)) == levels
    assert words in str(failures(facts, levels[0])[0])


def test_floors_are_those_of_each_line_of_servers() -> None:
    own = ("valkey_version", "server_mode")
    redis = {name: value for name, value in SOUND.items() if name not in own}
    assert any(each.unfit for each in failures(redis | {"redis_mode": "sentinel"}, "memory"))
    for version, least in [("6.2.14", LEVELS), ("7.0.15", ("replica_fsync",)), ("7.2.0", ())]:
        facts = redis | {"redis_version": version}
        assert tuple(ack for ack in LEVELS if failures(facts, ack)) == least, version
    (finding,) = failures(redis | {"redis_version": "7.0.15"}, "replica_fsync")
    assert "knows no WAITAOF" in str(finding)


def test_nobody_may_allow_what_cannot_work() -> None:
    for otherwise in (
        {"valkey_version": "7.0"},
        {"server_mode": "sentinel"},
        {"cluster_enabled": 1},
    ):
        assert any(each.unfit for each in failures(SOUND | otherwise, "memory"))
    assert not failures(SOUND | {"cluster_enabled": 1}, "memory", node="h:1")


def test_replicas_that_are_on_their_way_may_be_waited_for() -> None:
    (finding,) = failures(SOUND | {"slave0": WAITING}, "replica")
    assert finding.passing
    (finding,) = failures(SOUND | {"slave0": WAITING}, "replica", replicas=2)
    assert not finding.passing


def test_primary_that_goes_on_without_replicas_is_advice_and_no_weakness() -> None:
    facts = SOUND | {"min-replicas-to-write": "0"}
    assert not failures(facts, "replica")
    (advice,) = [e for e in judge("", facts, "replica", 1) if e.verdict is Verdict.WARN]
    assert "set min-replicas-to-write 1" in str(advice)
    assert all(each.verdict is Verdict.OK for each in judge("", facts, "written", 1))


@pytest.mark.parametrize(
    ("servers", "told"),
    [
        ([(90, 0, 100), (99, 0, 1000)], (90, 100)),
        ([(90, 80, 100), (99, 0, 200)], (99, 200)),  # buffers do not count
        ([(90, 0, 0), (10, 0, 100)], (10, 100)),  # who has no bound fills up never
        ([(90, 0, 0), (99, 0, 0)], (99, 0)),
    ],
)
def test_the_primary_nearest_to_its_bound_is_told_of(
    servers: list[tuple[int, int, int]], told: tuple[int, int]
) -> None:
    names = ("used_memory", "mem_not_counted_for_evict", "maxmemory")
    assert fullest(dict(zip(names, each, strict=True)) for each in servers) == told


def test_where_config_is_forbidden_the_rest_is_judged(server: Server) -> None:
    server.ask("ACL", "SETUSER", "app", "on", ">pw", "~gw:*", "+@all", "-config")

    async def look() -> dict[str, Finding]:
        topology = make_topology(server.url.replace("//", "//app:pw@"))
        try:
            strength = await examine(topology, "local", 1, 8)
        finally:
            await topology.aclose()
        assert strength.weak == ()
        return {each.check: each for each in strength.findings}

    found = asyncio.run(look())
    assert "WAITAOF 1 0 reached" in found["durability"].told
    assert found["syncs"].verdict is Verdict.WARN
    assert "see to it yourself that it is always" in found["syncs"].mend


def test_one_server_is_looked_at_once_and_each_node_of_a_cluster_that_has_keys() -> None:
    class Two(OneServer):
        def node_of(self, key: str) -> str:
            return "b" if key in (META, PartitionKeys(3).lease) else "a"

    one = OneServer(None)  # type: ignore[arg-type]
    assert key_by_node(one, 8) == {"": META}
    two = Two(None)  # type: ignore[arg-type]
    assert key_by_node(two, 8) == {"a": PartitionKeys(0).lease, "b": META}


async def opened(url: str, data_dir: Path, **settings: Any) -> tuple[str, ...]:
    async with open_store(url, data_dir, partitions=8, **settings) as store:
        return store.strength.weak


def test_level_that_needs_replicas_is_refused_where_there_are_none(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "GRACE_S", LONG_S)
    began_s = time.monotonic()
    with pytest.raises(StoreUnfit, match="replicas connected: 0") as refused:
        asyncio.run(opened(server.url, tmp_path, ack="replica"))
    assert "--allow-weaker-store" in str(refused.value)
    assert time.monotonic() - began_s < LONG_S, "nobody is on the way"
    assert server.ask("EXISTS", META) == 0
    (weak,) = asyncio.run(opened(server.url, tmp_path, ack="replica", allow_weaker=True))
    assert weak in str(refused.value)


def test_probe_that_is_refused_is_told_with_the_words_of_the_store(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "GRACE_S", 0.1)
    server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with pytest.raises(StoreUnfit, match="a probe was refused: NOREPLICAS"):
            asyncio.run(opened(server.url, tmp_path))
    finally:
        server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


def test_refusal_that_passes_is_waited_out_at_the_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "GRACE_S", LONG_S)

    async def story() -> None:
        server.ask("CONFIG", "RESETSTAT")
        server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        opening_ = asyncio.create_task(opened(server.url, tmp_path))
        await until_refused(server, "NOREPLICAS")
        assert not opening_.done()
        server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        assert await opening_ == ()

    asyncio.run(story())


def test_password_that_is_not_taken_is_not_waited_for(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "REACH_S", LONG_S)
    began_s = time.monotonic()
    with pytest.raises(StoreAway) as refused:
        asyncio.run(opened(server.url.replace("//", "//app:s3cret@"), tmp_path))
    assert "s3cret" not in str(refused.value)
    assert time.monotonic() - began_s < LONG_S


def test_gateway_is_not_ready_over_a_store_that_became_weak_until_it_is_mended(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "EXAMINE_S", LONG_S)
    monkeypatch.setattr(health, "LOOK_S_MAX", LONG_S)

    async def story(store: Store) -> None:
        assert await reasons_not_ready(store, time.time) == []
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert await reasons_not_ready(store, time.time) == [], "it was just looked at"
        examine_each_time(monkeypatch)
        (reason,) = await reasons_not_ready(store, time.time)
        assert reason.startswith("The store is weak: maxmemory-policy is allkeys-lru")
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert await reasons_not_ready(store, time.time) == []

    async def run() -> None:
        async with open_store(server.url, tmp_path, partitions=8) as store:
            await story(store)

    asyncio.run(run())


def test_many_looks_examine_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "EXAMINE_S", LONG_S)
    monkeypatch.setattr(opening, "EXAMINED_S_MAX", LONG_S)

    def examined() -> int:
        return int(server.info("commandstats")["cmdstat_config|get"]["calls"])

    async def run() -> None:
        async with open_store(server.url, tmp_path, partitions=8) as store:
            before = examined()
            store._examined_at_s = float("-inf")
            await asyncio.gather(*(store.look_again() for _ in range(50)))
            assert examined() == before + 1
            await store.look_again()
            assert examined() == before + 1

    asyncio.run(run())


def test_clock_that_is_off_on_any_node_is_a_reason(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LOOK_S_MAX", LONG_S)

    async def run() -> list[str]:
        async with open_store(server.url, tmp_path, partitions=8) as store:
            return await reasons_not_ready(store, lambda: time.time() + 100)

    (reason,) = asyncio.run(run())
    told = re.fullmatch(r"The clock is (\d+) s off the store's", reason)
    assert told is not None
    assert abs(int(told[1]) - 100) < 20  # to the second, but for a machine that stalls


@pytest.mark.slow
def test_node_of_a_cluster_is_no_server_by_itself(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", primaries=1, replicas=0) as cluster:
        with pytest.raises(StoreUnfit, match=r"write redis.url as redis\+cluster"):
            asyncio.run(opened(cluster.servers[0].url, tmp_path, allow_weaker=True))
        assert asyncio.run(opened(cluster.url, tmp_path)) == ()


def test_server_by_itself_is_no_cluster(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "REACH_S", LONG_S)
    began_s = time.monotonic()
    with pytest.raises(StoreAway, match="cluster support disabled"):
        asyncio.run(opened(server.url.replace("redis:", "redis+cluster:"), tmp_path))
    assert time.monotonic() - began_s < LONG_S


@pytest.mark.slow
@pytest.mark.parametrize("ack", ["replica", "replica_fsync"])
def test_replica_is_waited_for_and_missed(
    tmp_path: Path, ack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine_each_time(monkeypatch)
    primary = Server(tmp_path / "primary", appendfsync="always")
    replica = Server(
        tmp_path / "replica", appendfsync="always", replicaof=f"127.0.0.1 {primary.port}"
    )

    async def story() -> None:
        async with open_store(primary.url, tmp_path, partitions=8, ack=ack) as store:
            (probed,) = [e for e in store.strength.findings if e.check == "durability"]
            assert "reached, in" in probed.told
            replica.pause()
            reasons = await reasons_not_ready(store, time.time)
            assert "was not reached within 800 ms" in reasons[0]
            replica.wake()

            async def is_ready() -> bool:
                return await reasons_not_ready(store, time.time) == []

            async def is_missed() -> bool:
                return "replicas connected: 0" in str(await reasons_not_ready(store, time.time))

            await until(is_ready)
            replica.kill()
            await until(is_missed)

    with primary, replica:
        eventually(lambda: in_sync(primary, [replica]) == 1)
        asyncio.run(story())
