"""Every operation of a gateway as its doorkeeper sees it: who may come in, and with what.

Written from SEMANTICS 10 and protocols/cmapi.md 3, not from the table of the code, so that one can
be held against the other. A new operation needs an entry here: a test compares the routes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from gateway.core.model import Role
from gateway.core.numbers import client_number
from tests.vectors.credentials import public_der
from tests.web.desks import LOGIN

BASE: Final = "/api/1.0/instances/{instance}"
SHORT: Final = "/api/1.0"
JSON, NDJSON, OCTETS = "application/json", "application/x-ndjson", "application/octet-stream"

HOST: Final = {"type": "string", "value": "h1"}
ASKED: Final = "asked/before"  # an idempotency id under which HOST got an editor


class Way(Enum):
    """How a request proves whose it is."""

    CLIENT = "capability token, or the body signed"
    ADMINISTRATOR = "token of a log-in"
    LOGIN = "name and password in the body"
    ANYBODY = "not at all"


@dataclass(frozen=True)
class Operation:
    """A method at a path as it is routed; `body` is a good one, answered with `status`."""

    method: str
    path: str
    way: Way
    roles: tuple[Role, ...] = ()  # of an administrator; one of them suffices
    media_type: str = ""
    body: bytes = b""
    status: int = 200
    values: tuple[tuple[str, str], ...] = ()  # what stands for the path's other placeholders

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def short(self) -> bool:
        """Whether it is the short form of a local server, which means the default instance."""
        return self.path.startswith(SHORT) and not self.path.startswith(BASE)

    def at(self, instance: str) -> str:
        """Give the path of a request to an instance."""
        path = self.path.replace("{instance}", instance)
        for placeholder, value in self.values:
            path = path.replace(placeholder, value)
        return path


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


_ASKING: Final = {"hostId": HOST, "incremental": True, "features": [{"name": "sessions"}]}


def _asking(name: str, media_type: str = JSON, **more: str) -> Operation:
    path = f"{BASE}/{name}"
    return Operation("POST", path, Way.CLIENT, media_type=media_type, body=_json(_ASKING | more))


def _reads(path: str, **values: str) -> Iterator[Operation]:
    pairs = tuple((f"{{{name.replace('_', ':')}}}", value) for name, value in values.items())
    for form in (BASE, SHORT):
        yield Operation("GET", form + path, Way.ADMINISTRATOR, (Role.READ,), values=pairs)


_KEY_ROLES: Final = (Role.ADMIN, Role.PRODUCER)
_CLIENT: Final = str(client_number("STRING:h1"))
_KEYS: Final = f"{BASE}/rest_licensing_keys"

OPERATIONS: Final = (
    _asking("access_request"),
    _asking("signed_access_request"),
    _asking("preview_request"),
    _asking("access_requests", NDJSON, correlationId="line-1"),
    Operation("POST", f"{BASE}/authorize", Way.LOGIN, media_type=JSON, body=_json(LOGIN)),
    Operation(
        "POST",
        _KEYS,
        Way.ADMINISTRATOR,
        _KEY_ROLES,
        media_type=OCTETS,
        body=public_der("other", "RS256"),
    ),
    Operation("DELETE", _KEYS, Way.ADMINISTRATOR, _KEY_ROLES, status=410),
    Operation("GET", BASE, Way.ADMINISTRATOR, (Role.READ,)),
    *_reads("/features"),
    *_reads("/features/summaries"),
    *_reads("/features/{number}", number="1"),
    *_reads("/features/{number}/clients", number="3"),
    *_reads("/clients"),
    *_reads("/requests/{id:path}", id_path=ASKED),
    *_reads("/reservationgroups"),
    *_reads("/policies"),
    *_reads("/usage"),
    *_reads("/usage/denials"),
    *_reads("/usage/peaks"),
    *_reads("/usage/capacity"),
    Operation(
        "PATCH",
        f"{BASE}/policies",
        Way.ADMINISTRATOR,
        (Role.ADMIN,),
        media_type=JSON,
        body=_json({"gateway.requireExp": False}),
    ),
    Operation(
        "DELETE",
        f"{BASE}/clients/{{number}}",
        Way.ADMINISTRATOR,
        (Role.DROPCLIENT,),
        values=(("{number}", _CLIENT),),
    ),
    Operation("GET", f"{BASE}/health", Way.ANYBODY),
    Operation("GET", f"{SHORT}/health", Way.ANYBODY),
    Operation("GET", "/livez", Way.ANYBODY),
    Operation("GET", "/readyz", Way.ANYBODY),
    Operation("GET", "/metrics", Way.ANYBODY),
    Operation("GET", "/.well-known/jwks.json", Way.ANYBODY),
    Operation("GET", "/openapi.json", Way.ANYBODY),
)


def those(*ways: Way) -> list[Operation]:
    """Give the operations that are come to by these ways."""
    return [operation for operation in OPERATIONS if operation.way in ways]


def heads() -> list[Operation]:
    """Give what HEAD is answered for: each GET that is an endpoint of an instance."""
    return [replace(each, method="HEAD") for each in OPERATIONS if each.method == "GET"]


def methods_of(path: str) -> set[str]:
    """Give the methods that a path as it is routed knows; where there is GET, there is HEAD."""
    found = {operation.method for operation in OPERATIONS if operation.path == path}
    return found | {"HEAD"} if "GET" in found else found
