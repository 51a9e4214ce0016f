"""Who has which key: what nodes tell, over one server, and behind sentinels."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import MovedError, ReadOnlyError

from gateway.store import clusters
from gateway.store.addresses import parse_address
from gateway.store.clusters import Cluster, View, _view
from gateway.store.durability import wait_for
from gateway.store.durable import Durable
from gateway.store.keys import META, PartitionKeys, pulse
from gateway.store.routing import key_of
from gateway.store.sentinels import PrimaryConnection
from gateway.store.server import client_over, connection_options
from gateway.store.topology import ONE_NODE, OneServer, Topology
from tests.store.topologies import COUNT, eventually, over
from tests.stores.sentinels import QUIET_MS, Sentinels
from tests.stores.servers import Server

# What nodes tell --------------------------------------------------------------------------------


def test_view_takes_the_names_that_nodes_announce() -> None:
    told = [
        [0, 5, [b"10.0.0.1", 7000, b"id1"], [b"10.0.0.2", 7000, b"id2"]],
        [6, 6, [b"valkey-1.example", 7001, b"id3", [b"ip", b"10.0.0.3"]]],
        [7, 7, [None, 7002, b"id4"]],
        [8, 8, [b"", 7003, b"id5"]],
        [9, 9, [b"?", 7004, b"id6"]],
        [10, 10, [b"::1", 7005, b"id7"]],
        # Names are preferred, but this one has none; its address is told beside.
        [11, 11, [b"?", 7006, b"id8", [b"ip", b"10.0.0.8"]]],
        [12, 12, [None, 7007, b"id9", []]],
    ]
    view = _view(told, "h:1", sound=True)
    assert set(view.owners) == set(range(13))
    assert view.owners[0] == view.owners[5] == "10.0.0.1:7000"
    assert [view.owners[each] for each in range(6, 13)] == [
        "valkey-1.example:7001",
        "h:7002",
        "h:7003",
        "h:7004",
        "::1:7005",
        "10.0.0.8:7006",
        "h:7007",
    ]
    assert {"10.0.0.2:7000", "h:1"} < view.known


def test_moved_without_a_host_stays_on_the_host_that_said_it() -> None:
    async def story() -> None:
        cluster = Cluster(parse_address("redis+cluster://h:1"))
        assert cluster.learn(MovedError("7 :9"), "a.b:1") == "a.b:9"
        assert cluster.learn(MovedError("8 c:9"), "a.b:1") == "c:9"
        assert cluster.learn(MovedError("9 ?:9"), "a.b:1") == "a.b:9"
        assert cluster.learn(MovedError("9 ::1:9"), "a.b:1") == "::1:9"
        assert cluster.nodes == ["::1:9", "a.b:9", "c:9"]
        await cluster.aclose()

    asyncio.run(story())


def test_who_has_slots_is_asked_also_after_a_view_that_names_few() -> None:
    """It may be the only way back, when who gave that view and all of the URL are gone."""

    async def story() -> None:
        cluster = Cluster(parse_address("redis+cluster://h:1"))
        cluster._believe(View({0: "a:1", 1: "b:1"}, frozenset({"a:1", "b:1", "c:1"}), sound=True))
        former = cluster.client_at("c:1")
        cluster._believe(View({0: "a:1"}, frozenset({"a:1"}), sound=True))
        assert cluster._known == {"h:1", "a:1", "b:1"}
        assert [client for _, client in cluster._retired] == [former]
        await cluster.aclose()

    asyncio.run(story())


def looking(monkeypatch: pytest.MonkeyPatch, views: dict[str, View | None]) -> Cluster:
    """Make a cluster whose nodes tell these views, whatever they are asked; None keeps silent."""

    async def told(_: object, node: str) -> View:
        view = views.get(node)
        if view is None:
            raise TimeoutError
        return view

    monkeypatch.setattr(clusters, "_ask", told)
    monkeypatch.setattr(clusters, "REFRESH_S", 0.0)
    return Cluster(parse_address("redis+cluster://" + ",".join(views)))


def test_node_that_was_left_behind_or_keeps_silent_is_not_believed_before_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        for _ in range(20):  # they are asked in any order
            minority = View({0: "old:1"}, frozenset({"old:1"}), sound=False)
            majority = View({0: "new:1"}, frozenset({"new:1"}), sound=True)
            cluster = looking(monkeypatch, {"a:1": minority, "b:1": None, "c:1": majority})
            await cluster.refresh()
            assert cluster.nodes == ["new:1"]
            await cluster.aclose()
        # A view that is not sound is better than none; one of nothing is none.
        empty = View({}, frozenset({"b:1"}), sound=True)
        cluster = looking(monkeypatch, {"a:1": minority, "b:1": None, "c:1": empty})
        cluster._believe(majority)
        await cluster.refresh()
        assert cluster.nodes == ["old:1"]
        await cluster.aclose()

    asyncio.run(story())


def test_client_of_a_node_that_left_is_closed_once_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        view = View({0: "a:1"}, frozenset({"a:1"}), sound=True)
        cluster = looking(monkeypatch, {"a:1": view})
        left = cluster.client_at("b:1")
        closed: list[bool] = []

        async def aclose() -> None:
            closed.append(True)

        left.aclose = aclose  # type: ignore[method-assign]
        await cluster.refresh()
        assert cluster.client_at("b:1") is not left
        assert closed == []
        monkeypatch.setattr(clusters, "RETIRED_S", 0.0)
        await cluster.refresh()
        assert closed == [True]
        await cluster.aclose()
        assert closed == [True]

    asyncio.run(story())


def test_look_that_is_under_way_ends_with_its_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        cluster = looking(monkeypatch, {"a:1": None})
        monkeypatch.setattr(clusters, "_ask", lambda *_: asyncio.sleep(60))
        cluster.refresh_soon()
        await asyncio.sleep(0)
        await cluster.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGET", "gw:{p001}:x", "f"), "gw:{p001}:x"),
        (("EVALSHA", "sha", 2, b"gw:{p001}:x", "y", "arg"), "gw:{p001}:x"),
        (("evalsha", "sha", 1, "k"), "k"),
        (("TIME",), None),
        (("INFO", "everything"), None),
        (("CONFIG GET", "appendfsync"), None),
        (("SCRIPT LOAD", "return 1"), None),
    ],
)
def test_key_of_a_command_is_found(command: tuple[Any, ...], key: str | None) -> None:
    assert key_of(command) == key


def test_pulse_is_in_the_slot_of_its_key() -> None:
    for key in (META, PartitionKeys(17).lease, "gw:{p002}:i:{odd}:cat"):
        assert key_slot(pulse(key).encode()) == key_slot(key.encode())


# One server -------------------------------------------------------------------------------------


def test_one_server_has_every_key(tmp_path: Path) -> None:
    async def story(topology: Topology) -> None:
        assert topology.nodes == [ONE_NODE]
        assert topology.node_of("anything") == ONE_NODE
        assert topology.client_of("anything") is topology.client
        connection = topology.connection_to(ONE_NODE)
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await connection.disconnect()

    with Server(tmp_path) as server:
        over(server.url, story)


def test_cluster_that_nobody_tells_of_is_away_and_not_unknown() -> None:
    async def story(cluster: Cluster) -> None:
        assert cluster.nodes == []
        assert cluster.node_of(META) == ""
        with pytest.raises(StoreConnectionError, match=r"no node of the cluster .* 127.0.0.1:1"):
            cluster.client_of(META)
        with pytest.raises(StoreConnectionError):
            await cluster.client.get("x")
        with pytest.raises(StoreConnectionError):
            await cluster.client.pipeline(transaction=False).get("x").execute()

    over("redis+cluster://127.0.0.1:1", story)


# Sentinels --------------------------------------------------------------------------------------


def test_sentinels_that_are_away_are_told_without_their_passwords() -> None:
    async def story(topology: Topology) -> None:
        with pytest.raises(StoreConnectionError, match=r"no sentinel of 127.0.0.1:1, 127.0.0.1:2"):
            await topology.client.get("x")
        with pytest.raises(StoreConnectionError) as refused:
            await topology.client.get("x")
        assert not {"s3cret", "hidden"} & set(str(refused.value).split())

    query = "sentinel_password=s3cret"
    over(f"redis+sentinel://:hidden@127.0.0.1:1,127.0.0.1:2/main?{query}", story)


def test_whom_sentinels_name_is_left_alone_when_it_is_no_primary(tmp_path: Path) -> None:
    """They may be behind the times; a replica would answer reads with what was."""

    async def story(topology: Topology) -> None:
        with pytest.raises(StoreConnectionError, match="sentinels name, is no primary"):
            await topology.client.get("x")
        connection = topology.connection_to(ONE_NODE)
        with pytest.raises(StoreConnectionError):
            await connection.connect()  # type: ignore[no-untyped-call]
        assert not connection.is_connected
        told = server.info("commandstats")
        assert "cmdstat_get" not in told
        assert [each["cmd"] for each in server.ask("CLIENT LIST")] == ["client|list"]

    with Server(tmp_path, replicaof="127.0.0.1 1") as server:

        async def locate() -> tuple[str, int]:
            return "127.0.0.1", server.port

        async def run() -> None:
            options = {**connection_options(), "locate": locate}
            topology = OneServer(client_over({**options, "connection_class": PrimaryConnection}))
            await story(topology)
            await topology.aclose()

        asyncio.run(run())


@pytest.mark.slow
def test_primary_is_found_behind_sentinels_and_followed(tmp_path: Path) -> None:
    async def story(topology: Topology) -> None:
        assert topology.nodes == [ONE_NODE]
        durable = Durable(topology, wait_for("replica", 2))
        assert await durable.write(COUNT, ["n"], []) == 1
        before = house.primary()
        await asyncio.to_thread(house.failover)
        # The former primary goes on for a while, and is not listened to: nobody follows it.
        count, errors = await eventually(lambda: durable.write(COUNT, ["n"], []))
        assert count >= 2
        assert {getattr(each, "outcome", "?") for each in errors} <= {
            *("not_applied", "unknown", "applied_not_durable")
        }
        info = await topology.client.info("server")
        assert info["tcp_port"] != before.port
        connection = topology.connection_to(ONE_NODE)
        await connection.connect()  # type: ignore[no-untyped-call]
        assert connection.port == info["tcp_port"]  # type: ignore[attr-defined]
        await connection.disconnect()

    with Sentinels(tmp_path, replicas=2) as house:
        over(house.url, story)


@pytest.mark.slow
def test_connection_that_met_a_replica_is_left_for_the_primary(tmp_path: Path) -> None:
    """Who became a replica behind the sentinels' backs says READONLY, and nothing was done."""

    async def story(topology: Topology) -> None:
        assert await topology.client.set("x", "1")
        primary = house.primary()
        primary.ask("REPLICAOF", "127.0.0.1", house.replicas()[0].port)
        with pytest.raises(ReadOnlyError):
            await topology.client.set("x", "2")
        assert topology.client.connection_pool.get_connection_count()[0][0] == 1
        (idle,) = topology.client.connection_pool._available_connections
        assert not idle.is_connected, "the next command asks the sentinels"
        primary.ask("REPLICAOF", "NO", "ONE")
        assert await Durable(topology).write(COUNT, ["n"], []) == 1

    with Sentinels(tmp_path, replicas=1, sentinels=1, down_after_ms=QUIET_MS) as house:
        over(house.url, story)


@pytest.mark.slow
def test_users_of_sentinels_and_of_the_primary_are_their_own(tmp_path: Path) -> None:
    async def story(topology: Topology) -> None:
        assert await topology.client.acl_whoami() == "app"

    async def refused(topology: Topology) -> None:
        with pytest.raises(StoreConnectionError, match=r"password pair|Authentication"):
            await topology.client.get("x")

    primary = Server(tmp_path / "primary")
    sentinel = Server(tmp_path / "sentinel", mode="--sentinel")
    sentinel.configure([f"sentinel monitor main 127.0.0.1 {primary.port} 1"])
    with primary, sentinel:
        for server, user in [(primary, "app"), (sentinel, "watch")]:
            server.ask("ACL", "SETUSER", user, "on", f">{user}-pw", "~*", "&*", "+@all")
            server.ask("ACL", "SETUSER", "default", "off")
        where = f"redis+sentinel://app:app-pw@{sentinel.address}/main"
        over(f"{where}?sentinel_username=watch&sentinel_password=watch-pw", story)
        over(where, refused)
