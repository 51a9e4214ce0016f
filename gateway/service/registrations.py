"""Who is registered: hosts with what they hold, when they last asked, and by which protocol.

Decided here: which hosts an operator is shown first, how they are searched, that a search over very
many ends in time and says so, and that a host which is named in full is found all the same. Not
decided here: what a release does (clients.py). Nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.core.floating import USER_TYPE
from gateway.core.model import Holding
from gateway.service.clients import mark_of
from gateway.store.clients import Asked, Hosts

FOUND_MAX: Final = 5_000  # hosts that a search gives; more are for a narrower one
WALK_S_MAX: Final = 1.0
CMAPI: Final = "CMAPI"
LICENSESPRING: Final = "LicenseSpring"

_Held = list[Holding] | None


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A host, in canonical form. `seen_ms` None: it was dropped while somebody looked. `readable`:
    what is kept of what it holds can be read.
    """

    host: str
    seen_ms: int | None
    held: list[Holding]
    readable: bool = True

    @property
    def protocol(self) -> str:
        """The protocol it speaks: the users of the two never meet."""
        return LICENSESPRING if self.host.startswith(f"{USER_TYPE}:") else CMAPI

    @property
    def units(self) -> int:
        """All that it holds, of whatever line."""
        return sum(each.count for each in self.held)

    @property
    def mark(self) -> str:
        """What a release of just this is asked for with."""
        return mark_of(self.held)


class Found(msgspec.Struct, frozen=True):
    """Some registrations of `total`; `cut`: there may be more, which were not looked at."""

    rows: list[Registration]
    total: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Registrations:
    """Reads registrations. `sweep` has what lapsed in an instance returned first.

    Everything raises Unavailable; a retry is always safe.
    """

    hosts: Hosts
    sweep: Callable[[str], Awaitable[object]]

    async def latest(self, instance: str, number: int, count: int) -> Found:
        """Give a page of `count` hosts by their last request, the latest first."""
        await self.sweep(instance)
        asked, total = await self.hosts.latest(instance, (number - 1) * count, count)
        held = await self.hosts.holdings(instance, [each.host for each in asked])
        return Found([_made(*each) for each in zip(asked, held, strict=True)], total)

    async def holding(self, instance: str, text: str, line: str) -> Found:
        """Give hosts that hold something, or something of a line, with a text in their name.

        Who holds most comes first, but for one that is named in full.
        """
        await self.sweep(instance)
        exact, sought = _canonical(text), text.casefold()
        found: dict[str, _Held] = {}
        if text:
            [held] = await self.hosts.holdings(instance, [exact])
            _take(found, exact, held, line)
        until_s, cut = _until_s(), False
        async for some in self.hosts.holding(instance):
            if cut := len(found) >= FOUND_MAX or _now_s() >= until_s:
                break
            for host, held in some.items():
                if sought in host.casefold():
                    _take(found, host, held, line)
        names = sorted(found, key=lambda host: (host != exact, -_units(found[host], line), host))
        return _found(names, cut, dict.fromkeys(names))

    async def search(self, instance: str, text: str) -> Found:
        """Give hosts with a text in their name, whatever they hold, the latest first, but for one
        that is named in full.
        """
        await self.sweep(instance)
        exact, sought = _canonical(text), text.casefold()
        found = dict[str, int | None](await self.hosts.seen(instance, [exact]))
        until_s, cut = _until_s(), False
        async for entries in self.hosts.all(instance):
            if cut := len(found) >= FOUND_MAX or _now_s() >= until_s:
                break
            for name, at_ms in entries:
                host = name.decode()
                if sought in host.casefold():
                    found[host] = int(at_ms)
        names = sorted(found, key=lambda host: (host != exact, -(found[host] or 0), host))
        return _found(names, cut, found)

    async def filled(self, instance: str, rows: Sequence[Registration]) -> list[Registration]:
        """Read anew, of the rows that are shown, what they hold and when they last asked."""
        names = [each.host for each in rows]
        held = await self.hosts.holdings(instance, names)
        seen = await self.hosts.seen(instance, names)
        return [
            Registration(
                host=name, seen_ms=seen.get(name), held=some or [], readable=some is not None
            )
            for name, some in zip(names, held, strict=True)
        ]

    async def one(self, instance: str, host: str) -> Registration | None:
        """Give one host; None: it is not here, or not any more."""
        await self.sweep(instance)
        asked = await self.hosts.asked(instance, host)
        if asked is None:
            return None
        [held] = await self.hosts.holdings(instance, [host])
        return _made(asked, held)


def _canonical(text: str) -> str:
    """Write a host as it is kept, if the text is one: its type is compared without case."""
    type_, colon, value = text.partition(":")
    return f"{type_.upper()}{colon}{value}"


def _take(found: dict[str, _Held], host: str, held: _Held, line: str) -> None:
    """Add a host that holds something, or something of a line; or nobody knows what."""
    if held is None or any(not line or each.line == line for each in held):
        found[host] = held


def _units(held: _Held, line: str) -> int:
    return sum(each.count for each in held or () if not line or each.line == line)


def _found(names: list[str], cut: bool, seen: Mapping[str, int | None]) -> Found:
    rows = [Registration(host=each, seen_ms=seen[each], held=[]) for each in names[:FOUND_MAX]]
    return Found(rows, len(rows), cut or len(names) > FOUND_MAX)


def _made(asked: Asked, held: _Held) -> Registration:
    return Registration(
        host=asked.host, seen_ms=asked.at_ms, held=held or [], readable=held is not None
    )


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _until_s() -> float:
    return _now_s() + WALK_S_MAX
