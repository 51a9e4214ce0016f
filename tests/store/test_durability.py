"""What follows a write, and what is said of one that is refused, lost or not yet safe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest

from gateway.core.errors import Unavailable
from gateway.store.durability import NO_WAIT, Command, Wait, wait_for
from gateway.store.durable import Durable
from gateway.store.keys import pulse
from gateway.store.scripts import Script
from gateway.store.topology import Topology
from tests.store.topologies import COUNT, over, until_refused
from tests.stores.byte_proxy import ByteProxy, How
from tests.stores.servers import Server
from tests.system.processes import eventually

KEY = "gw:{p001}:n"
LOOK = Script("look", "return redis.call('GET', KEYS[1])")  # a script that writes nothing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("durability"), appendfsync="always") as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
    server.ask("FLUSHALL")
    server.ask("SCRIPT", "FLUSH")


async def refused(call: Awaitable[Any]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await call
    return caught.value


@pytest.mark.parametrize(
    ("ack", "sent"),
    [
        ("memory", []),
        ("written", []),
        ("local", [("WAITAOF", 1, 0, 800)]),
        ("replica", [("WAIT", 2, 800)]),
        ("replica_fsync", [("WAIT", 2, 200), ("WAITAOF", 1, 2, 600)]),
    ],
)
def test_each_level_waits_for_what_it_promises(ack: str, sent: list[tuple[str, int]]) -> None:
    assert wait_for(ack, 2).commands(800) == sent


def test_no_wait_is_for_ever() -> None:
    for ack in ("local", "replica", "replica_fsync"):
        assert all(command[-1] == 1 for command in wait_for(ack, 1).commands(0))


@pytest.mark.parametrize(
    ("ack", "enough", "too_little"),
    [
        ("written", [None, 0, b"", []], []),
        ("local", [[1, 0], [1, 5]], [[0, 0], [0, 5], 1, [1], None, b"1"]),
        ("replica", [2, 3], [0, 1, None, [2, 2], b"2"]),
        ("replica_fsync", [[1, 2], [1, 3]], [[1, 1], [0, 2], [2], 2]),
    ],
)
def test_level_is_reached_by_enough_and_nothing_less(
    ack: str, enough: list[Any], too_little: list[Any]
) -> None:
    wait = wait_for(ack, 2)
    assert [wait.reached(reply) for reply in enough] == [True] * len(enough)
    assert [wait.reached(reply) for reply in too_little] == [False] * len(too_little)


@pytest.mark.parametrize("wait", [NO_WAIT, wait_for("local", 1)])
def test_script_that_nobody_knows_is_sent_whole_and_runs_once(server: Server, wait: Wait) -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, wait)
        assert [await durable.write(COUNT, [KEY], []) for _ in range(2)] == [1, 2]
        assert await durable.run("HSET", "gw:meta", "default", "I") == 1

    over(server.url, story)


def test_wait_has_a_write_of_its_connection_also_when_the_script_wrote_nothing(
    server: Server,
) -> None:
    def written() -> int:
        return int(server.info("commandstats").get("cmdstat_set", {}).get("calls", 0))

    async def story(topology: Topology) -> None:
        before = written()
        assert await Durable(topology).write(LOOK, [KEY], []) is None
        assert written() == before
        assert await Durable(topology, wait_for("local", 1)).write(LOOK, [KEY], []) is None
        assert written() == before + 1

    over(server.url, story)
    assert server.ask("EXISTS", pulse(KEY)) == 0


def test_level_that_is_not_reached_is_applied_and_said_so(server: Server) -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, wait_for("replica", 1), deadline_s=1.0)
        error = await refused(durable.write(COUNT, [KEY], []))
        assert error.outcome == "applied_not_durable"

    over(server.url, story)
    assert server.ask("GET", KEY) == "1"


def test_wait_that_is_refused_leaves_what_was_applied_unsafe(server: Server) -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, Wait(("WAITAOF", 7, 0)))  # more than itself it cannot ask
        assert (await refused(durable.write(COUNT, [KEY], []))).outcome == "applied_not_durable"

    over(server.url, story)
    assert server.ask("GET", KEY) == "1"


def test_refusal_that_passes_is_waited_out(server: Server) -> None:
    async def story(topology: Topology) -> None:
        patient = Durable(topology, deadline_s=60.0)
        server.ask("CONFIG", "RESETSTAT")
        server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        writing = asyncio.create_task(patient.write(COUNT, [KEY], []))
        await until_refused(server, "NOREPLICAS")
        assert not writing.done()
        server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        assert await writing == 1

    over(server.url, story)


def test_refusal_that_stays_is_not_applied(server: Server) -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, wait_for("local", 1), deadline_s=0.5)
        server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        error = await refused(durable.write(COUNT, [KEY], []))
        server.ask("CONFIG", "SET", "min-replicas-to-write", 0)
        assert error.outcome == "not_applied"

    over(server.url, story)
    assert server.ask("EXISTS", KEY) == 0


def test_command_that_is_not_allowed_is_refused_at_once(server: Server) -> None:
    server.ask("ACL", "SETUSER", "reader", "on", ">pw", "~gw:*", "+@read")

    async def story(topology: Topology) -> None:
        durable = Durable(topology, deadline_s=60)
        assert (await refused(durable.run("INCR", KEY))).outcome == "not_applied"

    over(server.url.replace("//", "//reader:pw@"), story)
    assert server.ask("EXISTS", KEY) == 0


def test_server_that_is_not_there_has_applied_nothing() -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, deadline_s=0.1)
        assert (await refused(durable.write(COUNT, [KEY], []))).outcome == "not_applied"

    over("redis://127.0.0.1:1", story)


def test_script_without_an_answer_is_in_doubt_and_not_sent_again(server: Server) -> None:
    async def story(topology: Topology) -> None:
        assert await Durable(topology).write(COUNT, [KEY], []) == 1
        durable = Durable(topology, deadline_s=0.5)
        proxy.replies.become(How.SWALLOW)
        assert (await refused(durable.write(COUNT, [KEY], []))).outcome == "unknown"

    with ByteProxy(server.address) as proxy:
        over(proxy.url, story)
    eventually(lambda: server.ask("GET", KEY) == "2")  # it may still be on its way there


def test_answer_whose_wait_is_lost_is_applied(server: Server) -> None:
    class Patient(Wait):
        """Its reply is not there by the deadline, when the script's is."""

        def commands(self, ms: int) -> list[Command]:
            return [self.within(50 * ms)]

    async def story(topology: Topology) -> None:
        assert await Durable(topology).write(COUNT, [KEY], []) == 1
        durable = Durable(topology, Patient(("WAIT", 1)), deadline_s=0.5)
        assert (await refused(durable.write(COUNT, [KEY], []))).outcome == "applied_not_durable"
        assert await Durable(topology).write(COUNT, [KEY], []) == 3  # nothing crosses over

    over(server.url, story)


def test_cancelled_writers_leave_no_reply_to_another(server: Server) -> None:
    async def story(topology: Topology) -> None:
        durable = Durable(topology, wait_for("local", 1))
        for turns in range(40):
            writing = asyncio.create_task(durable.write(COUNT, [KEY], []))
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            assert await durable.run("ECHO", f"turn {turns}") == f"turn {turns}".encode()

    over(server.url, story)
