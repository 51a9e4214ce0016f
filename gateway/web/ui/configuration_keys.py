"""The keys of an instance's clients: listed, uploaded, revoked. A private key is never shown.

Decided here: that a key comes as a file or as text, and that what was sent as one is never shown
again: it may be a private one. Not decided here: what a key is worth (service/client_keys.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.routing import BaseRoute

from gateway.core.errors import Forbidden, InvalidInput, NotFound
from gateway.core.keys import load_public, public_pem, thumbprint
from gateway.core.model import Key, Role
from gateway.service.client_keys import ClientKeys
from gateway.service.licensing_keys import ROLES
from gateway.web.ui.doors import Doors
from gateway.web.ui.visits import Moved, Reply, Sent, Shown, Visit

KID_CHARS_MAX: Final = 255


def routes(doors: Doors, keys: ClientKeys) -> list[BaseRoute]:
    """Give the routes of client keys."""
    pages = _Pages(keys)
    return [
        doors.page("configuration/keys", "keys", pages.listed, Role.READ),
        doors.page("configuration/keys/public", "public_key", pages.public, Role.READ),
        doors.page("configuration/keys/revoke", "key_revoke", pages.confirm, *ROLES),
        doors.deed("configuration/keys", "key_add", pages.add, *ROLES),
        doors.deed("configuration/keys/revoke", "key_revoke", pages.revoke, *ROLES),
    ]


class _Pages:
    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys

    async def listed(self, visit: Visit) -> Reply:
        return _shown(visit)

    async def public(self, visit: Visit) -> Reply:
        key = _found(visit, visit.asked("kid", KID_CHARS_MAX))
        return Sent(public_pem(load_public(key.public)), "application/x-pem-file", "public.pem")

    async def add(self, visit: Visit) -> Reply:
        kid = visit.said("kid", KID_CHARS_MAX)
        pasted = visit.form.text("pem").strip()
        data = visit.form.files.get("file") or pasted.encode()
        try:
            if not data:
                raise InvalidInput("Choose a file with a public key, or paste one")
            named = await self._keys.add(
                visit.who, data, kid or None, forwarder=visit.form.text("forwarder") == "1"
            )
        except InvalidInput as error:
            return _shown(visit, error.problems, kid)
        except Forbidden as error:
            return _shown(visit, (error.message,), kid, 403)
        return Moved(visit.path("configuration/keys"), f"Requests signed with {named} are trusted.")

    async def confirm(self, visit: Visit) -> Reply:
        key = _found(visit, visit.asked("kid", KID_CHARS_MAX))
        return Shown("key_revoke.html", {"key": key, "fingerprint": thumbprint_of(key)})

    async def revoke(self, visit: Visit) -> Reply:
        kid = visit.said("kid", KID_CHARS_MAX)
        await self._keys.revoke(visit.who, kid)
        return Moved(visit.path("configuration/keys"), f"{kid} is revoked.")


def thumbprint_of(key: Key) -> str:
    """Give the RFC 7638 thumbprint of a key; empty when it is damaged."""
    try:
        return thumbprint(load_public(key.public))
    except InvalidInput:
        return ""


def _found(visit: Visit, kid: str) -> Key:
    found = next((key for key in visit.catalogue.keys if key.kid == kid), None)
    if found is None:
        raise NotFound(f"There is no key {kid[:64]!r} (any more)", kid[:64])
    return found


def _shown(visit: Visit, problems: Sequence[str] = (), kid: str = "", status: int = 400) -> Shown:
    keys = [(key, thumbprint_of(key)) for key in visit.catalogue.keys]
    data = {
        "keys": keys,
        "problems": problems,
        "kid": kid,
        "may_change": visit.may(*ROLES),
        "may_forward": visit.may(Role.ADMIN),
    }
    return Shown("keys.html", data, status if problems else 200)
