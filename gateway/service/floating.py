"""The story of a LicenseSpring call: find the licence, ask the ledger, tell what became of it.

Decided here: that a call names its licence in the catalogue in force, that it goes through the lane
like any request, under the idempotency ids that all doors of an instance share, and what is done
when the catalogue moved meanwhile or the call itself moves it. Not decided here: what an operation
asks (core/floating_asks.py), HTTP, who may ask (floating_users.py), reads (floating_reads.py).
Source: protocols/licensespring.md 1.1, 4 and 10, SEMANTICS 9.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from gateway.core.calls import INCREMENTAL, Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import BadRequest, IdempotencyMismatch, Unavailable
from gateway.core.fingerprint import dedupe_id, fingerprint, visible_ascii
from gateway.core.floating import (
    License,
    Refusal,
    group_of,
    licenses_of,
    make_license,
    user_host,
)
from gateway.core.floating_asks import (
    Asking,
    Plan,
    Refused,
    line_of,
    meaning,
    plan,
    refusal_of,
)
from gateway.core.meters import Meters
from gateway.core.model import Catalogue, Line, Outcome
from gateway.protocols.cmapi_answer import write_echo
from gateway.protocols.licensespring_answers import View
from gateway.protocols.licensespring_problem import FloatingRefused
from gateway.protocols.licensespring_requests import Added
from gateway.service.access import CATALOGUE_TRIES_MAX, OWN_ID_TTL_MS
from gateway.store.calls import Job
from gateway.store.catalogues import Catalogues
from gateway.store.durable import answered
from gateway.store.lanes import Lane

# Of settings, in one process. Each has everybody else at the instance ask again, of every protocol:
# they have twice as long as the change took, or they would never get a word in.
CHANGES_APART_S: Final = 0.02
CHANGES_APART_FACTOR: Final = 2
_encode_catalogue: Final = msgspec.msgpack.Encoder().encode

_log = structlog.get_logger("gateway.floating")


class Done(msgspec.Struct, frozen=True):
    """What an operation came to: the licence as it was told, and the line that it was about.

    `lapses_ms` is when what the user holds of that line lapses; 0: it holds none. `at_ms` is the
    transaction time; the first one's on a replay.
    """

    view: View
    line: Line
    lapses_ms: int
    host: str
    at_ms: int
    replayed: bool


@dataclass(slots=True)
class Floating:
    """Carries out what clients ask of the licences of one instance. Retention is in ms."""

    catalogues: Catalogues
    lane: Lane
    instance: str
    retention_ms: int = 3_600_000
    resend_ms: int = 4_000  # an outcome is remembered at least as long as the lane may send again
    explain_ms: int = 0
    meters: Meters = field(default_factory=Meters)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def ask(self, asking: Asking, idempotency_key: str | None, own_id: str) -> Done:
        """Carry out an operation. `own_id` names it where the client gives no idempotency key.

        Raises FloatingRefused, with nothing changed; BadRequest for a key that is none;
        IdempotencyMismatch; Unavailable. A retry under the same key is always safe.
        """
        if idempotency_key is not None and not visible_ascii(idempotency_key):
            raise BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters")
        if asking.allow_overages is None and asking.max_overages is None:
            return await self._ask(asking, idempotency_key, own_id)
        planned = _planned(await self._known(fresh=False), asking)
        if isinstance(planned, Refused) or planned.index is None:
            return await self._ask(asking, idempotency_key, own_id)
        try:
            async with asyncio.timeout(self.lane.deadline_s):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable("Too many change settings", "not_applied") from None
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await self._ask(asking, idempotency_key, own_id)
        finally:
            took_s = loop.time() - began_s
            pause_s = max(CHANGES_APART_S, CHANGES_APART_FACTOR * took_s)
            loop.call_later(pause_s, self._turn.release)

    async def _ask(self, asking: Asking, idempotency_key: str | None, own_id: str) -> Done:
        for attempt in range(CATALOGUE_TRIES_MAX):
            index = await self._known(fresh=attempt > 0)
            planned = _planned(index, asking)
            if isinstance(planned, Refused):
                # No script has looked at the version: perhaps it is allowed by now.
                index = await self._known(fresh=True)
                planned = _planned(index, asking)
            if isinstance(planned, Refused):
                reply = await self._remembered(index, asking, idempotency_key)
                if reply is None:
                    raise FloatingRefused(planned.refusal, planned.message)
                made = None
            else:
                job = self._job(index, asking, planned, idempotency_key, own_id)
                reply, made = await self.lane.submit(job), planned.index
            if reply.verdict is not Verdict.STALE:
                replayed = reply.verdict is Verdict.REPLAYED and idempotency_key is not None
                return self._done(index, made, asking, reply, replayed)
        raise Unavailable("The catalogue changes too fast to follow", "not_applied")

    async def added(self, wanted: Added) -> License:
        """Find the licence that somebody wants to add: whoever provisions lines adds licences, so
        it is there or it is not. Raises FloatingRefused; Unavailable.
        """
        licenses = licenses_of(await self._known(fresh=True))
        newest = licenses.find(wanted.product, None)
        if isinstance(newest, Refusal):
            raise FloatingRefused(newest)
        for each in licenses.of_product(wanted.product):
            keys = [line.licensespring.license_key for line in each.lines if line.licensespring]
            if any(_same(key, wanted.license_key) for key in keys):
                return each
        raise FloatingRefused(Refusal.LICENSE_NOT_FOUND)

    async def index(self, *, fresh: bool = False) -> CatalogueIndex | None:
        """Give the instance's catalogue; None: it is not provisioned. Raises Unavailable."""
        if fresh:
            return await self.catalogues.fresh(self.instance)
        return await self.catalogues.get(self.instance)

    async def _known(self, *, fresh: bool) -> CatalogueIndex:
        """Give the instance's catalogue, one of no lines where it is not provisioned."""
        index = await self.index(fresh=fresh)
        return CatalogueIndex(Catalogue(id=self.instance)) if index is None else index

    def _job(
        self,
        index: CatalogueIndex,
        asking: Asking,
        planned: Plan,
        idempotency_key: str | None,
        own_id: str,
    ) -> Job:
        if idempotency_key is None:
            name, ttl_ms, said = own_id, OWN_ID_TTL_MS, ""
        else:
            name, ttl_ms = dedupe_id(self.instance, idempotency_key), self.retention_ms
            said = fingerprint(meaning(asking)).hex()
        kept = idempotency_key is not None or self.explain_ms > 0
        return Job(
            index,
            planned.wants,
            name,
            max(ttl_ms, self.resend_ms),
            said,
            write_echo(planned.echo) if kept else "",
            planned.echo.host.canonical,
            planned.flags,
            explain_ms=self.explain_ms,
            catalogue=b"" if planned.index is None else _packed(planned.index.catalogue),
        )

    async def _remembered(
        self, index: CatalogueIndex, asking: Asking, idempotency_key: str | None
    ) -> Reply | None:
        """Give what became of a request before; None: nothing. Who was answered once is answered
        the same, although the catalogue would refuse it now.
        """
        if idempotency_key is None:
            return None
        name = dedupe_id(self.instance, idempotency_key)
        keys = self.catalogues.keys(self.instance)
        if not await answered(self.catalogues.client.exists(keys.outcome(name))):
            return None
        # The script tells of it once it is as safe as an answer has to be. Were it forgotten
        # meanwhile, this asks for nothing, and is itself forgotten at once.
        said = fingerprint(meaning(asking)).hex()
        host = user_host(asking.user).canonical
        reply = await self.lane.submit(Job(index, [], name, 1, said, "", host, INCREMENTAL))
        asked_for = reply.outcome is None or reply.outcome.told
        return reply if asked_for else None

    def _done(
        self,
        index: CatalogueIndex,
        made: CatalogueIndex | None,
        asking: Asking,
        reply: Reply,
        replayed: bool,
    ) -> Done:
        if reply.verdict is Verdict.MISMATCH:
            raise IdempotencyMismatch("The Idempotency-Key was used for another request")
        outcome = reply.outcome
        assert outcome is not None  # noqa: S101 - the lane lets no other verdict through
        if not replayed:
            self.meters.denied(outcome.shortfalls)
        refusal = refusal_of(asking, outcome)
        if refusal is not None:
            raise FloatingRefused(refusal)
        if made is None or reply.verdict is not Verdict.DONE:
            return done(index, asking, outcome, replayed)
        # By what it made of the catalogue: to read that again might fail, and it is counted.
        told = done(made, asking, outcome, replayed)
        _log.info(
            "overages_changed",
            instance=self.instance,
            line=told.line.id,
            overdraft=told.line.overdraft,
        )
        return told


def done(index: CatalogueIndex, asking: Asking, outcome: Outcome, replayed: bool) -> Done:
    """Tell an outcome by the lines that it names, as the catalogue has them now. Pure.

    On a replay they are the first one's: what a product means may have changed since.
    """
    totals = {told.line: told.used + told.elsewhere for told in outcome.told}
    line = index.line[line_of(asking, outcome)]
    license_ = licenses_of(index).having(line.id)
    if license_ is None:  # retired since: what they were together
        lines = [index.line[id_] for id_ in totals]
        given, _ = group_of(line)
        license_ = make_license(given or min(each.number for each in lines), lines)
    return Done(
        view=View(index.catalogue, license_, totals),
        line=line,
        lapses_ms=next((held.lapses_ms for held in outcome.held if held.line == line.id), 0),
        host=user_host(asking.user).canonical,
        at_ms=outcome.at_ms,
        replayed=replayed,
    )


def _planned(index: CatalogueIndex, asking: Asking) -> Plan | Refused:
    found = licenses_of(index).find(asking.product, asking.license_id)
    return Refused(found) if isinstance(found, Refusal) else plan(index, found, asking)


def _same(kept: str, given: str) -> bool:
    return bool(kept) and hmac.compare_digest(kept.encode(), given.encode())


def _packed(catalogue: Catalogue) -> bytes:
    return _encode_catalogue(replace(catalogue, version=catalogue.version + 1))
