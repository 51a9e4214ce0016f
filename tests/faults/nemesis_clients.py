"""The CMAPI clients of a nemesis: they consume, undo, report in batches, hold seats, go away.

Decided here: what each kind asks for, from a seed, in addition to what every client of a fleet
does (fleet_load.py); what of an answer is the same again where the catalogue has changed; and that
what is not signed by somebody who may is not let in. Not decided here: clients of LicenseSpring
(nemesis_floating.py), what must agree (nemesis_books.py). Source: SEMANTICS 4 to 6, 9 and 10.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from gateway.cli.demonstration.wire import Wire, post
from gateway.core.keys import generate
from tests.faults.checker import Journal, Pair
from tests.faults.fleet_load import UNITS_MAX, Load
from tests.faults.fleet_requests import (
    Ask,
    Refusal,
    Told,
    members_of,
    read_refusal,
    read_told,
    seal_members,
)
from tests.faults.nemesis_seats import LASTS_MS, Held
from tests.stores.journal_entries import Bad, Outcome

SPARE_KID, SPARE_KEY = "spare", generate("EdDSA")
FORGED_KEY = generate("EdDSA")
THINK_S = (0.02, 0.15)
GONE = 0.03  # of attempts: the client goes away before it is answered, or not quite
GONE_S = (0.0, 0.03)
FORGED = 0.02  # of requests: somebody else's
UNDONE = 0.25
LINES = 12  # of a batch
LEAVES = 0.35  # of what a seat's client does
BORROWS = ("2s", "6s", "1h")
DESCRIPTIVE = "maxCount"  # of what an answer tells, what a changed capacity changes


@dataclass(frozen=True)
class Moment:
    """How a load stood, to be held against books that are read after it."""

    granted: Counter[Pair]
    waiting: frozenset[Ask]
    opened: int


class Client(Load):
    """Clients of one instance, called `name`; what they know can be asked at any moment.

    `held`: what they were told of seats.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        urls: Sequence[str],
        instance: str,
        lines: Sequence[str],
        seed: int,
    ) -> None:
        super().__init__(directory, urls, instance, lines, seed)
        self.name = name
        self.held: list[Held] = []
        self._sums: Counter[Pair] = Counter()
        self._waiting: dict[Ask, None] = {}
        self._opened: list[Ask] = []
        self._gone = random.Random(f"gone {name} {seed}")  # noqa: S311 (to be repeatable)

    def moment(self) -> Moment:
        """Remember how things stand before the books are read."""
        return Moment(Counter(self._sums), frozenset(self._waiting), len(self._opened))

    def enter(self, journal: Journal, since: Moment) -> None:
        """Enter into a journal what was known at a moment; all since may count or not."""
        journal.granted.update(since.granted)
        for ask in {*since.waiting, *self._opened[since.opened :]}:
            for name, units in ask.asked.items():
                journal.unseen(self.instance, name, units)

    async def attempt(self, ask: Ask, url: str, replica: str = "") -> None:
        """Ask once; now and then the client is gone before it hears of it."""
        self._open(ask)
        if self._gone.random() >= GONE:
            await super().attempt(ask, url, replica)
            return
        ask.doubt = True
        path, headers, body = self._sealed(ask)
        self._note(ask, Outcome.SENT, replica=replica)
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        at = urlsplit(url)
        wire = Wire(str(at.hostname), at.port or 0)
        await wire.post_and_reset(post(path, lines, body), self._gone.uniform(*GONE_S))
        self._ended(ask, "gone")

    async def leave_all(self) -> None:
        """Give back what is held; those who hold nothing do nothing."""

    async def _work(self, host: str, dice: random.Random) -> None:
        while not self._stopped.is_set():
            await self._turn(f"{self.name}-{host}", dice)
            await asyncio.sleep(dice.uniform(*THINK_S))

    async def _turn(self, host: str, dice: random.Random) -> None:
        """Do one thing: ask for units of some lines."""
        names = dice.sample(self.lines, dice.randint(1, min(2, len(self.lines))))
        ask = self.make(host, {name: dice.randint(1, UNITS_MAX) for name in names})
        await self.ask(ask, first=dice.randrange(len(self.urls)))

    def _open(self, ask: Ask) -> None:
        if ask.told is None and ask not in self._waiting:
            self._waiting[ask] = None
            self._opened.append(ask)

    def _granted(
        self, ask: Ask, told: Told, host: str, known_ms: int, replica: str, status: int = 200
    ) -> str:
        if ask.told is None:
            for name, units in told.granted.items():
                self._sums[self.instance, name] += units
            self._waiting.pop(ask, None)
        return super()._granted(ask, told, host, known_ms, replica, status)


class Consumers(Client):
    """They consume, undo what they consumed, and somebody forges requests of theirs.

    `finite` lines are used up in the course of a run, and nothing of them is undone.
    """

    def __init__(self, *of: Any, finite: Sequence[str] = ()) -> None:
        super().__init__(*of)
        self._finite = set(finite)

    async def _turn(self, host: str, dice: random.Random) -> None:
        if dice.random() < FORGED:
            await self._forge(host, dice)
        elif dice.random() < UNDONE:
            name = dice.choice([each for each in self.lines if each not in self._finite])
            ask = self.make(host, {name: -dice.randint(1, UNITS_MAX)})
            await self.ask(ask, first=dice.randrange(len(self.urls)))
        else:
            await super()._turn(host, dice)

    async def _forge(self, host: str, dice: random.Random) -> None:
        """Ask for units under the name of a key that is another one's."""
        ask = self.make(host, {self.lines[0]: 1})
        headers, body = seal_members(members_of(ask), ask.id, self.instance, None, key=FORGED_KEY)
        url = dice.choice(self.urls)
        path = f"{url}/api/1.0/instances/{self.instance}/access_request"
        self._note(ask, Outcome.SENT, bad=Bad.SIGNATURE)
        status = 0  # whoever did not hear of it has not been let in
        with suppress(httpx.TransportError):
            status = (await self._http.post(path, headers=headers, content=body)).status_code
        self._note(ask, Outcome.REFUSED, status=status, bad=Bad.SIGNATURE)
        self.endings[f"forged {status}"] += 1


class Spares(Client):
    """They sign with a key that is revoked and added again; `shut` while it is revoked for sure."""

    shut = False
    _shuts = 0

    def be_shut(self, shut: bool) -> None:
        """Take note of it; only of a request that is wholly within it anything can be said."""
        self.shut = shut
        self._shuts += 1

    async def attempt(self, ask: Ask, url: str, replica: str = "") -> None:
        shut, shuts = self.shut, self._shuts
        await super().attempt(ask, url, replica)
        if shut and shuts == self._shuts and ask.endings[-1] == "200":
            self.oddities.append(f"{ask.id}: let in by a key that was revoked")

    def _seal(self, ask: Ask) -> tuple[dict[str, str], bytes]:
        return seal_members(
            members_of(ask), ask.id, self.instance, None, key=SPARE_KEY, kid=SPARE_KID
        )

    def _refused(self, ask: Ask, refusal: Refusal, replica: str) -> str:
        if refusal.status == 401:  # not let in, not counted: once the key is back, it is answered
            self._note(ask, Outcome.NOT_APPLIED, status=refusal.status, replica=replica)
            return str(refusal)
        return super()._refused(ask, refusal, replica)


class Changed(Client):
    """Their instance's capacity changes: all of an answer is the same again but what tells it."""

    def _hear(self, ask: Ask, answer: httpx.Response, known_ms: int, replica: str) -> str:
        if answer.status_code != 200:
            return super()._hear(ask, answer, known_ms, replica)
        told, host = read_told(answer)
        told = replace(told, digest=meaning_of(answer.json()))
        return self._granted(ask, told, host, known_ms, replica)


class Batches(Changed):
    """They report in batches, by token or signed; a line that is not answered goes by itself."""

    async def _turn(self, host: str, dice: random.Random) -> None:
        asks = [
            self.make(f"{host}-{number % 3}", {dice.choice(self.lines): dice.randint(1, UNITS_MAX)})
            for number in range(dice.randint(1, LINES))
        ]
        await self._post_all(asks, dice.choice(self.urls), signed=dice.random() < 0.5)
        for ask in asks:
            if ask.told is None:
                await self.ask(ask, first=dice.randrange(len(self.urls)))

    async def _post_all(self, asks: Sequence[Ask], url: str, *, signed: bool) -> None:
        for ask in asks:
            self._open(ask)
            self._note(ask, Outcome.SENT)
        known_ms = self._known_ms
        headers, body = self._batch(asks, signed=signed)
        try:
            path = f"{url}/api/1.0/instances/{self.instance}/access_requests"
            answer = await self._http.post(path, headers=headers, content=body)
        except httpx.TransportError as error:
            for ask in asks:
                self._ended(ask, self._unheard(ask, error, ""))
            return
        if answer.status_code != 200:
            for ask in asks:
                self._ended(ask, self._refused(ask, read_refusal(answer), ""))
            return
        lines = [msgspec.json.decode(line) for line in answer.content.splitlines()]
        if [line["correlationId"] for line in lines] != [ask.id for ask in asks]:
            self.oddities.append(f"a batch from {asks[0].id} on: other lines are answered")
            return
        for ask, line in zip(asks, lines, strict=True):
            self._ended(ask, self._line(ask, line, known_ms))

    def _batch(self, asks: Sequence[Ask], *, signed: bool) -> tuple[dict[str, str], bytes]:
        lines = [members_of(ask) | {"correlationId": ask.id} for ask in asks]
        if signed:
            id_ = f"batch-{asks[0].id}"
            return seal_members({"requests": lines}, id_, self.instance, None)
        body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        told = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/x-ndjson"}
        return told, body

    def _line(self, ask: Ask, line: Mapping[str, Any], known_ms: int) -> str:
        said = line["response"]
        if line["status"] != 200:
            word = next(iter(said["arguments"]), "")
            return self._refused(ask, Refusal(line["status"], str(word), said["message"]), "")
        granted = {each["name"]: each["count"] for each in said["features"] if each["count"]}
        # A line tells no moment: what is known of it is that it came after what was known.
        at_ms = ask.told.at_ms if ask.told else 0 if line["replayed"] else known_ms
        told = Told(granted, at_ms, line["replayed"], meaning_of(said))
        return self._granted(ask, told, said["requestHostId"]["value"], min(known_ms, at_ms), "")


@dataclass(eq=False)
class SeatAsk(Ask):
    """A request for seats, as its `members` say."""

    members: dict[str, Any] = field(default_factory=dict)


class Sitters(Client):
    """They take seats, hold them by the same request again, give them back or let them lapse."""

    async def leave_all(self) -> None:
        hosts = sorted({each.host for each in self.held})
        for host in hosts:
            ask = self._make(host, 0, {"features": []})
            for number in itertools.count():
                await self.attempt(ask, self.urls[number % len(self.urls)])
                if ask.told is not None:
                    break

    async def _turn(self, host: str, dice: random.Random) -> None:
        first = dice.randrange(len(self.urls))
        if dice.random() < LEAVES:
            await self.ask(self._make(host, 0, {"features": []}), first=first)
            return
        count = dice.randint(1, 2)
        wanted = {"name": self.lines[0], "version": "1.0", "count": count}
        more = {"features": [wanted], "partial": dice.random() < 0.3}
        more["borrow-interval"] = dice.choice(BORROWS)
        await self.ask(self._make(host, count, more), first=first)

    def _make(self, host: str, count: int, members: dict[str, Any]) -> SeatAsk:
        made = self.make(host, {})
        whole = {"hostId": {"type": "string", "value": host}, "incremental": False, **members}
        return SeatAsk(made.id, host, {}, members=whole)

    def _seal(self, ask: Ask) -> tuple[dict[str, str], bytes]:
        assert isinstance(ask, SeatAsk)
        token = self._token if sum(ask.host.encode()) % 2 else None
        return seal_members(ask.members, ask.id, self.instance, token)

    def _hear(self, ask: Ask, answer: httpx.Response, known_ms: int, replica: str) -> str:
        if answer.status_code != 200:
            return super()._hear(ask, answer, known_ms, replica)
        told, host = read_told(answer)
        entries = [each for each in answer.json()["features"] if each["count"]]
        if ask.told is None:
            count = sum(each["count"] for each in entries)
            lapses_ms = min((_ms(each["expires"]) for each in entries), default=LASTS_MS)
            line = self.lines[0]
            self.held.append(Held(self.instance, line, host, told.at_ms, count, lapses_ms))
        # Seats are no units: nothing of them is in the sums.
        return self._granted(ask, replace(told, granted={}), host, known_ms, replica)


def meaning_of(members: Mapping[str, Any]) -> str:
    """Give a digest of what an answer means, whatever the catalogue describes it with by now."""
    features = [
        {name: told for name, told in each.items() if name != DESCRIPTIVE}
        for each in members["features"]
    ]
    text = msgspec.json.encode({**members, "features": features}, order="sorted")
    return hashlib.sha256(text).hexdigest()


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
