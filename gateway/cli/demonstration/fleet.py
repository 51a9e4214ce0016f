"""The fleet: clients that post, retry under the same id, and keep a journal.

Decided here: what is retried (no answer, 429, 503: the same bytes under the same id, until answered
or given up), and that a repeat of an answered id must bring the same bytes. Not decided here: what
is asked in which protocol and what an answer means (cmapi.py, licensespring.py).
Source: SEMANTICS 9, RELIABILITY 1.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

import msgspec

from gateway.cli.demonstration.journal import Record, Units, total
from gateway.cli.demonstration.wire import Reply, Unanswered, Wire

RETRY_FOR_S: Final = 30.0  # then a request counts as never answered, and the demonstration fails
BACKOFF_S_MIN: Final = 0.01
BACKOFF_S_MAX: Final = 0.4
REMEMBERED_MAX: Final = 16  # answered ids that a client may send again

_RETRIED: Final = frozenset({429, 503})


class Strange(Exception):
    """An answer that may not come; the text says what is strange about it."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A request as it goes out, whenever it does, and what is to happen to it.

    `hear` enters its answer in the journal and says whether something was denied; it raises
    Strange. `reset_after_s` None: nothing.
    """

    request: bytes
    hear: Callable[[Reply], bool]
    reset_after_s: float | None = None
    repeats: bool = False


class Speaker(Protocol):
    """What one client says in its protocol. Its answers have one of `statuses`."""

    name: str
    seed: str  # of what depends on answers
    statuses: frozenset[int]

    @property
    def journal(self) -> Record: ...

    def sendings(self) -> Iterator[Sending]:
        """Give requests in order, without end, each made when it is taken."""

    def last(self) -> Sending | None:
        """Give the request that ends its work, if there is one."""


@dataclass(slots=True)
class Tally:
    """What the whole fleet lived through. `differing` and `troubles` must stay empty."""

    answered: int = 0
    denied: int = 0
    retries: int = 0
    resets: int = 0
    replays: int = 0  # answers that say so, repeats of answered ids included
    repeats: int = 0  # answered ids sent again
    differing: int = 0  # repeats that brought other bytes, or were not replayed
    unanswered: int = 0
    troubles: Counter[str] = field(default_factory=Counter)  # by what was answered instead


class Fleet:
    """All clients. They work until told to stop, then say a last word."""

    def __init__(self, address: tuple[str, int], speakers: Sequence[Speaker]) -> None:
        self.tally = Tally()
        self._speakers = speakers
        self._clients = [_Client(speaker, Wire(*address), self.tally) for speaker in speakers]

    def units(self) -> dict[str, Units]:
        """Sum the journals, by feature name."""
        return total(speaker.journal for speaker in self._speakers)

    def oddities(self) -> list[str]:
        """Give the answers that contradicted what a client had been told before."""
        return [
            f"{speaker.name}: {words}"
            for speaker in self._speakers
            for words in speaker.journal.oddities
        ]

    async def work(self, stop: asyncio.Event) -> None:
        """Post until `stop`; every request begun by then is answered or counted as unanswered."""
        try:
            async with asyncio.TaskGroup() as group:
                for client in self._clients:
                    group.create_task(client.work(stop))
        finally:
            for client in self._clients:
                client.close()


class _Client:
    """One connection: a speaker's requests in order, until they are answered."""

    def __init__(self, speaker: Speaker, wire: Wire, tally: Tally) -> None:
        self._speaker, self._wire, self._tally = speaker, wire, tally
        self._remembered: deque[tuple[bytes, Reply]] = deque(maxlen=REMEMBERED_MAX)
        # For what depends on answers; apart from the mix, which does not.
        self._jitter = Random(speaker.seed)  # noqa: S311 - spreads retries, no secret

    async def work(self, stop: asyncio.Event) -> None:
        for sending in self._speaker.sendings():
            if stop.is_set():
                break
            await self._ask(sending)
            if sending.repeats and self._remembered:
                await self._repeat()
        last = self._speaker.last()
        if last is not None:
            await self._ask(last)

    def close(self) -> None:
        self._wire.close()

    async def _ask(self, sending: Sending) -> None:
        if sending.reset_after_s is not None:
            await self._wire.post_and_reset(sending.request, sending.reset_after_s)
            self._tally.resets += 1
            self._tally.retries += 1
        reply = await self._answered(sending.request)
        if reply is None:
            return
        try:
            denied = sending.hear(reply)
        except Strange as error:
            self._tally.troubles[str(error)] += 1
            return
        self._remembered.append((sending.request, reply))
        self._tally.answered += 1
        self._tally.denied += denied

    async def _repeat(self) -> None:
        """Send an id again that is answered; nothing may come of it but the same bytes."""
        request, before = self._jitter.choice(self._remembered)
        reply = await self._answered(request)
        self._tally.repeats += 1
        if reply is None:
            return
        # A refusal that is an error has no mark of a replay.
        marked = reply.replayed or reply.status != 200
        if not marked or (reply.status, reply.body) != (before.status, before.body):
            self._tally.differing += 1

    async def _answered(self, request: bytes) -> Reply | None:
        """Post until there is an answer; None when it never came or is none that may come."""
        give_up_s = time.monotonic() + RETRY_FOR_S
        backoff_s = BACKOFF_S_MIN
        while True:
            try:
                reply = await self._wire.post(request)
            except Unanswered as error:
                why = str(error)
            else:
                if reply.status not in _RETRIED:
                    break
                why = f"HTTP {reply.status}"
            if time.monotonic() > give_up_s:
                self._tally.unanswered += 1
                self._tally.troubles[f"no answer in {RETRY_FOR_S:g} s, at last {why}"] += 1
                return None
            self._tally.retries += 1
            await asyncio.sleep(self._jitter.uniform(0, backoff_s))
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
        self._tally.replays += reply.replayed
        if reply.status not in self._speaker.statuses:
            self._tally.unanswered += 1
            self._tally.troubles[f"HTTP {reply.status} {_word(reply.body)}"] += 1
            return None
        return reply


def _word(body: bytes) -> str:
    """Give the word of an error; without its message, so that errors of one kind are counted."""
    try:
        said = msgspec.json.decode(body)
        return str(said["key"] if "key" in said else said["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "without an error's body"
