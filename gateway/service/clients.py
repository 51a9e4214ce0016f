"""Clients: which hosts have asked an instance, and dropping one of them.

Decided here: that a client is a host which asked, what its expiry is, and that a drop goes through
the lane like a request, so that what the host held, its place among the clients and the record of
the decision change in one step. Not decided here: HTTP, what a drop does to the ledger (the
script). No host is named in a log. Source: protocols/cmapi.md 3.4 and 8.4, SEMANTICS 10.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import structlog

from gateway.core.calls import DROP, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.decisions import Decision
from gateway.core.errors import BadRequest, NotFound, Unavailable
from gateway.core.model import Held, Holding, Role
from gateway.protocols.cmapi_clients import (
    Client,
    Dropped,
    Returned,
    client_of,
    decode_asking,
    decode_number,
)
from gateway.service.access import CATALOGUE_TRIES_MAX, OWN_ID_TTL_MS
from gateway.service.admin import Admin, Who
from gateway.store.calls import Job
from gateway.store.clients import Asked, Hosts
from gateway.store.lanes import Lane

DROPPED: Final = "drop"  # the word in the record of decisions
_SHOWN_MAX: Final = 64  # characters of a path that are repeated

_log = structlog.get_logger("gateway.admin")


class Changed(Exception):
    """A host holds something else than what somebody was shown; nothing was done."""


class Page(msgspec.Struct, frozen=True):
    """Some clients, the one that asked longest ago first, made as they are taken. `after` is what
    the next page begins after, given `limit` again; None: this is the last one.
    """

    clients: Iterator[Client]
    limit: int
    after: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Clients:
    """Tells of the clients of instances, and drops them. `sweep` has an instance's lapses swept."""

    admin: Admin
    hosts: Hosts
    lane: Lane
    sweep: Callable[[str], Awaitable[None]]
    resend_ms: int = 4_000  # an outcome is remembered at least as long as the lane may send again

    async def page(self, named: str, authorization: str | None, query: bytes) -> Page:
        """Give a page of clients. Raises Unauthorized, Forbidden, BadRequest, Unavailable."""
        who = await self.admin.admin(named, authorization, Role.READ)
        asking = decode_asking(query)
        await self.sweep(who.instance)
        found, more = await self.hosts.page(who.instance, asking.after, asking.limit)
        held = await self.hosts.held(who.instance, [each.host for each in found])
        return Page(
            (as_client(who.instance, *each) for each in zip(found, held, strict=True)),
            asking.limit,
            (found[-1].at_ms, found[-1].number) if more else None,
        )

    async def drop(
        self, named: str, authorization: str | None, number: str, request_id: str
    ) -> Dropped:
        """Forget a client and return what it held. `number` is its id as in the path, `request_id`
        ours, unique.

        Raises Unauthorized, Forbidden, NotFound, BadRequest, Unavailable, in this order. After a
        drop that was done a repeat finds no such client, and so does one that came meanwhile.
        """
        who = await self.admin.admin(named, authorization, Role.DROPCLIENT)
        finding = partial(self._find, number=number)
        return await self._drop_found(who, finding, f"DELETE clients/{number}", request_id)

    async def release(self, who: Who, host: str, mark: str, request_id: str) -> Dropped:
        """Do as `drop` for somebody who was let in and was shown what a host (TYPE:value) holds.

        `mark` is the `mark_of` that. Raises Changed when it holds something else by now: whoever
        asks twice releases once, also when the host came back in between.
        """
        finding = partial(self._find_host, host=host, mark=mark)
        return await self._drop_found(who, finding, "released at the pages", request_id)

    async def _drop_found(
        self, who: Who, find: Callable[[str], Awaitable[Asked]], why: str, request_id: str
    ) -> Dropped:
        overtaken = 0
        for _ in range(CATALOGUE_TRIES_MAX):
            asked = await find(who.instance)
            reply = await self.lane.submit(self._job(who, asked, overtaken, why, request_id))
            if reply.verdict is Verdict.MISMATCH:
                # Another drop took it as it was found. It is gone, or has asked again since.
                overtaken += 1
            elif reply.verdict is not Verdict.STALE:
                number = str(asked.number)
                _log.info("client_dropped", instance=who.instance, user=who.user, client=number)
                return _dropped(who.index, asked, reply)
            # Judged again by the catalogue in force: the user may have been removed.
            who = await self.admin.again(who)
        raise Unavailable("The instance changes too fast to follow", "not_applied")

    async def _find_host(self, instance: str, host: str, mark: str) -> Asked:
        asked = await self.hosts.asked(instance, host)
        if asked is None:
            raise NotFound("This host is not here, or not any more", host[:_SHOWN_MAX])
        [held] = await self.hosts.holdings(instance, [host])
        if held is None or mark_of(held) != mark:
            raise Changed
        return asked

    async def _find(self, instance: str, number: str) -> Asked:
        read = decode_number(number)
        found = [] if read is None else await self.hosts.numbered(instance, read)
        if not found:
            shown = number[:_SHOWN_MAX]
            raise NotFound(f"There is no client {shown}", shown)
        if len(found) > 1:
            raise BadRequest("Two clients have this number, so none was dropped", number)
        return found[0]

    def _job(self, who: Who, asked: Asked, overtaken: int, why: str, request_id: str) -> Job:
        """Make the drop of a client as it was found.

        All drops of it have one id, each its own meaning: of those at once the script does one. To
        be `overtaken` and find it at the same moment again is to find one that came back.
        """
        decision = Decision(who.user, DROPPED, why, upstream="", subject=asked.host)
        return Job(
            who.index,
            wants=[],
            dedupe_id=f"drop:{asked.number}:{asked.at_ms}:{overtaken}",
            ttl_ms=max(OWN_ID_TTL_MS, self.resend_ms),
            fingerprint=request_id,
            echo="",
            host=asked.host,
            flags=DROP,
            decision=tuple(decision.fields),
        )


def mark_of(held: Sequence[Holding]) -> str:
    """Give a short mark of what a host holds and since when; a renewal does not change it. Pure."""
    told = sorted((each.line, each.count, each.since_ms) for each in held)
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]


def _dropped(index: CatalogueIndex, asked: Asked, reply: Reply) -> Dropped:
    assert reply.outcome is not None  # noqa: S101 - it is neither stale nor mismatched
    had = reply.outcome.held
    lines = [index.line[each.line] for each in had]
    return Dropped(
        as_client(index.catalogue.id, asked, had),
        tuple(
            Returned(line.id, line.feature, line.version, each.count)
            for line, each in zip(lines, had, strict=True)
        ),
    )


def as_client(instance: str, asked: Asked, held: Sequence[Held]) -> Client:
    """Give the client that a host is, by its last request and all that it holds. Pure."""
    lapses_ms = [each.lapses_ms for each in held]
    expires_ms = None if 0 in lapses_ms else max(lapses_ms, default=asked.at_ms)
    return client_of(asked.host, instance, updated_ms=asked.at_ms, expires_ms=expires_ms)
