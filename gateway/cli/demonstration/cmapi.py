"""A client of CMAPI: it signs or shows a token, and reads access responses into its journal.

Decided here: how a request is made from what is asked, both ways of SEMANTICS 10. Not decided here:
what is asked (mix.py), what an answer means (journal.py), what is retried (fleet.py).
Source: SEMANTICS 2, 8, 9 and 10.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from gateway.cli.demonstration.fleet import Sending, Strange
from gateway.cli.demonstration.journal import Journal, read_answer
from gateway.cli.demonstration.mix import Ask, asks, read_back
from gateway.cli.demonstration.wire import Reply, post
from gateway.core.keys import PrivateKey
from gateway.core.model import Line
from gateway.core.tokens import sign_payload

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


class AccessSpeaker:
    """One host."""

    def __init__(
        self,
        *,
        number: int,
        seed: int,
        instance: str,
        seal: Seal,
        lines: Mapping[str, Line],
    ) -> None:
        self.name = f"demo-client-{number:03d}"
        self.seed = f"{seed}-{number:03d}"
        self.statuses = frozenset({200})
        self.journal = Journal(lines)
        self._path = f"/api/1.0/instances/{instance}/access_request"
        self._seal = seal
        self._asks = asks(seed, number)
        self._sent = 0

    def sendings(self) -> Iterator[Sending]:
        """Ask what the mix says, without end."""
        return map(self._sending, self._asks)

    def last(self) -> Sending:
        """Ask for what is held in the end."""
        return self._sending(read_back())

    def _sending(self, ask: Ask) -> Sending:
        self._sent += 1
        body = access_request(ask, self.name)
        headers, sealed = self._seal(body, f"demo-{self.seed}-{self._sent:06d}")
        request = post(self._path, headers, sealed)
        return Sending(request, partial(self._hear, ask), ask.reset_after_s, ask.repeats)

    def _hear(self, ask: Ask, reply: Reply) -> bool:
        try:
            answer = read_answer(reply.body)
        except msgspec.DecodeError:
            raise Strange("an answer with status 200 that is no access response") from None
        self.journal.record(ask, answer)
        return answer.denied
