"""Commands, pipelines, transactions and scripts find their node in a cluster, wherever it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, TryAgainError, WatchError
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import TimeoutError as StoreTimeoutError

from gateway.store import clusters, routing
from gateway.store.clusters import Cluster
from gateway.store.durability import wait_for
from gateway.store.durable import Durable
from gateway.store.keys import META, PartitionKeys
from tests.store.topologies import COUNT, eventually, over
from tests.stores.clusters import QUIET_MS
from tests.stores.clusters import Cluster as Nodes
from tests.stores.homes import PATIENT_S
from tests.stores.programs import lasting_port
from tests.stores.servers import Server
from tests.stores.slot_moves import SlotMove, move_slot


@pytest.fixture(scope="module")
def _three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory = tmp_path_factory.mktemp("three")
    with Nodes(directory, replicas=0, cluster_node_timeout=QUIET_MS) as nodes:
        yield nodes


@pytest.fixture
def three(_three: Nodes) -> Nodes:
    """Three primaries without keys; who has which slot is as the test before left it."""
    for server in _three.servers:
        server.ask("FLUSHALL")
    return _three


class Stub:
    """Nodes of a cluster that answer a command with an error, or with their name.

    A look takes long, as it does where some of them keep silent.
    """

    def __init__(self, errors: dict[str, Exception]) -> None:
        self.errors = errors
        self.looks = self.wanted = 0

    def client_at(self, node: str) -> Any:
        return StubNode(self, node)

    def node_of(self, key: str) -> str:
        return "h:1"

    def learn(self, error: MovedError, node: str) -> str:
        return f"{error.host}:{error.port}"

    def refresh_soon(self) -> None:
        self.wanted += 1

    async def refresh(self) -> None:
        self.looks += 1
        await asyncio.sleep(60)


class StubNode:
    def __init__(self, nodes: Stub, name: str) -> None:
        self.nodes, self.name = nodes, name

    async def execute_command(self, *args: Any, **options: Any) -> str:
        if self.name in self.nodes.errors:
            raise self.nodes.errors[self.name]
        return self.name

    def pipeline(self, transaction: bool) -> Any:
        raise self.nodes.errors[self.name]


def test_cluster_that_is_down_is_said_to_be_though_a_look_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOOK_S_MAX", "PAUSE_S", "PAUSE_S_MAX"):
        monkeypatch.setattr(routing, name, 0.001)
    down: Any = Stub({"h:1": ClusterDownError("The cluster is down")})

    async def story() -> None:
        async with asyncio.timeout(30):
            with pytest.raises(ClusterDownError):
                await routing.Routed(down).get("x")

    asyncio.run(story())
    assert down.looks == routing.TRIES_MAX - 1


def test_redirection_is_followed_at_once_and_a_look_is_taken_beside() -> None:
    stub: Any = Stub({"h:1": MovedError("7 h:2")})
    assert asyncio.run(routing.Routed(stub).get("x")) == "h:2"
    assert (stub.wanted, stub.looks) == (1, 0)


def test_nodes_that_send_a_command_to_and_fro_are_given_time_to_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LOOK_S_MAX", "PAUSE_S", "PAUSE_S_MAX"):
        monkeypatch.setattr(routing, name, 0.001)
    stub: Any = Stub({"h:1": MovedError("7 h:2"), "h:2": MovedError("7 h:1")})
    with pytest.raises(MovedError):
        asyncio.run(routing.Routed(stub).get("x"))
    assert stub.looks >= routing.TRIES_MAX // 2 - 1


@pytest.mark.parametrize("error", [StoreConnectionError(), StoreTimeoutError(), OSError()])
def test_lost_node_is_told_at_once_never_asked_again_and_looked_for(error: Exception) -> None:
    stub: Any = Stub({"h:1": error})
    client = routing.Routed(stub)
    with pytest.raises(type(error)):
        asyncio.run(client.get("x"))
    assert (stub.wanted, stub.looks) == (1, 0)
    with pytest.raises(type(error)):
        asyncio.run(client.pipeline(transaction=False).get("x").execute())
    assert (stub.wanted, stub.looks) == (2, 0)


def keys_on(nodes: Nodes, server: Server) -> list[str]:
    keys = [PartitionKeys(each).lease for each in range(64)]
    return [key for key in keys if nodes.owner_of(key) is server]


def refusals(server: Server, word: str) -> int:
    return int(server.info("errorstats").get(f"errorstat_{word}", {"count": 0})["count"])


@pytest.mark.slow
def test_each_key_has_its_node_and_each_node_its_client(three: Nodes) -> None:
    async def story(cluster: Cluster) -> None:
        assert cluster.nodes == sorted(server.address for server in three.servers)
        for server in three.servers:
            key = keys_on(three, server)[0]
            assert cluster.node_of(key) == server.address
            info = await cluster.client_of(key).info("server")
            assert info["tcp_port"] == server.port
            connection = cluster.connection_to(server.address)
            await connection.connect()  # type: ignore[no-untyped-call]
            assert (connection.host, connection.port) == ("127.0.0.1", server.port)  # type: ignore[attr-defined]
            await connection.disconnect()

    # One of them is enough to find all, wherever a dead one is in the list.
    over(f"redis+cluster://127.0.0.1:1,{three.servers[0].address}", story)


@pytest.mark.slow
def test_pipeline_goes_to_several_nodes_and_answers_in_its_order(three: Nodes) -> None:
    async def story(cluster: Cluster) -> None:
        keys = [PartitionKeys(each).dirty for each in range(40)]
        pipeline = cluster.client.pipeline(transaction=False)
        for number, key in enumerate(keys):
            pipeline.sadd(key, number)
            pipeline.smembers(key)
        replies = await pipeline.execute()
        assert replies == [each for number in range(40) for each in (1, {b"%d" % number})]
        pipeline.get(keys[0])
        with pytest.raises(Exception, match="WRONGTYPE"):
            await pipeline.execute()
        assert await cluster.client.pipeline(transaction=False).execute() == []

    over(three.url, story)


@pytest.mark.slow
def test_transaction_watches_on_the_node_of_its_keys(three: Nodes) -> None:
    async def story(cluster: Cluster) -> None:
        key = keys_on(three, three.servers[1])[0]
        async with cluster.client.pipeline(transaction=True) as pipeline:
            await pipeline.watch(key)
            await cluster.client.set(key, "changed")
            pipeline.multi()  # type: ignore[no-untyped-call]
            pipeline.time()
            pipeline.get(key)
            with pytest.raises(WatchError):
                await pipeline.execute()
        pipeline = cluster.client.pipeline(transaction=True)
        pipeline.time()
        pipeline.get(key)
        assert (await pipeline.execute())[1] == b"changed"

    over(three.url, story)


@pytest.mark.slow
def test_many_looks_ask_once_and_not_more_often_than_allowed(
    three: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> int:
        stats = [server.info("commandstats") for server in three.servers]
        return sum(int(each.get("cmdstat_cluster|slots", {"calls": 0})["calls"]) for each in stats)

    async def story(cluster: Cluster) -> None:
        monkeypatch.setattr(clusters, "REFRESH_S", 600.0)
        monkeypatch.setattr(clusters, "LOOK_S_MAX", PATIENT_S)
        before = asked()
        await asyncio.gather(*(cluster.refresh() for _ in range(20)))
        assert asked() == before
        cluster._looked_at_s = float("-inf")
        tasks = [asyncio.create_task(cluster.refresh()) for _ in range(50)]
        await asyncio.sleep(0)
        tasks[0].cancel()  # who gives up does not take the look from the others
        await asyncio.wait(tasks)
        assert asked() == before + 1
        assert cluster.why == ""

    over(f"{three.url}?socket_timeout={PATIENT_S}", story)


@pytest.mark.slow
def test_commands_follow_a_slot_on_its_way(three: Nodes) -> None:
    origin, to = three.servers[0], three.servers[1]
    key = keys_on(three, origin)[0]
    tag = key[key.index("{") : key.index("}") + 1]
    kept, gone, new = (f"gw:{tag}:{name}" for name in ("kept", "gone", "new"))

    async def story(cluster: Cluster) -> None:
        client, durable = cluster.client, Durable(cluster, wait_for("local", 1), deadline_s=1.0)
        await client.mset({kept: "1", gone: "2"})
        move = SlotMove(three, key_slot(key.encode()), to)
        move.begin()
        assert move.portion(1) == 1
        (left,) = origin.ask("CLUSTER", "GETKEYSINSLOT", move.slot, 9)
        moved = gone if left == kept else kept

        assert (await client.get(kept), await client.get(gone)) == (b"1", b"2")
        # ASK is for one command: many at once each ask for themselves.
        assert await asyncio.gather(*(client.get(moved) for _ in range(50)))
        assert await client.set(new, "3")
        assert set(to.ask("CLUSTER", "GETKEYSINSLOT", move.slot, 9)) == {moved, new}
        pipeline = client.pipeline(transaction=False)
        assert await pipeline.get(kept).get(gone).get(new).execute() == [b"1", b"2", b"3"]
        with pytest.raises(TryAgainError):
            await client.pipeline(transaction=True).mget(kept, gone).execute()
        before = refusals(origin, "TRYAGAIN")
        async with client.pipeline(transaction=True) as pipeline:
            await pipeline.watch(left)
            pipeline.multi()  # type: ignore[no-untyped-call]
            with pytest.raises(TryAgainError):
                await pipeline.mget(kept, gone).execute()
        assert refusals(origin, "TRYAGAIN") == before + 1, "refused, it watches nothing any more"
        with pytest.raises(Exception, match="refuses") as refused:
            await durable.write(COUNT, [f"gw:{tag}:n", kept, gone], [])
        assert getattr(refused.value, "outcome", "") == "not_applied"

        while move.portion():
            pass
        writing = asyncio.create_task(Durable(cluster).write(COUNT, [f"gw:{tag}:n"], []))
        await asyncio.sleep(0)
        await asyncio.to_thread(move.finish)
        assert await writing == 1
        assert cluster.node_of(key) == to.address
        assert await client.pipeline(transaction=True).mget(kept, gone).execute() == [[b"1", b"2"]]

    over(three.url, story)


@pytest.mark.slow
def test_slot_that_went_is_found_by_scripts_transactions_and_commands(three: Nodes) -> None:
    async def story(cluster: Cluster) -> None:
        for attempt in ("script", "transaction", "command", "pipeline"):
            origin = three.servers[0]
            key = keys_on(three, origin)[0]
            await cluster.refresh()
            assert cluster.node_of(key) == origin.address
            await asyncio.to_thread(move_slot, three, key_slot(key.encode()), three.servers[2])
            if attempt == "script":
                assert await Durable(cluster).write(COUNT, [key], []) == 1
            elif attempt == "transaction":
                assert await cluster.client.pipeline(transaction=True).get(key).execute() == [None]
            elif attempt == "command":
                assert await cluster.client.get(key) is None
            else:
                pipeline = cluster.client.pipeline(transaction=False)
                assert await pipeline.get(key).get(META).execute() == [None, None]
            assert cluster.node_of(key) == three.servers[2].address, attempt

    over(three.url, story)


@pytest.mark.slow
def test_node_without_slots_is_reached_when_the_first_is_on_its_way_there(tmp_path: Path) -> None:
    """It is in nobody's view: CLUSTER SLOTS lists only who has slots."""

    async def story(cluster: Cluster) -> None:
        key, other = PartitionKeys(3).lease, PartitionKeys(3).dirty
        assert cluster.nodes == [first.address]
        await cluster.client.set(key, "1")
        move = SlotMove(nodes, key_slot(key.encode()), new)
        move.begin()
        assert await cluster.client.get(other) is None  # ASK leads there
        while move.portion():
            pass
        assert await cluster.client.get(key) == b"1"
        move.finish()
        assert await cluster.client.get(key) == b"1"
        assert cluster.nodes == sorted([first.address, new.address])

    port = lasting_port()
    new = Server(tmp_path / "new", cluster_enabled="yes", cluster_port=port)
    with Nodes(tmp_path, primaries=1, replicas=0) as nodes, new:
        (first,) = nodes.servers
        first.ask("CLUSTER", "MEET", "127.0.0.1", new.port, port)
        nodes.servers.append(new)
        nodes._ids[new.port] = new.ask("CLUSTER", "MYID")
        nodes.wait_in_sync()  # all of them know one another
        over(f"redis+cluster://{first.address}", story)


@pytest.mark.slow
def test_primary_that_dies_is_followed_to_its_replica(tmp_path: Path) -> None:
    async def story(cluster: Cluster) -> None:
        lost = nodes.shards[0][0]
        key = keys_on(nodes, lost)[0]
        well = next(keys_on(nodes, shard[0])[0] for shard in nodes.shards[1:])
        durable = Durable(cluster, wait_for("replica", 1))
        assert await durable.write(COUNT, [key], []) == 1
        lost.kill()
        assert await durable.write(COUNT, [well], []) == 1, "the others go on"

        async def write() -> Any:
            return await Durable(cluster).write(COUNT, [key], [])

        count, errors = await eventually(write)
        assert count == 2, "the replica had what was acknowledged"
        assert {getattr(error, "outcome", "?") for error in errors} <= {"not_applied", "unknown"}
        assert await cluster.client.get(key) == b"2"
        assert lost.address not in cluster.nodes

    with Nodes(tmp_path, primaries=3, replicas=1) as nodes:
        over(nodes.url, story)
