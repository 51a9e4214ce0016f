"""The clients of a fleet: each signs, posts, retries once under its id, and keeps a journal.

Decided here: who asks for what, from a seed; how often; and what is written down of how each
attempt ends. Not decided here: what is sent and what an answer says (fleet_requests.py), what the
journals must agree with (fleet.py), what is done to the gateways meanwhile (test_fleet_*.py).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.faults.fleet_requests import (
    Ask,
    Refusal,
    Told,
    make_token,
    odd,
    read_refusal,
    read_told,
    seal,
)
from tests.faults.scene import until
from tests.stores.journal_entries import Entry, JournalFile, Outcome
from tests.vectors.served import NO_TLS

UNITS_MAX = 9
TRIES = 2  # of a request while things go on: the client's one retry
RETRY_S = 0.25  # a process that was killed takes a moment to be gone
THINK_S_MAX = 0.03
IDLE_S_MAX = 2.0  # less than a balancer keeps a connection
ANSWER_S_MAX = 30.0  # beyond any deadline: to come to it is a fault of its own
ENOUGH_S_MAX = 120.0
SETTLED_S_MAX = 120.0
SETTLED_PER_S_MIN = 20
SETTLING_MAX = 8  # requests that are settled side by side


class Load:
    """Clients of one instance over gateways, or a balancer, at `urls`; records go to `directory`.

    `oddities` must stay empty; `failed` are those who were not answered with one retry. `tokens`:
    all of them ask with a capability token, else every other one signs what it sends.
    """

    def __init__(
        self,
        directory: Path,
        urls: Sequence[str],
        instance: str,
        lines: Sequence[str],
        seed: int,
        *,
        tokens: bool = False,
    ) -> None:
        self.urls, self.instance, self.lines, self.seed = urls, instance, lines, seed
        self.answered: list[Ask] = []
        self.failed: list[Ask] = []
        self.oddities: list[str] = []
        self.endings: Counter[str] = Counter()  # of attempts
        self.messages: Counter[tuple[str, str]] = Counter()  # of refusals, with what they tell
        self.replays = 0
        self.slowest_s = 0.0
        self._directory = directory
        self._tokens = tokens
        self._token = make_token()
        self._journals: dict[str, JournalFile] = {}
        self._begun: list[Ask] = []
        self._trying: set[Ask] = set()
        self._known_ms = 0
        self._numbers = itertools.count(1)
        self._shifts = itertools.count(1)
        self._stopped = asyncio.Event()
        self._http = httpx.AsyncClient(
            timeout=ANSWER_S_MAX,
            verify=NO_TLS,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE_S_MAX),
        )

    async def __aenter__(self) -> Load:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        for journal in self._journals.values():
            journal.__exit__()

    @property
    def figures(self) -> str:
        """Tell how attempts ended."""
        ends = ", ".join(f"{word}: {count:,}" for word, count in sorted(self.endings.items()))
        return f"{ends}; replayed {self.replays:,}, slowest {self.slowest_s:.1f} s"

    @asynccontextmanager
    async def working(self, clients: int) -> AsyncIterator[None]:
        """Let clients ask one request after the other; who has begun is answered, or has failed."""
        self._stopped.clear()
        shift = next(self._shifts)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                dice = random.Random(f"{self.seed} {shift} {number}")  # noqa: S311 (repeatable)
                group.create_task(self._work(f"c{number}", dice))
            try:
                yield
            finally:
                self._stopped.set()

    async def enough(self, answers: int) -> None:
        """Wait until so many more are answered."""
        wanted = len(self.answered) + answers
        await until(lambda: len(self.answered) >= wanted, ENOUGH_S_MAX)

    async def calm(self) -> None:
        """Wait until whatever is under way has ended, retries included: the next fault is another's
        then.
        """
        under_way = frozenset(self._trying)
        await until(lambda: not under_way & self._trying, ENOUGH_S_MAX)

    def make(self, host: str, asked: Mapping[str, int], *, partial: bool = False) -> Ask:
        """Make a request of a host, under a new id."""
        return Ask(f"{self.seed}-{host}-{next(self._numbers)}", host, asked, partial)

    async def ask(self, ask: Ask, *, first: int = 0) -> None:
        """Ask at the gateways in turn, from the first-th on, until there is an answer, or not."""
        self._begun.append(ask)
        self._trying.add(ask)
        try:
            for number in range(first, first + TRIES):
                if number > first:
                    await asyncio.sleep(RETRY_S)
                await self.attempt(ask, self.urls[number % len(self.urls)])
                if ask.told is not None:
                    return
            self.failed.append(ask)
        finally:
            self._trying.discard(ask)

    async def attempt(self, ask: Ask, url: str, replica: str = "") -> None:
        """Ask once, and write down what is sent and what comes of it."""
        path, headers, body = self._sealed(ask)
        known_ms, began_s = self._known_ms, time.monotonic()
        self._note(ask, Outcome.SENT, replica=replica)
        try:
            answer = await self._http.post(f"{url}{path}", headers=headers, content=body)
        except httpx.TransportError as error:
            ending = self._unheard(ask, error, replica)
        else:
            ending = self._hear(ask, answer, known_ms, replica)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        self._ended(ask, ending)

    def leave(self, ask: Ask) -> tuple[dict[str, str], bytes]:
        """Write down an attempt of whose end nobody will hear; give headers and body to send."""
        self._begun.append(ask)
        ask.doubt = True
        self._note(ask, Outcome.SENT)
        return self._seal(ask)

    async def settle(self) -> None:
        """Ask again for all that is not answered, until it is."""
        left = [ask for ask in self._begun if ask.told is None]
        turns = asyncio.Semaphore(SETTLING_MAX)

        async def settle_one(ask: Ask, first: int) -> None:
            async with turns:
                for number in itertools.count(first):
                    await self.attempt(ask, self.urls[number % len(self.urls)])
                    if ask.told is not None:
                        return
                    await asyncio.sleep(RETRY_S)

        within_s = SETTLED_S_MAX + len(left) / SETTLED_PER_S_MIN
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            for first, ask in enumerate(left):
                group.create_task(settle_one(ask, first))

    async def replay(self, urls: Sequence[str], count: int) -> None:
        """Ask again, at every one of `urls`, under ids that are answered; drawn from the seed."""
        dice = random.Random(f"replay {self.seed}")  # noqa: S311 (repeatable)
        for ask in dice.sample(self.answered, min(count, len(self.answered))):
            for url in urls:
                await self.attempt(ask, url, url.rpartition(":")[2])

    async def _work(self, host: str, dice: random.Random) -> None:
        while not self._stopped.is_set():
            names = dice.sample(self.lines, dice.randint(1, min(2, len(self.lines))))
            asked = {name: dice.randint(1, UNITS_MAX) for name in names}
            await self.ask(self.make(host, asked), first=dice.randrange(len(self.urls)))
            await asyncio.sleep(dice.uniform(0, THINK_S_MAX))

    def _seal(self, ask: Ask) -> tuple[dict[str, str], bytes]:
        by_token = self._tokens or sum(ask.host.encode()) % 2
        return seal(ask, self.instance, self._token if by_token else None)

    def _sealed(self, ask: Ask) -> tuple[str, dict[str, str], bytes]:
        """Give path, headers and body of a request."""
        return f"/api/1.0/instances/{self.instance}/access_request", *self._seal(ask)

    def _hear(self, ask: Ask, answer: httpx.Response, known_ms: int, replica: str) -> str:
        """Take an answer; give a word for it."""
        if answer.status_code == 200:
            told, host = read_told(answer)
            return self._granted(ask, told, host, known_ms, replica)
        return self._refused(ask, read_refusal(answer), replica)

    def _granted(
        self, ask: Ask, told: Told, host: str, known_ms: int, replica: str, status: int = 200
    ) -> str:
        """Take what was granted; `status` is also that of a refusal that is an answer."""
        self.oddities += odd(ask, told, host, known_ms)
        if ask.told is None:
            self.answered.append(ask)
            self.replays += told.replayed
        ask.told = told
        self._known_ms = max(self._known_ms, told.at_ms)
        self._note(
            ask,
            Outcome.ANSWERED,
            granted=dict(told.granted),
            answer=told.digest,
            at_ms=told.at_ms,
            status=status,
            replica=replica,
        )
        return str(status)

    def _refused(self, ask: Ask, refusal: Refusal, replica: str) -> str:
        self.messages[refusal.word, refusal.message] += 1
        if refusal.outcome is Outcome.REFUSED:
            self.oddities.append(f"{ask.id}: {refusal}: {refusal.message}")
        ask.doubt |= refusal.outcome is Outcome.UNKNOWN
        self._note(ask, refusal.outcome, status=refusal.status, replica=replica)
        return str(refusal)

    def _unheard(self, ask: Ask, error: httpx.TransportError, replica: str) -> str:
        ask.doubt = True
        self._note(ask, Outcome.UNKNOWN, replica=replica)
        return type(error).__name__

    def _ended(self, ask: Ask, ending: str) -> None:
        self.endings[ending] += 1
        ask.endings.append(ending)

    def _note(self, ask: Ask, outcome: Outcome, **more: Any) -> None:
        if ask.host not in self._journals:
            self._journals[ask.host] = JournalFile(self._directory, ask.host)
        about = {"id": ask.id, "instance": self.instance, "host": ask.host}
        entry = Entry(asked=dict(ask.asked), outcome=outcome, **about, **more)
        self._journals[ask.host].note(entry)
