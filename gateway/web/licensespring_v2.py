"""Version 2 of LicenseSpring's floating server over HTTP: a licence is named in the path.

Decided here: which paths and methods there are, which body each call is answered with, and which of
them are signed. Source: protocols/licensespring.md 2, 2.1 and 2.2.
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
from gateway.protocols.licensespring_problem import V2
from gateway.protocols.licensespring_requests import (
    read_added_v2,
    read_feature,
    read_filter,
    read_id,
    read_v2,
)
from gateway.protocols.licensespring_wire import Pong
from gateway.service.floating import Done
from gateway.web.arrays import array
from gateway.web.endpoints import JSON, Answered, Endpoint, by_method
from gateway.web.licensespring_doors import Doors, answered

LICENSES: Final = f"{V2}/license"
LICENSE: Final = f"{LICENSES}/{{license}}"

# Operation -> its path, and how it is answered; a text is not signed.
_CALLS: Final[tuple[tuple[Operation, str, Callable[[Done], Any]], ...]] = (
    (Operation.REGISTER, "/user/register", lambda done: answers.license_v2(done.view)),
    (Operation.UNREGISTER, "/user/unregister", lambda done: answers.UNREGISTERED),
    (
        Operation.BORROW,
        "/user/borrow",
        lambda done: answers.signed_borrow(done.view, done.host, done.lapses_ms),
    ),
    (
        Operation.CONSUME,
        "/consumption/add",
        lambda done: answers.consumption_v2(done.view, done.line),
    ),
    (
        Operation.CONSUME_FEATURE,
        "/consumption/feature/add",
        lambda done: answers.feature_consumption_v2(done.view, done.line),
    ),
    (
        Operation.REGISTER_FEATURE,
        "/feature/register",
        lambda done: answers.feature_registered_v2(done.view, done.line),
    ),
    (Operation.RELEASE_FEATURE, "/feature/release", lambda done: answers.RELEASED),
)


def routes(doors: Doors) -> list[BaseRoute]:
    """Give the routes that clients of version 2 come to."""
    more = _More(doors)
    licenses = by_method({"GET": more.listed, "HEAD": more.listed, "POST": more.add})
    return [
        Route(f"{V2}/ping", Endpoint("licensespring_ping", more.ping), methods=["GET"]),
        Route(LICENSES, Endpoint("licensespring_licenses", licenses), methods=["GET", "POST"]),
        Route(LICENSE, Endpoint("licensespring_license", more.license), methods=["GET"]),
        Route(f"{LICENSE}/user", Endpoint("licensespring_users", more.users), methods=["GET"]),
        Route(
            f"{LICENSE}/feature",
            Endpoint("licensespring_features", more.features),
            methods=["GET"],
        ),
        *(
            Route(
                LICENSE + path,
                Endpoint(
                    f"licensespring_{operation}",
                    partial(_call, doors, operation, write),
                    Protocol.LICENSESPRING,
                ),
                methods=["POST"],
            )
            for operation, path, write in _CALLS
        ),
        Route(
            f"{LICENSE}/user/unregister_all",
            Endpoint("licensespring_unregister_all", more.unregister_all),
            methods=["POST"],
        ),
        Route(
            f"{LICENSE}/feature/release_all",
            Endpoint("licensespring_release_all", more.release_all),
            methods=["POST"],
        ),
    ]


async def _call(
    doors: Doors,
    operation: Operation,
    write: Callable[[Done], Any],
    scope: Scope,
    receive: Receive,
    request_id: str,
) -> Answered:
    headers, body = await doors.admitted(scope, receive)
    asking = read_v2(operation, scope["path_params"]["license"], body)
    done = await doors.ask(scope, asking, headers.idempotency_key, request_id)
    said = write(done)
    return answered(said, done) if isinstance(said, str) else doors.signed(said, done)


@dataclass(frozen=True, slots=True)
class _More:
    """What is read, and what is done for everybody."""

    doors: Doors

    async def ping(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        return answered(Pong("pong", "v5"))

    async def listed(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        found = await self.doors.reads.listed(read_filter(scope["query_string"]))
        return 200, [JSON], await array(map(answers.license_v2, found), answers.encode)

    async def add(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        _, body = await self.doors.admitted(scope, receive)
        return answered(answers.added_v2(await self.doors.floating.added(read_added_v2(body))))

    async def license(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        view = await self.doors.reads.one(None, _id(scope))
        return answered(answers.license_v2(view))

    async def features(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        view = await self.doors.reads.one(None, _id(scope))
        return answered(answers.features_of(view))

    async def users(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        licenses, license_, found = await self.doors.reads.users(_id(scope))
        told = (answers.registration(licenses, license_, each) for each in found)
        return 200, [JSON], await array(told, answers.encode)

    async def unregister_all(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        await self.doors.admitted(scope, receive)
        released = await self.doors.releases.of_license(_id(scope), request_id)
        return answered(answers.all_unregistered(released))

    async def release_all(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        _, body = await self.doors.admitted(scope, receive)
        feature = read_feature(body)
        await self.doors.releases.of_feature(_id(scope), feature, request_id)
        return answered(answers.ALL_RELEASED)


def _id(scope: Scope) -> int:
    return read_id(scope["path_params"]["license"])
