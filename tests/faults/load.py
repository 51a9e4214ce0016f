"""The clients of a run: requests at a bounded rate, each retried under its id until it is answered.

Decided here: who asks for what, from a seed, and what is written down: every answer, and what has
been asked for and not yet been answered. Undos come in spells, so that an outbox comes to less than
nothing. Not decided here: what must agree with the journal (checker.py).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.calls import Verdict
from gateway.core.errors import Unavailable
from gateway.core.fingerprint import fingerprint
from gateway.core.model import AccessRequest, Host, Line, Want
from gateway.store.calls import Job
from gateway.store.opening import Store
from tests.faults.checker import Journal, Pair

RETENTION_MS = 3_600_000  # beyond any run
PENDING_MAX = 200
ANSWERED_S_MAX = 120.0  # for a request, once nothing is done to the store any more
RETRY_S = 0.05
HOSTS = ("h1", "h2", "h3")
SPELL = 40  # requests; in every third spell most are undos
UNITS_MAX = 9


@dataclass(frozen=True, eq=False)
class Asked:
    """A request: what is in question until its answer comes. One feature is on one line."""

    id: str
    instance: str
    line: Line
    host: str
    units: int


@dataclass(frozen=True)
class Moment:
    """How the journal stood, to be held against books that are read after it."""

    granted: Counter[Pair]
    pending: frozenset[Asked]
    asked: int


@dataclass
class Load:
    """Asks for units of the lines of instances; `lines` are (instance, line)."""

    store: Store
    lines: Sequence[tuple[str, Line]]
    seed: int
    per_s: float = 40.0
    hosts: Sequence[str] = HOSTS
    granted: Counter[Pair] = field(default_factory=Counter)
    _begun: int = 0
    _asked: list[Asked] = field(default_factory=list)
    _pending: set[Asked] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"load {self.seed}")  # noqa: S311 (to be repeatable)

    @property
    def answered(self) -> int:
        return len(self._asked) - len(self._pending)

    async def run(self) -> None:
        """Ask on and on, until cancelled; what was asked is answered all the same."""
        while True:
            if len(self._pending) < PENDING_MAX:
                self.begin()
            await asyncio.sleep(1 / self.per_s)

    def begin(self) -> None:
        """Ask for something that is drawn."""
        undoing = len(self._asked) // SPELL % 3 == 2
        sign = -1 if self._dice.random() < (0.7 if undoing else 0.1) else 1
        instance, line = self._dice.choice(self.lines)
        host, units = self._dice.choice(self.hosts), self._dice.randint(1, UNITS_MAX)
        self._begun += 1
        task = asyncio.create_task(
            self.ask(Asked(f"r{self.seed}-{self._begun}", instance, line, host, sign * units))
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def ask(self, asked: Asked) -> None:
        """Ask under one id until it is answered, and write the answer down."""
        self._asked.append(asked)
        self._pending.add(asked)
        want = Want(asked.line.feature, asked.line.version, asked.units)
        request = AccessRequest(host=Host("string", asked.host), wants=(want,), incremental=True)
        granted = await self._answer(asked, request)
        for line, units in granted:
            self.granted[asked.instance, line] += units
        self._pending.discard(asked)

    async def use(self, instance: str, feature: str, units: int) -> None:
        """Ask for units of a named feature, and wait until it is granted."""
        (line,) = [line for name, line in self.lines if (name, line.feature) == (instance, feature)]
        before = self.granted[instance, line.id]
        id_ = f"u{self.seed}-{len(self._asked)}"
        await self.ask(Asked(id_, instance, line, self.hosts[0], units))
        assert self.granted[instance, line.id] == before + units

    async def finish(self) -> None:
        """Wait until every request is answered."""
        async with asyncio.timeout(ANSWERED_S_MAX):
            await asyncio.gather(*self._tasks)

    def moment(self) -> Moment:
        """Remember how things stand before the books are read."""
        return Moment(Counter(self.granted), frozenset(self._pending), len(self._asked))

    def journal(self, since: Moment | None = None) -> Journal:
        """Give the journal; of a moment, what was open then or begun since may count or not."""
        if since is None:
            assert not self._pending
            return Journal(Counter(self.granted))
        journal = Journal(since.granted)
        for asked in [*since.pending, *self._asked[since.asked :]]:
            journal.unseen(asked.instance, asked.line.id, asked.units)
        return journal

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not task.exception():  # else it is kept for `finish` to raise
            self._tasks.discard(task)

    async def _answer(self, asked: Asked, request: AccessRequest) -> list[tuple[str, int]]:
        meaning = fingerprint(request).hex()
        while True:
            try:
                index = await self.store.catalogues.get(asked.instance)
                assert index is not None
                wants = index.resolve(request)
                job = Job(
                    index, wants, asked.id, RETENTION_MS, meaning, "", request.host.canonical, 1
                )
                reply = await self.store.lane.submit(job)
            except Unavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if reply.verdict is Verdict.STALE:
                await self.store.catalogues.read(asked.instance)
                continue
            assert reply.verdict in (Verdict.DONE, Verdict.REPLAYED), reply
            assert reply.outcome is not None
            return [(grant.line, grant.units) for grant in reply.outcome.grants]
