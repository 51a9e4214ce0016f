"""Reports that are open: so many at once, each only for as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from gateway.core.model import Role
from gateway.service.reports import OPEN_MAX, OPEN_RETRY_S, READING_MAX, Places
from gateway.store.usage import Month, Record
from tests.served_by import under_both
from tests.vectors.served import Served
from tests.web.desks import Desk, desk_at
from tests.web.doors import door_serving, eventually

DAYS = "from=2026-02-01&to=2026-04-30"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with door_serving(tmp_path_factory.mktemp("open")) as opened:
        yield opened


class Gate:
    """A month that is read only when somebody opens it, and who reads it meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, month: int) -> None:
        self.open = asyncio.Event()
        self.reading = self.most = 0
        real = Record.month

        async def gated(record: Record, asked: int) -> Month:
            if asked == month:
                self.reading += 1
                self.most = max(self.most, self.reading)
                try:
                    await self.open.wait()
                finally:
                    self.reading -= 1
            return await real(record, asked)

        monkeypatch.setattr(Record, "month", gated)

    async def read_by(self, readers: int) -> None:
        async def there_are_so_many() -> bool:
            return self.reading == readers

        await eventually(there_are_so_many)


def places_taken(monkeypatch: pytest.MonkeyPatch) -> list[Places]:
    """Give where from now on each place is noted that is taken."""
    noted: list[Places] = []
    real = Places.taken

    def taken(places: Places) -> AbstractContextManager[None]:
        noted.append(places)
        return real(places)

    monkeypatch.setattr(Places, "taken", taken)
    return noted


Ask = Callable[..., Awaitable[httpx.Response]]


def asking(served: Served, story: Callable[[Ask], Awaitable[None]]) -> None:
    async def told(desk: Desk) -> None:
        header = await desk.header()

        async def ask(path: str = f"usage?{DAYS}") -> httpx.Response:
            return await desk.http.get(desk.door.path(path), headers=header)

        await story(ask)

    desk_at(served, told, Role.READ)


def test_so_many_reports_are_open_and_fewer_are_read_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(ask: Ask) -> None:
        gate, places = Gate(monkeypatch, 202602), places_taken(monkeypatch)
        asked = [asyncio.ensure_future(ask()) for _ in range(OPEN_MAX)]
        await gate.read_by(READING_MAX)

        async def all_open() -> bool:
            return places[0].free == 0

        await eventually(all_open)
        for path in (f"usage?{DAYS}", f"usage/peaks?{DAYS}", f"usage/denials?{DAYS}&format=csv"):
            answer = await ask(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, str(OPEN_RETRY_S))
            told = answer.json()
            assert (told["key"], told["arguments"]) == ("gateway.unavailable", ["not_applied"])
        assert gate.reading == READING_MAX
        gate.open.set()
        assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
        assert gate.most == READING_MAX
        assert (await ask("usage/capacity")).status_code == 200

    asking(served, story)


@under_both
@pytest.mark.parametrize("month", [202602, 202604], ids=["at its start", "in its middle"])
def test_a_client_that_leaves_gives_back_turn_and_place(
    served: Served, monkeypatch: pytest.MonkeyPatch, month: int
) -> None:
    async def story(ask: Ask) -> None:
        gate = Gate(monkeypatch, month)
        for _ in range(2 * OPEN_MAX // READING_MAX):
            asked = [asyncio.ensure_future(ask()) for _ in range(READING_MAX)]
            await gate.read_by(READING_MAX)
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await gate.read_by(0)
        gate.open.set()
        assert (await ask()).status_code == 200

    asking(served, story)
