"""Hosts with what they hold, and giving back what one of them holds.

Decided here: what is shown of a host, that a release is confirmed on a page that says what will
come back, and that only what was shown there is released: when it has changed meanwhile, it is
shown anew. Not decided here: what a release does (service/clients.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.routing import BaseRoute

from gateway.core.errors import BadRequest, NotFound
from gateway.core.model import Role
from gateway.protocols.cmapi_clients import Returned
from gateway.service.clients import Changed, Clients
from gateway.service.registrations import FOUND_MAX, Found, Registration, Registrations
from gateway.web.ui.doors import Doors
from gateway.web.ui.paging import PAGE_MAX, Page, number_of, page_of
from gateway.web.ui.rendering import units
from gateway.web.ui.visits import Moved, Reply, Shown, Visit

HOST_CHARS_MAX: Final = 600  # a type, a colon and a value
HELD_SHOWN_MAX: Final = 20  # lines of one host
TOLD_LINES_MAX: Final = 3
GONE: Final = "This host is not here any more: it was released or dropped, perhaps just now."


def routes(doors: Doors, registrations: Registrations, clients: Clients) -> list[BaseRoute]:
    """Give the routes of registrations, and of releasing one."""
    pages = _Pages(registrations, clients)
    return [
        doors.page("registrations", "registrations", pages.listed, Role.READ),
        doors.page("registrations/release", "release", pages.confirm, Role.DROPCLIENT),
        doors.deed("registrations/release", "release", pages.release, Role.DROPCLIENT),
    ]


class _Pages:
    def __init__(self, registrations: Registrations, clients: Clients) -> None:
        self._registrations, self._clients = registrations, clients

    async def listed(self, visit: Visit) -> Reply:
        text, line = visit.asked("q", HOST_CHARS_MAX), visit.asked("line")
        everybody = visit.asked("all") == "1" and not line
        asked = visit.asked("page")
        if everybody and not text:
            page, cut = await self._latest(visit.instance, asked), False
        else:
            found = await self._found(visit.instance, text, line, everybody=everybody)
            some, cut = page_of(found.rows, asked), found.cut
            rows = await self._registrations.filled(visit.instance, some.rows)
            page = Page(rows, some.number, some.total, some.first)
        data = {
            "page": page,
            "cut": cut,
            "found_max": FOUND_MAX,
            "held_max": HELD_SHOWN_MAX,
            "q": text,
            "line": line,
            "everybody": everybody,
            "lines": visit.index.line,
            "may_release": visit.may(Role.DROPCLIENT),
        }
        return Shown("registrations.html", data)

    async def _latest(self, instance: str, asked: str) -> Page[Registration]:
        number = number_of(asked)
        found = await self._registrations.latest(instance, number, PAGE_MAX)
        if not found.rows and found.total:
            number = -(-found.total // PAGE_MAX)  # the last one
            found = await self._registrations.latest(instance, number, PAGE_MAX)
        first = (number - 1) * PAGE_MAX + 1 if found.rows else 0
        return Page(found.rows, number, found.total, first)

    async def _found(self, instance: str, text: str, line: str, *, everybody: bool) -> Found:
        if everybody:
            return await self._registrations.search(instance, text)
        return await self._registrations.holding(instance, text, line)

    async def confirm(self, visit: Visit) -> Reply:
        found = await self._one(visit, _host(visit.query.get("host", "")))
        return Shown("release.html", _confirmed(visit, found, visit.asked("line")))

    async def release(self, visit: Visit) -> Reply:
        host, line = _host(visit.form.text("host")), visit.said("line")
        try:
            dropped = await self._clients.release(
                visit.who, host, visit.said("mark"), visit.request_id
            )
        except NotFound:
            raise NotFound(GONE, host[:64]) from None
        except Changed:
            found = await self._one(visit, host)
            data = _confirmed(visit, found, line) | {"changed": True}
            return Shown("release.html", data, status=409)
        told = f"Released {host[:100]}: {_told(dropped.returned)}."
        return Moved(visit.path("registrations", line=line), told)

    async def _one(self, visit: Visit, host: str) -> Registration:
        found = await self._registrations.one(visit.instance, host)
        if found is None:
            raise NotFound(GONE, host[:64])
        return found


def _host(text: str) -> str:
    """Read a host as it is written: white space at its end belongs to it."""
    if len(text) > HOST_CHARS_MAX:
        raise BadRequest(f"host has over {HOST_CHARS_MAX} characters", "host")
    return text


def _confirmed(visit: Visit, found: Registration, line: str) -> dict[str, Any]:
    return {
        "found": found,
        "line": line,
        "lines": visit.index.line,
        "held_max": HELD_SHOWN_MAX,
        "changed": False,
    }


def _told(returned: Sequence[Returned]) -> str:
    if not returned:
        return "it held nothing"
    told = [f"{units(each.count)} of {each.feature_name}" for each in returned[:TOLD_LINES_MAX]]
    more = len(returned) - len(told)
    if more:
        rest = sum(each.count for each in returned[TOLD_LINES_MAX:])
        told.append(f"{units(rest)} of {units(more)} more lines")
    return f"{', '.join(told)} came back"
