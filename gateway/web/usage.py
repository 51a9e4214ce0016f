"""Usage reports over HTTP: usage, denials, peaks, and lines near capacity.

Decided here: the paths, that a report is streamed, and its headers. Not decided here: what may be
asked (protocols/usage_report.py), what is told (service/reports.py) and how an answer is streamed
(streams.py). Source: INTERFACE 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope

from gateway.core.model import Role
from gateway.core.reports_asked import View
from gateway.protocols.usage_report import (
    Capacity,
    Form,
    capacity_csv,
    decode_capacity_query,
    decode_query,
)
from gateway.service.admin import Admin, Who
from gateway.service.reports import Reports
from gateway.web.bodies import Headers
from gateway.web.cmapi import instance_of, readable
from gateway.web.endpoints import JSON, Answered, StreamedEndpoint
from gateway.web.streams import Pieces

_CSV: Final = (b"content-type", b"text/csv; charset=utf-8; header=present")


def routes(admin: Admin, reports: Reports) -> list[BaseRoute]:
    """Give the routes of reports, under an instance and in the short form."""
    answers = _Answers(admin, reports)
    return [
        *readable("/usage", StreamedEndpoint("usage", partial(answers.report, View.USAGE))),
        *readable(
            "/usage/denials", StreamedEndpoint("denials", partial(answers.report, View.DENIALS))
        ),
        *readable("/usage/peaks", StreamedEndpoint("peaks", partial(answers.report, View.PEAKS))),
        *readable("/usage/capacity", StreamedEndpoint("capacity", answers.capacity)),
    ]


@dataclass(frozen=True, slots=True)
class _Answers:
    admin: Admin
    reports: Reports

    async def report(self, view: View, scope: Scope, receive: Receive, request_id: str) -> Answered:
        who = await self._reader(scope)
        asked, form = decode_query(scope["query_string"], view)
        report = await self.reports.open(who.index, asked)
        if form is Form.JSON:
            return 200, [JSON], await Pieces.begun(report.json())
        days = report.parts[0].head.days
        name = f"{view}-{who.instance}-{days.first}-{days.last}.csv"
        return 200, [_CSV, _file(name)], await Pieces.begun(report.csv())

    async def capacity(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        who = await self._reader(scope)
        features, form = decode_capacity_query(scope["query_string"])
        lines = await self.reports.near_capacity(who.index, features)
        if form is Form.JSON:
            return 200, [JSON], msgspec.json.encode(Capacity(who.instance, lines))
        name = f"capacity-{who.instance}.csv"
        return 200, [_CSV, _file(name)], await Pieces.begun(_in_turn(capacity_csv(lines)))

    async def _reader(self, scope: Scope) -> Who:
        authorization = Headers(scope).authorization
        return await self.admin.admin(instance_of(scope), authorization, Role.READ)


async def _in_turn(texts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Give texts one by one; others have requests to be answered meanwhile."""
    for text in texts:
        yield text
        await asyncio.sleep(0)


def _file(name: str) -> tuple[bytes, bytes]:
    return b"content-disposition", f'attachment; filename="{name}"'.encode()
