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
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.core.model import Role
from gateway.core.reports_asked import View
from gateway.core.reports_capacity import NearCapacity
from gateway.protocols.usage_report import (
    Form,
    csv_lines,
    decode_capacity_query,
    decode_query,
    struct_columns,
)
from gateway.service.admin import Admin, Who
from gateway.service.credentials import DEFAULT_INSTANCE
from gateway.service.reports import Reports
from gateway.web.bodies import Headers
from gateway.web.cmapi import BASE
from gateway.web.endpoints import JSON, Answer, Answered, Endpoint

LOCAL: Final = "/api/1.0"  # the short form of reads, which means `~`
PIECE_BYTES: Final = 65_536  # of a streamed answer, but for its last piece

_CSV: Final = (b"content-type", b"text/csv; charset=utf-8; header=present")
_PATHS: Final = {
    View.USAGE: "usage",
    View.DENIALS: "usage/denials",
    View.PEAKS: "usage/peaks",
}


def routes(admin: Admin, reports: Reports) -> list[BaseRoute]:
    """Give the routes of reports, under an instance and in the short form."""
    answers = _Answers(admin, reports)
    found: dict[str, Answer] = {
        path: partial(answers.report, view) for view, path in _PATHS.items()
    }
    found["usage/capacity"] = answers.capacity
    return [
        Route(f"{base}/{path}", Endpoint(path, answer), methods=["GET"])
        for base in (BASE, LOCAL)
        for path, answer in found.items()
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
        return 200, [JSON], msgspec.json.encode({"instance": who.instance, "lines": lines})

    async def _reader(self, scope: Scope) -> Who:
        instance = scope["path_params"].get("instance", DEFAULT_INSTANCE)
        return await self.admin.admin(instance, Headers(scope).authorization, Role.READ)


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
