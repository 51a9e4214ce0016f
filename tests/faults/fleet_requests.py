"""A request of a fleet's client, how it is signed and sent, and what an answer to it says.

Decided here: what can be said of an answer as it comes: whose it is, that it is whole, that a
repeat is the same again, and that the store's time has not gone back. Not decided here: who asks
for what, and how often (fleet_load.py), what the journals must agree with (fleet.py).
Source: SEMANTICS 8, 9 and 10.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import msgspec

from gateway.core.keys import PrivateKey, generate
from gateway.core.tokens import mint_token, sign_payload
from tests.faults.sites import RSA
from tests.stores.journal_entries import Outcome

TOKEN_KID, PAYLOAD_KID = "token", "payload"
TOKEN_KEY, PAYLOAD_KEY = RSA, generate("EdDSA")
TOKEN_S = 86_400


@dataclass(frozen=True)
class Told:
    """An answer: what was granted, when by the store's time, and the digest of its bytes."""

    granted: Mapping[str, int]
    at_ms: int
    replayed: bool
    digest: str


@dataclass(eq=False)
class Ask:
    """A request of a host under its id, and what came of its attempts so far.

    `asked` is units by line, whole or nothing unless `partial`. `doubt`: one of the attempts ended
    without a word on whether it was applied. `endings` are a word for each attempt.
    """

    id: str
    host: str
    asked: Mapping[str, int]
    partial: bool = False
    told: Told | None = None
    doubt: bool = False
    endings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Refusal:
    """An answer that grants nothing: its status, the outcome that it tells, and its message."""

    status: int
    word: str
    message: str

    def __str__(self) -> str:
        return f"{self.status} {self.word}".strip()

    @property
    def outcome(self) -> Outcome:
        """What it means for the request; a balancer's own words leave it open."""
        if self.status < 500 and self.status != 429:
            return Outcome.REFUSED
        return Outcome.NOT_APPLIED if self.word == "not_applied" else Outcome.UNKNOWN


def make_token() -> str:
    """Make a capability token that outlasts any run."""
    now_s = int(time.time())
    return mint_token(TOKEN_KEY, sub="fleet", now_s=now_s, ttl_s=TOKEN_S, kid=TOKEN_KID)


def seal(ask: Ask, instance: str, token: str | None) -> tuple[dict[str, str], bytes]:
    """Give headers and body: with a token, or else signed at this moment."""
    return seal_members(members_of(ask), ask.id, instance, token)


def members_of(ask: Ask) -> dict[str, Any]:
    """Give the members of an access request."""
    return {
        "hostId": {"type": "string", "value": ask.host},
        "incremental": True,
        "partial": ask.partial,
        "features": [
            {"name": name, "version": "1.0", "count": units} for name, units in ask.asked.items()
        ],
    }


def seal_members(
    members: Mapping[str, Any],
    id_: str,
    instance: str,
    token: str | None,
    *,
    key: PrivateKey = PAYLOAD_KEY,
    kid: str = PAYLOAD_KID,
) -> tuple[dict[str, str], bytes]:
    """Give headers and body of a request with these members, under an id."""
    if token is not None:
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": id_}
        return headers | {"Content-Type": "application/json"}, msgspec.json.encode(members)
    claims = dict(members) | {"iat": int(time.time()), "jti": id_, "aud": instance}
    return {"Content-Type": "application/jose"}, sign_payload(key, kid, claims)


def read_told(answer: httpx.Response) -> tuple[Told, str]:
    """Read an answer with status 200; give it and the host that it is for."""
    members = answer.json()
    at = datetime.fromisoformat(answer.headers["gateway-transaction-time"])
    told = Told(
        {each["name"]: each["count"] for each in members["features"] if each["count"]},
        round(at.timestamp() * 1000),
        answer.headers.get("idempotency-replayed") == "true",
        hashlib.sha256(answer.content).hexdigest(),
    )
    return told, members["requestHostId"]["value"]


def read_refusal(answer: httpx.Response) -> Refusal:
    """Read an answer with another status."""
    try:
        members = msgspec.json.decode(answer.content)
        word, message = next(iter(members["arguments"]), ""), members["message"]
    except (msgspec.DecodeError, KeyError, TypeError):  # a balancer's own words
        return Refusal(answer.status_code, "", "")
    return Refusal(answer.status_code, str(word), str(message))


def odd(ask: Ask, told: Told, host: str, known_ms: int) -> Iterator[str]:
    """Say what cannot be true of an answer; `ask` is as it was before this answer.

    `host` is whom it was for; `known_ms` is the latest transaction time that anybody had been told
    when this attempt began.
    """
    if host != ask.host:
        yield f"{ask.id} of {ask.host}: answered for {host}"
    if not (told.granted.keys() <= ask.asked.keys()):
        yield f"{ask.id}: {told.granted} granted, {ask.asked} asked"
    elif not ask.partial and told.granted and told.granted != ask.asked:
        yield f"{ask.id}: {told.granted} granted of {ask.asked}, which was whole or nothing"
    if ask.told is not None:
        if not told.replayed or told.digest != ask.told.digest:
            yield f"{ask.id}: answered before, and {told} is not {ask.told} again"
    elif told.at_ms < known_ms and not told.replayed:
        yield f"{ask.id}: applied at {told.at_ms}, but {known_ms} had been told before"
    elif told.at_ms < known_ms and not ask.doubt:
        # Any later, and the gateway would have repeated by itself what the store did not answer.
        yield f"{ask.id}: applied before this attempt, but {ask.endings} say that it was not"
