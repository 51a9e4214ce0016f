"""What all doors of LicenseSpring clients have in common.

Decided here: the order in which HTTP itself is checked, as for access requests, before a call is
let in; the headers of an answer; that a body is written once, so that what is signed is what is
sent; and the shape of errors, whoever answers (for paths that lead nowhere app.py has the same).
Source: protocols/licensespring.md 2.2 and 9, SEMANTICS 9 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.errors import GatewayError
from gateway.core.floating_asks import Asking
from gateway.core.floating_signing import AnswerSigner
from gateway.core.metrics import Outcome
from gateway.core.moments import iso
from gateway.protocols import licensespring_problem
from gateway.protocols.licensespring_answers import encode
from gateway.service.floating import Done, Floating
from gateway.service.floating_reads import FloatingReads
from gateway.service.floating_releases import FloatingReleases
from gateway.service.floating_users import FloatingUsers
from gateway.web import bodies
from gateway.web.bodies import ClientGone, Headers, Limits, read_body
from gateway.web.endpoints import JSON, NOTED, Answered, Endpoint, as_answered, note_failure

NO_STORE = (b"cache-control", b"no-store")  # a token is for nobody in between

_log = structlog.get_logger("gateway.floating")

_REPLAYED = (b"idempotency-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Doors:
    """The stories behind the routes. Without a `signer` version 2 is not spoken."""

    floating: Floating
    reads: FloatingReads
    releases: FloatingReleases
    users: FloatingUsers
    limits: Limits
    signer: AnswerSigner | None = None

    async def admitted(self, scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
        """Read a request, and let it in. Raises what SEMANTICS 10 names, in its order."""
        headers, body = await self.read(scope, receive)
        await self.users.admit(headers.authorization)
        return headers, body

    async def read(self, scope: Scope, receive: Receive) -> tuple[Headers, bytes]:
        """Read a request within its bounds; a body, where there is one, is JSON."""
        headers = Headers(scope)
        body = await read_body(receive, headers.content_length, self.limits)
        if body:
            headers.require(bodies.JSON)
        return headers, body

    async def ask(
        self, scope: Scope, asking: Asking, idempotency_key: str | None, request_id: str
    ) -> Done:
        """Carry out an operation; see Floating.ask."""
        noted = scope[NOTED]
        noted.instance = self.floating.instance
        done = await self.floating.ask(asking, idempotency_key, request_id)
        noted.outcome = Outcome.REPLAYED if done.replayed else Outcome.GRANTED
        return done

    def signed(self, body: Any, done: Done | None = None) -> Answered:
        """Answer with a body that version 2's clients verify."""
        status, headers, content = answered(body, done)
        if self.signer is not None and isinstance(content, bytes):
            headers.append((b"licensesignature", self.signer.sign(content).encode()))
        return status, headers, content


def in_shape(route: BaseRoute) -> BaseRoute:
    """Give a route whose endpoint answers errors as these clients read them."""
    assert isinstance(route, Route)  # noqa: S101 - all of theirs are
    assert isinstance(route.endpoint, Endpoint)  # noqa: S101 - as above
    name, answer, protocol = route.endpoint.name, route.endpoint.answer, route.endpoint.protocol

    async def shaped(scope: Scope, receive: Receive, request_id: str) -> Answered:
        try:
            return await answer(scope, receive, request_id)
        except ClientGone:
            raise
        except GatewayError as error:
            note_failure(scope[NOTED], error, request_id, _log)
            return as_answered(licensespring_problem.render(error, scope["path"]))
        except Exception:
            scope[NOTED].outcome = Outcome.ERROR
            _log.exception("unexpected", request_id=request_id, kind=name)
            return as_answered(licensespring_problem.render_internal(request_id, scope["path"]))

    return Route(route.path, Endpoint(name, shaped, protocol), methods=sorted(route.methods or ()))


def answered(body: Any, done: Done | None = None) -> Answered:
    """Answer with a body, written as compact JSON; `done` is what was carried out, if anything."""
    headers = [JSON]
    if done is not None:
        headers.append((b"gateway-transaction-time", iso(done.at_ms).encode()))
        if done.replayed:
            headers.append(_REPLAYED)
    return 200, headers, encode(body)
