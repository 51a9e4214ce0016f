"""Somebody at the pages of an instance of a test's own, who looks and reads.

Decided here: that each look is a fresh one and is waited for, whatever the machine does meanwhile;
and that an instance's day is far from its end, so that today stays today while a test runs.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from markupsafe import escape

from gateway.core.model import Role, User
from tests.vectors.served import Served
from tests.web.clerks import Clerk
from tests.web.desks import HASH, PASSWORD
from tests.web.doors import Door, at, door_serving

EVIL = '"><img src=x onerror=alert(1)>'
ESCAPED = str(escape(EVIL))


@contextmanager
def looks_serving(data_dir: Path, **settings: str) -> Iterator[Served]:
    """Open a gateway whose pages are never of a moment before."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("KEPT_S", 0.0), ("PRICE", 0), ("PATIENCE_S", 60.0)):
            patch.setattr(f"gateway.service.lately.{name}", value)
        with door_serving(data_dir, **settings) as opened:
            yield opened


class Page:
    """What a page shows: `text` is what is read, `source` what is sent."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status, self.source = answer.status_code, answer.text
        main = self.source.partition("<main")[2].partition(">")[2].partition("</main>")[0]
        told = html.unescape(re.sub(r"<[^>]*>", " ", main))
        self.text = re.sub(r"\s+([.,:;])", r"\1", " ".join(told.split()))

    def table(self, caption: str) -> list[list[str]]:
        """Give the rows of the table whose caption begins so, cell by cell."""
        for table in re.findall(r"<table>.*?</table>", self.source, re.DOTALL):
            if re.search(rf"<caption>\s*{re.escape(caption)}", table):
                rows = re.findall(r"<tr>.*?</tr>", table.partition("<tbody>")[2], re.DOTALL)
                return [_cells(row) for row in rows]
        raise AssertionError(f"no table {caption!r}: {self.text}")

    def link(self, words: str) -> str:
        """Give where a link of these words leads."""
        found = re.search(rf'<a href="([^"]*)"[^>]*>{re.escape(words)}</a>', self.source)
        assert found is not None, self.text
        return html.unescape(found[1])


def _cells(row: str) -> list[str]:
    cells = re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in cells]


class Looker(Clerk):
    """Ann, who is logged in at the pages of a door."""

    async def log_in(self) -> None:
        form = {"instance": self.door.instance, "user": "ann", "password": PASSWORD}
        answer = await self.http.post("/ui/login", data=form)
        assert answer.status_code == 303, answer.text

    async def page(self, path: str = "") -> Page:
        """Look at a page below the instance's, or at an address on one."""
        if not path.startswith("/"):
            path = f"/ui/instances/{self.door.instance}/{path}"
        return Page(await self.http.get(path))


def at_looker(
    served: Served, story: Callable[[Looker], Awaitable[None]], *roles: Role, **changes: Any
) -> None:
    """Run a story of ann's, who has READ unless other roles are named."""

    async def told(door: Door) -> None:
        held = tuple(role.value for role in roles or (Role.READ,))
        users = (User("ann", HASH, held),)
        await door.put(**{"users": users, "timezone": noon_zone()} | changes)
        looker = Looker(door, {})
        try:
            await looker.log_in()
            await story(looker)
        finally:
            looker.http.cookies.clear()
            # Attempts of this test are no other's: all of them come from one address.
            for key in await served.keys():
                if ":l:" in key:
                    await served.store.delete(key)

    at(served, told)


def noon_zone() -> str:
    """Name a time zone where it is about noon."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"
