"""The policies of an instance, read and changed by its administrators.

Decided here: which roles that takes, and that a change is one step of the catalogue, told in the
log by the names of what it changed. A provisioning file that is applied later says all of them
anew. Not decided here: which policies there are (protocols/cmapi_server.py).
Source: protocols/cmapi.md 3.3 and 8.7.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from gateway.core.errors import Unavailable
from gateway.core.model import Catalogue, Role
from gateway.protocols.cmapi_server import Policies, changed_names, decode_change, policies_of
from gateway.service.admin import Admin, Who

_log = structlog.get_logger("gateway.admin")


@dataclass(frozen=True, slots=True)
class InstancePolicies:
    """Reads and changes the policies of instances."""

    admin: Admin

    async def read(self, named: str, authorization: str | None) -> Policies:
        """Give the policies in force. Raises Unauthorized, Forbidden, Unavailable."""
        who = await self.admin.admin(named, authorization, Role.READ)
        return self._of(who.index.catalogue)

    async def change(self, named: str, authorization: str | None, body: bytes) -> Policies:
        """Change the policies that a body names, all or none; give all that are in force then.

        Raises Unauthorized, Forbidden, BadRequest, Unavailable, in this order. What changes nothing
        writes nothing, so that a retry is always safe.
        """
        who = await self.admin.admin(named, authorization, Role.ADMIN)
        return await self.change_as(who, body)

    async def change_as(self, who: Who, body: bytes) -> Policies:
        """Do as `change` for somebody who was let in with ROLE_ADMIN."""
        changes = decode_change(body, self._of(who.index.catalogue))
        changed: list[str] = []

        def edit(current: Catalogue) -> Catalogue:
            new = replace(current, **changes)
            # A further try may find done what the one before it wrote without hearing so.
            changed[:] = changed_names(current, new) or changed
            return new

        told = {"instance": who.instance, "user": who.user, "policies": changed}
        try:
            written = await self.admin.change(who, edit)
        except Unavailable as error:
            if changed and error.outcome != "not_applied":
                _log.warning("policies_perhaps_changed", **told, outcome=error.outcome)
            raise
        if changed:
            _log.info("policies_changed", **told)
        return self._of(written)

    def _of(self, catalogue: Catalogue) -> Policies:
        return policies_of(catalogue, self.admin.session_s)
