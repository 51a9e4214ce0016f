"""What is asked of an instance, said to the lane and to the specification.

Decided here: that both hear the same. Not decided here: what is asked (pools.py, floating.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from gateway.core.calendar import DAY_MS
from gateway.core.calls import DROP, INCREMENTAL, PARTIAL, PREVIEW, Ask, Table
from gateway.core.catalogue import CatalogueIndex, ResolvedWant
from gateway.core.decisions import Decision
from gateway.core.fingerprint import dedupe_id, fingerprint
from gateway.core.model import AccessRequest
from gateway.store.calls import Job, versions_of
from tests.model.floating import Floating

if TYPE_CHECKING:
    from tests.model.twins import Twin

TTL_MS = 20 * 365 * DAY_MS  # the store's own clock, not the test's, forgets an id


@dataclass(frozen=True)
class Asked:
    """A request as it was sent: under which id, and against which version of the catalogue."""

    twin: Twin
    index: CatalogueIndex
    request: AccessRequest
    name: str  # the idempotency id; "" for a preview
    preview: bool = False
    drop: bool = False  # not a request: an administrator drops its host
    floating: Floating | None = None  # what is asked in the request's stead

    @property
    def explain_ms(self) -> int:
        """Half of the requests are explained."""
        return TTL_MS if sum(self.name.encode()) % 2 else 0

    @property
    def decision(self) -> tuple[str, ...]:
        """What an administrator who drops a host has in the record."""
        host = self.request.host.canonical
        return tuple(Decision("ann", "drop", "", "", host).fields) if self.drop else ()

    @property
    def catalogue(self) -> bytes:
        """The next version that is to come with it."""
        new = self.floating.next_catalogue(self.index.catalogue) if self.floating else None
        return msgspec.msgpack.encode(new) if new else b""

    @property
    def meaning(self) -> str:
        """Its fingerprint."""
        return self.floating.meaning if self.floating else fingerprint(self.request).hex()

    @property
    def wants(self) -> list[ResolvedWant]:
        if self.floating:
            return self.floating.resolve(self.index)
        resolve = self.index.resolve_apart if self.preview else self.index.resolve
        return resolve(self.request)

    @property
    def flags(self) -> int:
        if self.floating:
            return self.floating.flags
        incremental = INCREMENTAL if self.request.incremental else 0
        partial = PARTIAL if self.request.partial else 0
        other = (PREVIEW if self.preview else 0) | (DROP if self.drop else 0)
        return incremental | partial | other

    def job(self, *, sweep_only: bool = False) -> Job:
        """Say it to the lane."""
        return Job(
            index=self.index,
            wants=self.wants,
            dedupe_id=dedupe_id(self.index.catalogue.id, self.name) if self.name else "",
            ttl_ms=TTL_MS,
            fingerprint=self.meaning,
            echo=f"as first sent: {self.name}",
            host=self.request.host.canonical,
            flags=self.flags,
            sweep_only=sweep_only,
            explain_ms=self.explain_ms,
            decision=self.decision,
            catalogue=self.catalogue,
        )

    def ask(self) -> tuple[list[Table], Ask]:
        """Say it to the specification."""
        wants = self.wants
        ask = Ask(
            context=0,
            id=self.name,
            ttl_ms=TTL_MS,
            fingerprint=self.meaning,
            echo=f"as first sent: {self.name}",
            host=self.request.host.canonical,
            flags=self.flags,
            wants=[(at, units) for at, (_, units) in enumerate(wants)],
            explain_ms=self.explain_ms,
            versions=versions_of(self.job()),
            decision=self.decision,
            catalogue=self.catalogue,
        )
        return [resolved.table for resolved, _ in wants], ask
