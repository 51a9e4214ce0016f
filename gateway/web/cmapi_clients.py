"""CMAPI's clients over HTTP: a page of them, and dropping one.

Decided here: which forms of path there are, and that the next page is named in a `Link` header, the
body being the bare array that CMAPI's readers expect. Source: protocols/cmapi.md 3.3, RFC 8288.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.protocols.cmapi_clients import encode_clients, encode_dropped, next_link
from gateway.service.clients import Clients
from gateway.web.arrays import array
from gateway.web.bodies import Headers
from gateway.web.cmapi import BASE, instance_of, readable
from gateway.web.endpoints import JSON, Answered, Endpoint


def routes(clients: Clients) -> list[BaseRoute]:
    """Give the routes of clients."""
    answers = _Answers(clients)
    return [
        *readable("/clients", Endpoint("clients", answers.page)),
        Route(
            f"{BASE}/clients/{{number}}", Endpoint("drop_client", answers.drop), methods=["DELETE"]
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    clients: Clients

    async def page(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        page = await self.clients.page(
            instance_of(scope), Headers(scope).authorization, scope["query_string"]
        )
        headers = [JSON]
        if page.after is not None:
            headers.append((b"link", next_link(page.limit, page.after).encode()))
        return 200, headers, await array(page.clients, encode_clients)

    async def drop(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        dropped = await self.clients.drop(
            instance_of(scope),
            Headers(scope).authorization,
            scope["path_params"]["number"],
            request_id,
        )
        return 200, [JSON], encode_dropped(dropped)
