"""The style sheet, the one script and the icon, as they are in the package.

Decided here: that browsers keep them, and take new ones when they change: the address has a digest
of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.errors import NotFound
from gateway.web.endpoints import Answered, Endpoint
from gateway.web.ui.visits import BASE

_TYPES: Final = {
    "style.css": b"text/css; charset=utf-8",
    "refresh.js": b"text/javascript; charset=utf-8",
    "icon.svg": b"image/svg+xml",
}
_KEPT: Final = (b"cache-control", b"public, max-age=31536000, immutable")
_SAFE: Final = (b"x-content-type-options", b"nosniff")


def load() -> tuple[Mapping[str, str], BaseRoute]:
    """Give the address of each file by its name, and the route that has them all."""
    room = files("gateway.web.ui") / "static"
    found = {name: (room / name).read_bytes() for name in _TYPES}
    digests = {name: hashlib.sha256(text).hexdigest()[:12] for name, text in found.items()}

    async def answer(scope: Scope, receive: Receive, request_id: str) -> Answered:
        name, digest = scope["path_params"]["name"], scope["path_params"]["digest"]
        if digests.get(name) != digest:
            raise NotFound("There is no such file")
        return 200, [(b"content-type", _TYPES[name]), _KEPT, _SAFE], found[name]

    addresses = {name: f"{BASE}/files/{digest}/{name}" for name, digest in digests.items()}
    path = f"{BASE}/files/{{digest}}/{{name}}"
    route = Route(path, Endpoint("page_file", answer), methods=["GET"])
    return addresses, route
