"""LicenseSpring's floating server over HTTP: all routes, and version 1 of the protocol.

Decided here: which paths and methods there are, aliases included, and which body each call is
answered with. Not decided here: version 2 (licensespring_v2.py), log-ins (licensespring_auth.py),
what is shared (licensespring_doors.py). Source: protocols/licensespring.md 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.floating_asks import Operation
from gateway.core.metrics import Protocol
from gateway.protocols import licensespring_answers as answers
from gateway.protocols.licensespring_problem import V1
from gateway.protocols.licensespring_requests import read_added_v1, read_choice, read_v1
from gateway.protocols.licensespring_wire import Online
from gateway.service.floating import Done
from gateway.web import licensespring_auth, licensespring_v2
from gateway.web.endpoints import Answered, Endpoint
from gateway.web.licensespring_doors import Doors, answered, in_shape

# Operation -> its paths, the later ones being aliases, and how it is answered.
_CALLS: Final[tuple[tuple[Operation, tuple[str, ...], Callable[[Done], Any]], ...]] = (
    (Operation.REGISTER, ("/register",), lambda done: answers.registered(done.view)),
    (Operation.UNREGISTER, ("/unregister",), lambda done: answers.UNREGISTERED),
    (
        Operation.BORROW,
        ("/borrow",),
        lambda done: answers.borrowed(done.view, done.lapses_ms),
    ),
    (
        Operation.CONSUME,
        ("/add_consumption",),
        lambda done: answers.consumption_v1(done.view, done.line),
    ),
    (
        Operation.CONSUME_FEATURE,
        ("/add_feature_consumption",),
        lambda done: answers.feature_consumption_v1(done.view, done.line),
    ),
    (
        Operation.REGISTER_FEATURE,
        ("/featureRegister", "/check_license_feature"),
        lambda done: answers.feature_registered_v1(done.view, done.line),
    ),
    (
        Operation.RELEASE_FEATURE,
        ("/featureRelease", "/feature_release"),
        lambda done: answers.RELEASED,
    ),
)


def routes(doors: Doors, sync: list[BaseRoute]) -> list[BaseRoute]:
    """Give the routes of both versions; `sync` are those of the exchange with the cloud.

    Version 1 is always there. Without a signer nothing of version 2 is but log-in and sync, which
    administrators come to.
    """
    reads = _Reads(doors)
    all_released = Endpoint("licensespring_release_all", reads.release_features)
    all_routes = [
        Route("/", Endpoint("licensespring_online", reads.online), methods=["GET"]),
        *licensespring_auth.routes(doors),
        *(
            Route(
                V1 + path,
                Endpoint(
                    f"licensespring_{operation}",
                    partial(_call, doors, operation, write),
                    Protocol.LICENSESPRING,
                ),
                methods=["POST"],
            )
            for operation, paths, write in _CALLS
            for path in paths
        ),
        Route(
            f"{V1}/unregister/all",
            Endpoint("licensespring_unregister_all", reads.unregister_all),
            methods=["GET"],
        ),
        *(
            Route(f"{V1}{path}/all", all_released, methods=["GET", "POST"])
            for path in ("/featureRelease", "/feature_release")
        ),
        Route(f"{V1}/license", Endpoint("licensespring_license", reads.license), methods=["GET"]),
        Route(f"{V1}/addProduct", Endpoint("licensespring_add", reads.add), methods=["GET"]),
        *sync,
        *(licensespring_v2.routes(doors) if doors.signer is not None else ()),
    ]
    return [in_shape(route) for route in all_routes]


async def _call(
    doors: Doors,
    operation: Operation,
    write: Callable[[Done], Any],
    scope: Scope,
    receive: Receive,
    request_id: str,
) -> Answered:
    headers, body = await doors.admitted(scope, receive)
    asking = read_v1(operation, body)
    done = await doors.ask(scope, asking, headers.idempotency_key, request_id)
    return answered(write(done), done)


@dataclass(frozen=True, slots=True)
class _Reads:
    """What is read, and what is done for everybody."""

    doors: Doors

    async def online(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        return answered(Online("ok"))

    async def license(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        product, license_id = read_choice(scope["query_string"])
        return answered(answers.license_v1(await self.doors.reads.one(product, license_id)))

    async def add(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        wanted = read_added_v1(scope["query_string"])
        return answered(answers.added_v1(await self.doors.floating.added(wanted)))

    async def unregister_all(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        await self.doors.releases.everybody(request_id)
        return 200, [], b""

    async def release_features(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        await self.doors.releases.features(request_id)
        return answered(answers.ALL_RELEASED)
