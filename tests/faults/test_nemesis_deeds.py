"""A seed is a run: the same deeds with the same dice in the same order, one by one to a thing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from itertools import islice

import pytest

from tests.faults import nemesis_deeds
from tests.faults.nemesis_deeds import Deed, Do, Nemesis, draw

THINGS = {"kill store": ("store",), "kill gateway": ("gateway",), "roll": ("gateway", "other")}
BRIEF = (0.0, 0.002)
DEEDS_MIN = 30


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAUSE_S", "REST_S"):
        monkeypatch.setattr(nemesis_deeds, name, BRIEF)


def deeds(do: Mapping[str, Do] | None = None) -> list[Deed]:
    async def nothing(_: random.Random) -> None: ...

    return [Deed(1, name, things, (do or {}).get(name, nothing)) for name, things in THINGS.items()]


def drawn(seed: int) -> list[tuple[int, str, float, float, float]]:
    first = islice(draw(deeds(), seed), DEEDS_MIN)
    return [(d.number, d.deed.name, d.pause_s, d.rest_s, d.dice.random()) for d in first]


def test_a_seed_draws_the_same_deeds_with_the_same_dice() -> None:
    assert drawn(7) == drawn(7)
    assert {name for _, name, *_ in drawn(7)} == THINGS.keys()


def test_another_seed_draws_others() -> None:
    assert drawn(7) != drawn(8)


def test_how_many_dice_a_deed_throws_changes_nothing_of_the_next() -> None:
    thrown = [(each.deed.name, each.dice.random()) for each in islice(draw(deeds(), 7), 9)]
    for each in (one := draw(deeds(), 7)):
        each.dice.random()
        if each.number == 8:
            break
    last = next(one)
    assert thrown[-1] == (last.deed.name, last.dice.random())


def test_a_thing_suffers_its_deeds_one_after_the_other_in_the_order_of_the_seed() -> None:
    begun: dict[str, list[str]] = {}
    busy: set[str] = set()

    def doing(name: str) -> Do:
        async def do(_: random.Random) -> None:
            assert busy.isdisjoint(THINGS[name])
            busy.update(THINGS[name])
            begun.setdefault(THINGS[name][0], []).append(name)
            await asyncio.sleep(BRIEF[1])
            busy.difference_update(THINGS[name])

        return do

    nemesis = Nemesis(deeds({name: doing(name) for name in THINGS}), 7)
    asyncio.run(nemesis.run(60, lambda: nemesis.counts.total() >= DEEDS_MIN))
    assert nemesis.counts.total() >= DEEDS_MIN
    for thing, names in begun.items():
        of_seed = (each.deed for each in draw(nemesis.deeds, 7))
        expected = [each.name for each in islice(of_seed, 4 * DEEDS_MIN) if each.things[0] == thing]
        assert names == expected[: len(names)]


def test_a_deed_that_cannot_be_done_ends_the_run_and_says_which_it_was() -> None:
    async def fail(_: random.Random) -> None:
        raise AssertionError("the store did not come back")

    nemesis = Nemesis(deeds({"kill store": fail}), 7)
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(nemesis.run(60, lambda: False))
    (error,) = caught.value.exceptions
    assert error.__notes__[0].endswith(": kill store")
