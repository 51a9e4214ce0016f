"""The fleet: clients that sign, post, retry under the same id, and keep a journal.

Decided here: how a request is made from what is asked (both ways of SEMANTICS 10), what is retried
(no answer, 429, 503: the same bytes under the same id, until answered or given up), and that a
repeat of an answered id must bring the same bytes. Not decided here: what is asked (mix.py), what
an answer means (journal.py). Source: SEMANTICS 9 and 10, RELIABILITY 1.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec

from gateway.cli.demonstration.journal import Journal, Units, read_answer, total
from gateway.cli.demonstration.mix import Ask, asks, read_back
from gateway.cli.demonstration.wire import Reply, Unanswered, Wire
from gateway.core.keys import PrivateKey
from gateway.core.model import Line
from gateway.core.tokens import sign_payload

RETRY_FOR_S: Final = 30.0  # then a request counts as never answered, and the demonstration fails
BACKOFF_S_MIN: Final = 0.01
BACKOFF_S_MAX: Final = 0.4
REMEMBERED_MAX: Final = 16  # answered ids that a client may send again

_RETRIED: Final = frozenset({429, 503})

# An access request and its idempotency id to the headers (lines, CRLF ended) and the body.
Seal = Callable[[dict[str, Any], str], tuple[str, bytes]]


def with_token(token: str) -> Seal:
    """Ask with a bearer token; the id is a header."""

    def seal(request: dict[str, Any], request_id: str) -> tuple[str, bytes]:
        headers = (
            f"Authorization: Bearer {token}\r\n"
            f"Idempotency-Key: {request_id}\r\nContent-Type: application/json\r\n"
        )
        return headers, msgspec.json.encode(request)

    return seal


def with_signature(private: PrivateKey, kid: str, instance: str) -> Seal:
    """Ask with a signed payload; the id is a claim of it."""

    def seal(request: dict[str, Any], request_id: str) -> tuple[str, bytes]:
        claims = request | {"iat": int(time.time()), "jti": request_id, "aud": instance}
        return "Content-Type: application/jose\r\n", sign_payload(private, kid, claims)

    return seal


def access_request(ask: Ask, host: str) -> dict[str, Any]:
    """Give the members of an access request by a host of this name."""
    return {
        "hostId": {"type": "string", "value": host},
        "incremental": ask.incremental,
        "partial": ask.partial,
        "borrow-interval": ask.interval,
        "features": [
            {"name": name, "version": version, "count": count}
            for name, version, count in ask.features
        ],
    }


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
    """All clients. They work until told to stop, then read back what they hold."""

    def __init__(
        self,
        *,
        address: tuple[str, int],
        instance: str,
        lines: Sequence[Line],
        seals: Sequence[Seal],
        seed: int,
        clients: int,
    ) -> None:
        self.tally = Tally()
        by_feature = {line.feature: line for line in lines}
        path = f"/api/1.0/instances/{instance}/access_request"
        self._clients = [
            _Client(
                name=f"demo-client-{number:03d}",
                post_to=(Wire(*address), path),
                seal=seals[number % len(seals)],
                asks=asks(seed, number),
                seed=f"{seed}-{number:03d}",
                journal=Journal(by_feature),
                tally=self.tally,
            )
            for number in range(clients)
        ]

    def units(self) -> dict[str, Units]:
        """Sum the journals, by feature name."""
        return total(client.journal for client in self._clients)

    def oddities(self) -> list[str]:
        """Give the answers that contradicted what a client had been told before."""
        return [
            f"{client.name}: {words}"
            for client in self._clients
            for words in client.journal.oddities
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
    """One host: its requests in order, its connection, its journal."""

    def __init__(
        self,
        *,
        name: str,
        post_to: tuple[Wire, str],
        seal: Seal,
        asks: Iterator[Ask],
        seed: str,
        journal: Journal,
        tally: Tally,
    ) -> None:
        self.name = name
        self.journal = journal
        self._wire, self._path = post_to
        self._seal = seal
        self._asks = asks
        self._seed = seed
        self._tally = tally
        self._sent = 0
        self._remembered: deque[tuple[bytes, bytes]] = deque(maxlen=REMEMBERED_MAX)
        # For what depends on answers; apart from the mix, which does not.
        self._jitter = Random(seed)  # noqa: S311 - spreads retries, no secret

    async def work(self, stop: asyncio.Event) -> None:
        for ask in self._asks:
            if stop.is_set():
                break
            await self._ask(ask)
            if ask.repeats and self._remembered:
                await self._repeat()
        await self._ask(read_back())

    def close(self) -> None:
        self._wire.close()

    async def _ask(self, ask: Ask) -> None:
        request = self._request(ask)
        if ask.reset_after_s is not None:
            await self._wire.post_and_reset(request, ask.reset_after_s)
            self._tally.resets += 1
            self._tally.retries += 1
        reply = await self._answered(request)
        if reply is None:
            return
        try:
            answer = read_answer(reply.body)
        except msgspec.DecodeError:
            self._tally.troubles["an answer with status 200 that is no access response"] += 1
            return
        self._remembered.append((request, reply.body))
        self._tally.answered += 1
        self._tally.denied += answer.denied
        self.journal.record(ask, answer)

    async def _repeat(self) -> None:
        """Send an id again that is answered; nothing may come of it but the same bytes."""
        request, body = self._jitter.choice(self._remembered)
        reply = await self._answered(request)
        self._tally.repeats += 1
        if reply is not None and not (reply.replayed and reply.body == body):
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
        if reply.status != 200:
            self._tally.unanswered += 1
            self._tally.troubles[f"HTTP {reply.status} {_key(reply.body)}"] += 1
            return None
        return reply

    def _request(self, ask: Ask) -> bytes:
        """Write a request once; every retry sends these bytes."""
        self._sent += 1
        body = access_request(ask, self.name)
        headers, sealed = self._seal(body, f"demo-{self._seed}-{self._sent:06d}")
        head = f"POST {self._path} HTTP/1.1\r\nHost: demo\r\n{headers}"
        return f"{head}Content-Length: {len(sealed)}\r\n\r\n".encode() + sealed


def _key(body: bytes) -> str:
    """Give the key of an error; without its message, so that errors of one kind are counted."""
    try:
        return str(msgspec.json.decode(body)["key"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "without an error's body"
