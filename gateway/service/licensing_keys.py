"""The licensing key of an instance, uploaded and removed by its administrators.

Decided here: which roles that takes, and that each change is one step of the catalogue, told in the
log. Not decided here: what an upload replaces (core/key_uploads.py).
Source: protocols/cmapi.md 3.2 and Q17.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from gateway.core.key_uploads import licensing_key, with_upload, without_uploads
from gateway.core.model import Role
from gateway.protocols.cmapi_admin import decode_upload
from gateway.service.admin import Admin

ROLES: Final = (Role.ADMIN, Role.PRODUCER)

_log = structlog.get_logger("gateway.admin")


@dataclass(frozen=True, slots=True)
class LicensingKeys:
    """Changes the uploaded keys of instances."""

    admin: Admin

    async def upload(
        self, named: str, authorization: str | None, der: bytes, query: bytes
    ) -> bytes:
        """Trust a key in the place of the one uploaded before; give it back.

        Raises Unauthorized, Forbidden, BadRequest, InvalidPublicKey, Unavailable, in this order. A
        retry changes nothing more.
        """
        who = await self.admin.admin(named, authorization, *ROLES)
        asked = decode_upload(query)
        key = licensing_key(der, asked.kid)
        edit = partial(
            with_upload,
            key=key,
            named=asked.kid is not None,
            overlap_ms=asked.overlap_ms,
            now_ms=int(self.admin.now_s() * 1000),
        )
        await self.admin.change(who, edit)
        _log.info("licensing_key_uploaded", instance=who.instance, user=who.user, kid=key.kid)
        return der

    async def remove(self, named: str, authorization: str | None) -> None:
        """Trust no uploaded key any longer; no error when there is none.

        Raises Unauthorized, Forbidden, Unavailable. A retry is always safe.
        """
        who = await self.admin.admin(named, authorization, *ROLES)
        await self.admin.change(who, without_uploads)
        _log.info("licensing_key_removed", instance=who.instance, user=who.user)
