"""Every page and every deed as their doorkeeper sees them: where they are, which roles they ask.

Written from SEMANTICS 10 and the roles of the APIs that do the same, not from the code, so that one
can be held against the other. A new page needs an entry here: a test compares the routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.core.model import Role

BASE: Final = "/ui/instances/{instance}/"
NOBODY: Final = {
    "/ui": {"GET", "HEAD"},
    "/ui/": {"GET", "HEAD"},
    "/ui/login": {"GET", "HEAD", "POST"},
    "/ui/files/{digest}/{name}": {"GET", "HEAD"},
    "/ui/instances/{instance}": {"GET", "HEAD"},
}
_READ: Final = (Role.READ,)
_ADMIN: Final = (Role.ADMIN,)
_KEYS: Final = (Role.ADMIN, Role.PRODUCER)
_DROP: Final = (Role.DROPCLIENT,)


@dataclass(frozen=True)
class Place:
    """A page or a deed of an instance; `roles`: one of them suffices, none is for whoever is in."""

    path: str
    roles: tuple[Role, ...]
    deed: bool = False

    def __str__(self) -> str:
        return f"{'POST' if self.deed else 'GET'} {self.path}"


PLACES: Final = (
    Place("", _READ),
    Place("logout", (), deed=True),
    Place("licences", _READ),
    Place("licences/line", _READ),
    Place("licences/request", _READ),
    Place("registrations", _READ),
    Place("registrations/release", _DROP),
    Place("registrations/release", _DROP, deed=True),
    Place("consumption", _READ),
    Place("reports", _READ),
    Place("reports/file", _READ),
    Place("forwarding", _READ),
    Place("forwarding/record", _READ),
    Place("forwarding/aside", _READ),
    Place("forwarding/confirm", _ADMIN, deed=True),
    Place("forwarding/decide", _ADMIN, deed=True),
    Place("forwarding/sync", _ADMIN, deed=True),
    Place("configuration", _READ),
    Place("configuration", _ADMIN, deed=True),
    Place("configuration/keys", _READ),
    Place("configuration/keys", _KEYS, deed=True),
    Place("configuration/keys/public", _READ),
    Place("configuration/keys/revoke", _KEYS),
    Place("configuration/keys/revoke", _KEYS, deed=True),
    Place("configuration/users", _ADMIN),
    Place("configuration/users", _ADMIN, deed=True),
    Place("configuration/users/change", _ADMIN),
    Place("configuration/users/change", _ADMIN, deed=True),
    Place("configuration/users/remove", _ADMIN),
    Place("configuration/users/remove", _ADMIN, deed=True),
    Place("configuration/provisioning", _ADMIN),
    Place("configuration/provisioning", _ADMIN, deed=True),
    Place("configuration/provisioning/apply", _ADMIN, deed=True),
)


def methods_of_pages() -> dict[str, set[str]]:
    """Give the methods of each path of the table, HEAD with each GET."""
    found = {path: set(methods) for path, methods in NOBODY.items()}
    for place in PLACES:
        methods = {"POST"} if place.deed else {"GET", "HEAD"}
        found.setdefault(BASE + place.path, set()).update(methods)
    return found


def is_page(path: str) -> bool:
    """Say whether a route is one of pages."""
    return path == "/ui" or path.startswith("/ui/")
