"""Who may ask: one of the two credentials of SEMANTICS 10, judged over the raw bytes.

Decided here: that whatever does not verify is one and the same 401 after the same work (an instance
that does not exist is judged with a stand-in key), that a refusal first looks whether the catalogue
moved, and that a token once verified is remembered until it expires or the catalogue changes. Not
decided here: what a JWS must look like (core/jws.py, core/tokens.py).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Forbidden, Unauthorized
from gateway.core.keyring import KeyRing
from gateway.core.model import is_instance_id
from gateway.core.tokens import ROLE_CAPABILITY, Token, verify_payload, verify_token
from gateway.store.catalogues import Catalogues

TOKENS_MAX: Final = 50_000  # verified tokens kept; the least lately used goes first
DEFAULT_INSTANCE: Final = "~"
NO_INSTANCE: Final = "~"  # stands for names that no instance can have; itself one of them
_NOBODY: Final = KeyRing(())
_BEARER: Final = "bearer "


def bearer(authorization: str | None) -> str:
    """Give the token of an `Authorization: Bearer` header; empty for any other, or none."""
    text = authorization or ""
    return text[len(_BEARER) :].strip() if text[: len(_BEARER)].lower() == _BEARER else ""


class Caller(msgspec.Struct, frozen=True):
    """A verified caller: the instance it speaks for and what its credential brought."""

    index: CatalogueIndex
    forwarder: bool
    claims: dict[str, Any] | None = None  # of a signed payload; None: the body is the request
    jti: str | None = None
    kid: str = ""  # of the key that signed the credential


@dataclass(slots=True)
class Credentials:
    """Verifies credentials. `now_s` is wall-clock time, which tokens speak of."""

    catalogues: Catalogues
    now_s: Callable[[], float]
    skew_s: int = 60
    payload_max_age_s: int = 300
    _tokens: OrderedDict[bytes, Token] = field(default_factory=OrderedDict)

    async def by_token(self, instance: str, authorization: str | None) -> Caller:
        """Accept a capability token. Raises Unauthorized; Forbidden when it lacks the role."""
        text = bearer(authorization)

        def judge(index: CatalogueIndex | None) -> Caller | None:
            token = self._token(index, text)
            if token is None or index is None or index.catalogue.require_signed_payload:
                return None
            if not token.capable:
                raise Forbidden(f"Role {ROLE_CAPABILITY} is required", ROLE_CAPABILITY)
            return Caller(index, token.forwarder, kid=token.kid)

        return await self._judged(instance, judge)

    async def by_payload(
        self, instance: str, body: bytes, *, jti_required: bool, batch: bool = False
    ) -> Caller:
        """Accept a signed payload. Raises Unauthorized; BadRequest for a `jti` that is no id.

        Of a `batch` the claim `requests` is JSON text (core/tokens.py).
        """

        def judge(index: CatalogueIndex | None) -> Caller | None:
            payload = verify_payload(
                body,
                _NOBODY if index is None else index.ring,
                instance_id="" if index is None else index.catalogue.id,
                now_s=self.now_s(),
                max_age_s=self.payload_max_age_s,
                ahead_s=self.skew_s,
                jti_required=jti_required,
                batch=batch,
            )
            if payload is None or index is None:
                return None
            return Caller(index, payload.forwarder, payload.claims, payload.jti, payload.kid)

        return await self._judged(instance, judge)

    async def _judged(
        self, named: str, judge: Callable[[CatalogueIndex | None], Caller | None]
    ) -> Caller:
        instance = named if is_instance_id(named) else NO_INSTANCE
        if named == DEFAULT_INSTANCE:
            instance = await self.catalogues.default() or NO_INSTANCE
        index = await self.catalogues.get(instance)
        caller = judge(index)
        if caller is None:
            # Perhaps a key was added, or the instance, since the catalogue was read.
            version = index.catalogue.version if index else 0
            if await self.catalogues.changed(instance, version):
                caller = judge(await self.catalogues.read(instance))
        if caller is None and named == DEFAULT_INSTANCE:
            # Perhaps it means another one now: what was read before may have said so wrongly.
            meant = await self.catalogues.default()
            if meant not in (None, instance):
                caller = judge(await self.catalogues.get(meant or NO_INSTANCE))
        if caller is None:
            raise Unauthorized
        return caller

    def _token(self, index: CatalogueIndex | None, text: str) -> Token | None:
        now_s = self.now_s()
        if index is None:
            verify_token(text, _NOBODY, now_s=now_s, skew_s=self.skew_s, require_exp=True)
            return None
        catalogue = index.catalogue
        key = hashlib.sha256(
            f"{catalogue.id}\x1f{catalogue.version}\x1f{text}".encode(errors="replace")
        ).digest()
        token = self._tokens.get(key)
        if token is not None:
            lapsed = token.exp_s is not None and now_s >= token.exp_s + self.skew_s
            if not lapsed and (token.until_s is None or now_s < token.until_s):
                self._tokens.move_to_end(key)
                return token
            del self._tokens[key]
            return None
        token = verify_token(
            text,
            index.ring,
            now_s=now_s,
            skew_s=self.skew_s,
            require_exp=catalogue.require_exp,
        )
        if token is not None:
            self._tokens[key] = token
            if len(self._tokens) > TOKENS_MAX:
                self._tokens.popitem(last=False)
        return token
