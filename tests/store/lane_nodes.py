"""Nodes in memory that do as they are told, who has what of them, and a clock that never waits.

Decided here: what a call of the script comes to at a node (applied once per id, in the order of the
call), and what goes wrong on the way there or back. The lane above is the real one, with its real
encoding. Not decided here: what a real store does (the tests over one say that).
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import msgspec
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import MovedError, NoScriptError

from gateway.core.calendar import DAY_MS
from gateway.core.calls import INCREMENTAL, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import UNITS_MAX, AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.store.calls import Job
from gateway.store.keys import partition_of
from gateway.store.lanes import Lane
from gateway.store.scripts import Script
from gateway.store.topology import ONE_NODE, Topology

PARTITIONS = 20
LINES = tuple(
    Line(
        id=name, feature=name, version="1.0", model=Model.METERED, count=units, capacity=units
    )
    for name, units in [("CALLS", UNITS_MAX), *((f"WIDE-{number:02d}", 0) for number in range(60))]
)  # fmt: skip
CLOCK_MS = 1_700_000_000_000
PAYLOADS = {Verdict.STALE: (2,), Verdict.CALENDAR: (CLOCK_MS - 40 * DAY_MS, CLOCK_MS)}
_numbers = count(1)


class Lost:
    """The connection breaks at a call; `applied` tells whether the node had done it."""

    def __init__(self, *, applied: bool) -> None:
        self.applied = applied


class Silent:
    """The node says nothing any more on this connection."""


class Slow:
    """The node takes `seconds` for a call."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


Fate = Exception | Lost | Silent | Slow | Verdict


@dataclass
class Node:
    """A server: `fates` are those of the next calls, in turn; behind them all goes well."""

    name: str
    stores: Stores
    up: bool = True
    greeting: Exception | None = None  # what whoever connects is told instead of the time
    fates: deque[Fate] = field(default_factory=deque)
    waits: deque[Any] = field(default_factory=deque)  # what the next WAITs are answered
    waited_ms: list[int] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)  # the ids of each, as it came
    pipelines: list[list[str]] = field(default_factory=list)  # the words of each one's commands
    connections: int = 0  # ever made
    open: int = 0  # of them now
    latency_s: float = 0.0  # until anything that is said of a call is heard
    s_per_job: float = 0.0
    knows_script: bool = False

    def perform(self, command: tuple[Any, ...]) -> Any:
        """Give the reply to a command; a fate stands for one that does not simply come."""
        match command:
            case ("TIME",):
                if self.greeting is not None:
                    return self.greeting
                return [b"%d" % (CLOCK_MS // 1000), b"0"]
            case ("SCRIPT", "LOAD", _):
                self.knows_script = True
                return b"sha"
            case ("WAIT", asked, ms):
                self.waited_ms.append(ms)
                return self.waits.popleft() if self.waits else asked
            case ("WAITAOF", here, there, ms):
                self.waited_ms.append(ms)
                return self.waits.popleft() if self.waits else [here, there]
        return self._call(command)

    def _call(self, command: tuple[Any, ...]) -> Any:
        keys = command[3:-1]
        contexts, _, _, asks = msgspec.msgpack.decode(command[-1])
        ids = [keys[ask[1] - 1].rpartition(":")[2] for ask in asks]
        partitions = {partition_in(key) for key in keys}
        assert len(partitions) == 1 or self.name == ONE_NODE, "keys of two slots"
        self.calls.append(ids)
        if not self.knows_script:
            return NoScriptError("No matching script.")
        if any(self.stores.owners[partition] != self.name for partition in partitions):
            return MovedError("1 127.0.0.1:7000")
        fate = self.fates.popleft() if self.fates else None
        if isinstance(fate, Verdict):
            answers: list[Any] = [[fate, *PAYLOADS.get(fate, ())] for _ in ids]
        elif isinstance(fate, (Exception, Silent)) or (isinstance(fate, Lost) and not fate.applied):
            return fate
        else:
            answers = [self._apply(keys[ask[1] - 1], ask) for ask in asks]
        reply = msgspec.msgpack.encode([CLOCK_MS, answers, [[0] for _ in contexts]])
        if isinstance(fate, Lost):
            return fate
        return reply, fate.seconds if isinstance(fate, Slow) else self.s_per_job * len(ids)

    def _apply(self, key: str, ask: list[Any]) -> list[Any]:
        units = sum(units for _, wants in ask[7] for units, _ in wants)
        outcome = [CLOCK_MS, [], [["CALLS", units]], []]
        name, applied = key.rpartition(":")[2], self.stores.applied[partition_in(key)]
        if name in applied:
            return [Verdict.REPLAYED, outcome, ask[4]]
        applied.append(name)
        return [Verdict.DONE, outcome]


class Connection:
    """What a lane takes for a connection to a node."""

    _reader = None
    _writer = None

    def __init__(self, node: Node) -> None:
        self.node = node
        self.replies: deque[Any] = deque()
        self.open = False

    async def connect(self) -> None:
        await asyncio.sleep(0)
        if not self.node.up:
            raise StoreConnectionError("nobody is there")
        self.node.connections += 1
        self.node.open += 1
        self.open = True

    async def disconnect(self, nowait: bool = False) -> None:
        self.node.open -= self.open
        self.open = False

    async def send_command(self, *command: Any) -> None:
        await self.send_packed_command([command])

    def pack_commands(self, commands: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return commands

    async def send_packed_command(self, commands: list[tuple[Any, ...]]) -> None:
        assert self.open, "sent over a connection that was left"
        assert not self.replies, "sent before all replies were read"
        await asyncio.sleep(0)
        if commands[0] != ("TIME",):
            self.node.pipelines.append([command[0] for command in commands])
        for command in commands:
            self.replies.append(self.node.perform(command))
            if isinstance(self.replies[-1], (Lost, Silent)):
                break

    async def read_response(self, disconnect_on_error: bool = True) -> Any:
        assert self.open
        await asyncio.sleep(self.node.latency_s)
        match self.replies.popleft():
            case Lost():
                raise StoreConnectionError("the connection was closed")
            case Silent():
                await asyncio.Event().wait()
            case Exception() as error:
                raise error
            case (bytes() as reply, float() as seconds):
                await asyncio.sleep(seconds)
                return reply
            case reply:
                return reply


class Stores:
    """Nodes, who has which partition of theirs, and what was applied, by partition and in order."""

    def __init__(self, *names: str) -> None:
        names = names or (ONE_NODE,)
        self.nodes = {name: Node(name, self) for name in names}
        self.owners = {number: names[number % len(names)] for number in range(PARTITIONS)}
        self.heard = dict(self.owners)
        self.applied: dict[int, list[str]] = {number: [] for number in range(PARTITIONS)}
        self.looks = 0

    def node(self, name: str = ONE_NODE) -> Node:
        return self.nodes[name]

    def lane(self, **more: Any) -> Lane:
        topology = cast(Topology, _Topology(self))
        return Lane(Script("apply", "return 1"), topology, PARTITIONS, **more)


class _Topology:
    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    @property
    def nodes(self) -> list[str]:
        return sorted(set(self.stores.heard.values()))

    def node_of(self, key: str) -> str:
        return self.stores.heard[partition_in(key)]

    def connection_to(self, node: str) -> Any:
        return Connection(self.stores.nodes[node])

    async def refresh(self) -> None:
        await asyncio.sleep(0.001)
        self.stores.looks += 1
        self.stores.heard = dict(self.stores.owners)


def partition_in(key: str) -> int:
    """Read the partition out of a key's tag."""
    return int(key.partition("{p")[2][:3])


def _indexes() -> dict[int, CatalogueIndex]:
    """Give an instance in each partition."""
    found: dict[int, CatalogueIndex] = {}
    for number in count():
        name = f"I{number}"
        found[partition_of(name, PARTITIONS)] = CatalogueIndex(Catalogue(id=name, lines=LINES))
        if len(found) == PARTITIONS:
            return found
    raise AssertionError


_INDEXES = _indexes()


def job(partition: int = 0, name: str | None = None, units: int = 0, feature: str = "CALLS") -> Job:
    """Make a job of an instance in a partition; each has an id and units of its own."""
    number = next(_numbers)
    index = _INDEXES[partition]
    want = Want(feature, "0", units or number)
    wants = index.resolve(AccessRequest(host=Host("string", "h1"), wants=(want,)))
    return Job(index, wants, name or f"job-{number}", 60_000, "f", "", "h1", INCREMENTAL)


def units_of(reply: Reply) -> int:
    assert reply.outcome is not None
    return sum(grant.units for grant in reply.outcome.grants)


def asked_of(asked: Job) -> int:
    """Give the units that a job asks for: what it is answered, and nobody else."""
    return sum(units for _, wants in asked.wants for units, _ in wants)


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting for the next moment at which something happens, it makes it now."""

    now_s = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen any more"
        self.now_s += max(0.0, timeout)
        return super().select(0)


class ManualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when nobody has anything to do before the next alarm."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now_s


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run a story in a time of its own."""
    with asyncio.Runner(loop_factory=ManualLoop) as runner:
        runner.run(story)
