"""Usage reports over HTTP: usage, denials, peaks, and lines near capacity.

Decided here: the paths, that a report is streamed, and its headers. Not decided here: what may be
asked (protocols/usage_report.py) and what is told (service/reports.py). Source: INTERFACE 4.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope

from gateway.core.model import Role
from gateway.core.reports_asked import View
from gateway.core.reports_capacity import NearCapacity
from gateway.protocols.usage_report import (
    Capacity,
    Form,
    csv_lines,
    decode_capacity_query,
    decode_query,
    struct_columns,
)
from gateway.service.admin import Admin, Who
from gateway.service.reports import Reports
from gateway.web.bodies import Headers
from gateway.web.cmapi import instance_of, readable
from gateway.web.endpoints import JSON, Answered, Endpoint

PIECE_BYTES: Final = 65_536  # of a streamed answer, but for its last piece

_CSV: Final = (b"content-type", b"text/csv; charset=utf-8; header=present")


def routes(admin: Admin, reports: Reports) -> list[BaseRoute]:
    """Give the routes of reports, under an instance and in the short form."""
    answers = _Answers(admin, reports)
    return [
        *readable("/usage", Endpoint("usage", partial(answers.report, View.USAGE))),
        *readable("/usage/denials", Endpoint("denials", partial(answers.report, View.DENIALS))),
        *readable("/usage/peaks", Endpoint("peaks", partial(answers.report, View.PEAKS))),
        *readable("/usage/capacity", Endpoint("capacity", answers.capacity)),
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
            return 200, [JSON], await _begun(report.json())
        days = report.parts[0].head.days
        name = f"{view}-{who.instance}-{days.first}-{days.last}.csv"
        return 200, [_CSV, _file(name)], await _begun(report.csv())

    async def capacity(self, scope: Scope, receive: Receive, request_id: str) -> Answered:
        who = await self._reader(scope)
        features, form = decode_capacity_query(scope["query_string"])
        lines = await self.reports.near_capacity(who.index, features)
        if form is Form.CSV:
            columns = struct_columns(NearCapacity)
            rows = (msgspec.structs.astuple(line) for line in lines)
            return 200, [_CSV, _file(f"capacity-{who.instance}.csv")], csv_lines([columns, *rows])
        return 200, [JSON], msgspec.json.encode(Capacity(who.instance, lines))

    async def _reader(self, scope: Scope) -> Who:
        authorization = Headers(scope).authorization
        return await self.admin.admin(instance_of(scope), authorization, Role.READ)


async def _begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Read the first piece, so that what fails at the start is an error and no broken answer."""
    first = await anext(joined := _joined(pieces))

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in joined:
            yield piece

    return all_pieces()


async def _joined(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join pieces to some of PIECE_BYTES; there is at least one."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _file(name: str) -> tuple[bytes, bytes]:
    return b"content-disposition", f'attachment; filename="{name}"'.encode()
