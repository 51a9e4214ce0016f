"""The story of an access request: authenticate, read, resolve, apply, answer. One direction.

Decided here: which idempotency id a request has and for how long it is remembered, what happens
when the catalogue moved meanwhile, and how an answer is signed. Not decided here: HTTP, what is
granted (the script), how it is written (protocols/), many requests at once (batch.py, which makes
its jobs and answers here). Source: SEMANTICS 8 to 10, DESIGN 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from gateway.core.calls import INCREMENTAL, PARTIAL, PREVIEW, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest, IdempotencyMismatch, Unavailable
from gateway.core.fingerprint import dedupe_id, fingerprint, visible_ascii
from gateway.core.keys import PrivateKey
from gateway.core.meters import Meters
from gateway.core.metrics import Outcome as Came
from gateway.core.model import AccessRequest, Want
from gateway.core.tokens import sign_answer
from gateway.core.versions import ANY_VERSION
from gateway.protocols.cmapi_answer import encode_access, encode_preview, read_echo, write_echo
from gateway.protocols.cmapi_request import (
    decode_preview,
    decode_request,
    normalise,
    normalise_preview,
)
from gateway.service.credentials import Caller, Credentials
from gateway.service.noted import Noted, outcome_of
from gateway.service.rates import KeyRates
from gateway.store.calls import Job
from gateway.store.lanes import Lane

OWN_ID_TTL_MS: Final = 60_000  # an id of ours only has to outlive the call's own re-sending
CATALOGUE_TRIES_MAX: Final = 5


class Kind(Enum):
    """The three endpoints."""

    ACCESS = "access_request"
    SIGNED = "signed_access_request"
    PREVIEW = "preview_request"


class Posted(msgspec.Struct, frozen=True):
    """What arrived: the instance as named in the path, headers that matter, the raw body."""

    kind: Kind
    instance: str
    body: bytes
    jose: bool  # the body is a JWS
    authorization: str | None = None
    idempotency_key: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """What goes back, with status 200. `at_ms` is the transaction time; the first one's on a
    replay.
    """

    body: bytes
    at_ms: int
    replayed: bool
    signed: bool


@dataclass(frozen=True, slots=True)
class Signer:
    """The gateway's own key for signed answers."""

    kid: str
    alg: str
    private: PrivateKey = field(repr=False)


@dataclass(slots=True)
class Access:
    """Answers access requests over one lane. Times of retention are in ms."""

    credentials: Credentials
    lane: Lane
    signer: Signer
    now_s: Callable[[], float]
    retention_ms: int = 3_600_000
    forwarder_retention_ms: int = 30 * 86_400_000
    resend_ms: int = 4_000  # an outcome is remembered at least as long as the lane may send again
    explain_ms: int = 0  # how long why it came to an outcome is kept; 0: not at all
    rates: KeyRates = field(default_factory=KeyRates)
    meters: Meters = field(default_factory=Meters)

    async def serve(self, posted: Posted, request_id: str, noted: Noted | None = None) -> Answer:
        """Answer one posted request. `request_id` is ours: 22 characters of base64url, unique.
        In `noted` goes whose it is, once that is verified, and what it came to.

        Raises what SEMANTICS 10 names, in its order: credential, role, body, idempotency, store;
        TooFast behind the role. A retry of the same request under the same id is always safe.
        """
        noted = noted or Noted()
        caller = await self._authenticated(posted)
        noted.instance, noted.kid = caller.index.catalogue.id, caller.kid
        self.rates.spend(caller.index.catalogue.id, caller.kid)
        for _ in range(CATALOGUE_TRIES_MAX):
            request = _read(posted, caller)
            if posted.kind is Kind.PREVIEW:
                job = _preview_job(caller.index, request)
                idempotency_id = None
            else:
                idempotency_id = _idempotency_id(posted, caller, request)
                job = self.job(caller, request, idempotency_id, request_id)
            reply = await self.lane.submit(job)
            if reply.verdict is not Verdict.STALE:
                answer = self._answer(
                    posted.kind, caller.index, request, reply, idempotency_id, request_id
                )
                noted.outcome = self.count(request, reply, replayed=answer.replayed)
                return answer
            # Read again and judge the credential again: its key may have been revoked.
            await self.credentials.catalogues.read(caller.index.catalogue.id)
            caller = await self._authenticated(posted)
        raise Unavailable("The catalogue changes too fast to follow", "not_applied")

    async def _authenticated(self, posted: Posted) -> Caller:
        if posted.jose:
            return await self.credentials.by_payload(
                posted.instance, posted.body, jti_required=posted.kind is not Kind.PREVIEW
            )
        return await self.credentials.by_token(posted.instance, posted.authorization)

    def job(
        self, caller: Caller, request: AccessRequest, idempotency_id: str | None, own_id: str
    ) -> Job:
        """Resolve a request for the script; `own_id` names it there when no id of its own does."""
        index = caller.index
        if idempotency_id is None:
            # Nobody else has this id, so it can never come with another meaning.
            name, ttl_ms, meaning = own_id, OWN_ID_TTL_MS, ""
        else:
            name = dedupe_id(index.catalogue.id, idempotency_id)
            ttl_ms = self.forwarder_retention_ms if caller.forwarder else self.retention_ms
            meaning = fingerprint(request).hex()
        # What was asked is told with why it was answered so, whoever gave the id.
        kept = idempotency_id is not None or self.explain_ms > 0
        flags = (INCREMENTAL if request.incremental else 0) | (PARTIAL if request.partial else 0)
        return Job(
            index,
            index.resolve(request),
            name,
            max(ttl_ms, self.resend_ms),
            meaning,
            write_echo(request) if kept else "",
            request.host.canonical,
            flags,
            explain_ms=self.explain_ms,
        )

    def count(self, request: AccessRequest, reply: Reply, *, replayed: bool) -> Came:
        """Name what an answered request came to; what was denied now is counted."""
        if replayed:
            return Came.REPLAYED
        outcome = reply.outcome
        if outcome is None:
            return Came.PREVIEW
        if outcome.shortfalls:
            self.meters.denied(outcome.shortfalls)
        return outcome_of(request, outcome.shortfalls)

    def _answer(
        self,
        kind: Kind,
        index: CatalogueIndex,
        request: AccessRequest,
        reply: Reply,
        idempotency_id: str | None,
        request_id: str,
    ) -> Answer:
        if reply.preview is not None:
            body = encode_preview(index, request, reply.preview)
            return Answer(body, reply.preview.at_ms, False, False)
        body, at_ms = plain_answer(index, request, reply)
        if kind is Kind.SIGNED:
            body = self._signed(index, body, idempotency_id or request_id)
        # Under an id of ours only the lane's own re-sending is replayed: the client sees it first.
        replayed = reply.verdict is Verdict.REPLAYED and idempotency_id is not None
        return Answer(body, at_ms, replayed, kind is Kind.SIGNED)

    def _signed(self, index: CatalogueIndex, body: bytes, answer_id: str) -> bytes:
        more: dict[str, Any] = {
            "iat": int(self.now_s()),
            "instanceId": index.catalogue.id,
            "requestId": answer_id,
        }
        payload = body[:-1] + b"," + msgspec.json.encode(more)[1:]
        return sign_answer(self.signer.private, self.signer.kid, payload)


def plain_answer(index: CatalogueIndex, request: AccessRequest, reply: Reply) -> tuple[bytes, int]:
    """Give the plain answer to an access request that was applied, and its transaction time in ms.

    A replay is answered as the first was. Raises IdempotencyMismatch.
    """
    if reply.verdict is Verdict.MISMATCH:
        raise IdempotencyMismatch("The idempotency id was used for another request")
    outcome = reply.outcome
    assert outcome is not None  # noqa: S101 - the lane lets no other verdict through
    if reply.echo:
        request = read_echo(reply.echo)
    return encode_access(index, request, outcome), outcome.at_ms


def _read(posted: Posted, caller: Caller) -> AccessRequest:
    if posted.kind is Kind.PREVIEW:
        if caller.claims is not None:
            return normalise_preview(caller.claims)
        return decode_preview(posted.body)
    return decode_request(posted.body) if caller.claims is None else normalise(caller.claims)


def _idempotency_id(posted: Posted, caller: Caller, request: AccessRequest) -> str | None:
    header = posted.idempotency_key
    if header is not None and not visible_ascii(header):
        raise BadRequest(
            "Idempotency-Key must be 1 to 255 visible ASCII characters", "Idempotency-Key"
        )
    return caller.jti or header or request.correlation_id


def everything(index: CatalogueIndex, request: AccessRequest) -> AccessRequest:
    """Ask for any version of every feature: what a preview without a list looks at."""
    names = sorted(
        name for name, lines in index.feature.items() if any(not line.retired for line in lines)
    )
    wants = tuple(Want(name, ANY_VERSION, 0) for name in names)
    return msgspec.structs.replace(request, wants=wants)


def _preview_job(index: CatalogueIndex, request: AccessRequest) -> Job:
    asked = request if request.wants else everything(index, request)
    host = request.host.canonical
    return Job(index, index.resolve_apart(asked), "", 0, "", "", host, PREVIEW)
