"""The client keys of an instance, added and revoked by its administrators at the pages.

Decided here: who may: whoever may upload licensing keys, and for a forwarder's key an
administrator. Not decided here: which keys are strong enough (core/keys.py) and how many there may
be (core/keyring.py). Source: SEMANTICS 10, INTERFACE 1 (`keys`).
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from gateway.core.catalogue_edits import read_key, with_key, without_key
from gateway.core.errors import Forbidden
from gateway.core.key_uploads import without_lapsed
from gateway.core.model import Catalogue, Role
from gateway.service.admin import Admin, Who

_log = structlog.get_logger("gateway.admin")


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Adds and revokes client keys."""

    admin: Admin

    async def add(self, who: Who, data: bytes, kid: str | None, *, forwarder: bool) -> str:
        """Trust a public key, PEM or DER; give its kid.

        Raises InvalidInput, of a private key without repeating any of it; Forbidden; Unavailable.
        """
        if forwarder and Role.ADMIN not in who.roles:
            raise Forbidden(f"Role {Role.ADMIN} is required for a forwarder's key", Role.ADMIN)
        key = read_key(data, kid, forwarder=forwarder)
        now_ms = int(self.admin.now_s() * 1000)

        def edit(current: Catalogue) -> Catalogue:
            return with_key(without_lapsed(current, now_ms), key)

        await self.admin.change(who, edit)
        _log.info("key_added", instance=who.instance, user=who.user, kid=key.kid)
        return key.kid

    async def revoke(self, who: Who, kid: str) -> None:
        """Trust a key no longer. Raises InvalidInput when there is none; Unavailable."""
        await self.admin.change(who, lambda current: without_key(current, kid))
        _log.info("key_revoked", instance=who.instance, user=who.user, kid=kid)
