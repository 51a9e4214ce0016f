"""Seats held before a month are found: in days, in folded months, and while these are made.

Law: SEMANTICS 11: `h` of the last day with events is what is held until the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.core.errors import Unavailable
from gateway.store import usage
from tests.store.record_house import LINES, At, House, between_reads, houses, of_month
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    yield from houses(shared_home)


@pytest.fixture(params=["asked", "listed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Last words are asked for line by line, or all are listed; what is found is the same."""
    monkeypatch.setattr(
        usage, "_LISTED_A_QUESTION", 0 if request.param == "asked" else 1_000_000_000
    )
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_seats_held_are_found_however_long_ago_they_moved(at: At) -> None:
    async def story(house: House) -> None:
        lines = ("NEVER", "FOLDED", "OLD", "NEW", "LATER", "BEFORE")
        for line in lines[1:]:
            await house.store.client.hset(house.keys.used, f"{line}|0", 9)
        await house.write(202401, {"FOLDED|20240107|h": 4, "FOLDED|20240107|p": 8})
        await house.fold(202401, "FOLDED")
        await house.write(202501, {"OLD|20250107|h": 3, "OLD|20250105|h": 7, "NEW|20250101|h": 5})
        await house.write(202603, {"NEW|20260301|h": 2, "NEW|20260302|h": 1})
        await house.write(202604, {"LATER|20260401|h": 6})
        await house.write(202301, {"BEFORE|20230101|h": 6})
        record = house.record
        assert await record.held_before(202604, 202401, lines) == {"FOLDED": 4, "OLD": 3, "NEW": 1}
        assert await record.held_before(202604, 202401, ()) == {}
        assert await record.held_before(202604, 202401, ("NEVER",)) == {}
        assert await record.held_before(202402, 202401, lines) == {"FOLDED": 4}
        assert await record.held_before(202402, 202402, lines) == {}
        assert await record.held_before(202401, 202401, lines) == {}

    at(story)


@pytest.mark.usefixtures("way")
def test_a_late_word_on_a_folded_month_is_the_last_one(at: At) -> None:
    """It is in the days of that month, beside what was folded, until it is folded too."""

    async def story(house: House) -> None:
        await house.store.client.hset(house.keys.used, "L1|0", 1)
        await house.write(202401, {"L1|20240131|h": 9})
        await house.fold(202401, "L1")
        for _ in range(2):
            await house.write(202401, {"L1|20240120|h": 0})
            assert await house.record.held_before(202603, 202401, ["L1"]) == {"L1": 0}
            await house.fold(202401, "L1")
            assert await house.record.held_before(202603, 202401, ["L1"]) == {"L1": 0}

    at(story)


def test_seats_whose_month_is_folded_while_they_are_looked_for_are_found(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not in the month yet is not in its days any more: it is looked for again."""
    monkeypatch.setattr(usage, "_LISTED_A_QUESTION", 1_000_000_000)

    async def story(house: House) -> None:
        monkeypatch.setattr(usage, "TRY_PAUSE_S", 0)
        lines = [f"L{line}" for line in range(4)]
        for line in lines:
            await house.store.client.hset(house.keys.used, f"{line}|0", 1)
            await house.write(202401, {f"{line}|20240131|h": 9})
        waiting = iter(lines[1:])
        await house.fold(202401, lines[0])

        async def fold_one() -> None:
            line = next(waiting, None)
            if line:
                await house.fold(202401, line)

        with between_reads(monkeypatch, fold_one, of=":month:"):
            held = await house.record.held_before(202603, 202401, lines)
        assert next(waiting, None) is None
        assert held == dict.fromkeys(lines, 9)
        endless = iter(range(1_000))

        async def fold_more() -> None:
            line = f"M{next(endless)}"
            await house.write(202401, {f"{line}|20240131|h": 9})
            await house.fold(202401, line)

        with between_reads(monkeypatch, fold_more, of=":month:"), pytest.raises(Unavailable):
            await house.record.held_before(202603, 202401, lines)

    at(story)


def test_a_line_idle_for_years_is_asked_for_alone(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else its months have: nothing is read whole, no call asks for more than a page."""

    async def never(*args: Any, **how: Any) -> Any:
        raise AssertionError("a month was read whole")
        yield

    async def story(house: House) -> None:
        client, keys = house.store.client, house.keys
        lines = [f"L{line}" for line in range(LINES)]
        await client.hset(keys.used, mapping={f"{line}|0": 1 for line in [*lines, "IDLE"]})
        await house.write(202401, {"IDLE|20240101|h": 7})
        months = [*range(202401, 202413), *range(202501, 202513)]
        for month in months:
            await house.write(month, of_month(month) | {f"{line}|{month}28|h": 1 for line in lines})
        sent: list[int] = []
        sends = type(client.pipeline(transaction=False))
        real = sends.execute

        async def counted(pipeline: Any, *args: Any) -> Any:
            sent.append(sum(len(command[0]) - 2 for command in pipeline.command_stack))
            return await real(pipeline, *args)

        monkeypatch.setattr(usage, "_LISTED_A_QUESTION", 1)  # these months are small
        monkeypatch.setattr(usage, "steps", never)
        with monkeypatch.context() as patched:
            patched.setattr(sends, "execute", counted)
            held = await house.record.held_before(202601, 202401, [*lines, "IDLE"])
        assert held == dict.fromkeys(lines, 1) | {"IDLE": 7}
        assert max(sent) <= usage.PAGE_FIELDS
        assert len(sent) <= 3

    at(story)


def test_only_a_century_is_looked_back_over() -> None:
    months = usage._months_back(202603, 202512)
    assert months == [202602, 202601, 202512]
    assert usage._months_back(202603, 202603) == []
    century = usage._months_back(202603, 0)
    assert (len(century), century[0], century[-1]) == (usage.MONTHS_MAX, 202602, 192603)
