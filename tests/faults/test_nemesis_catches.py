"""What a nemesis is for is found by it: gateways broken on purpose, and an ack that promises less.

Each defect is in the gateways of a whole house over one server (broken_gateway.py), or in what is
asked of Sentinel; a few deeds are enough. A sound one passes the same (test_nemesis.py).
GATEWAY_FAULT_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gateway.store import scripts
from tests.faults.broken_gateway import DEFECTS
from tests.faults.fleet import drawn_seed
from tests.faults.nemesis_books import Looks, last_judgement, safety, settle
from tests.faults.nemesis_deeds import Deed, Nemesis
from tests.faults.nemesis_house import House, open_house
from tests.faults.nemesis_plant import plant_deeds
from tests.faults.nemesis_stores import OneServer, SentinelStore, Store
from tests.system.processes import COMMAND

SECONDS = 120  # at most: it ends with what is found
FAILING_S = 25  # what a failover lost is found at the end only
TRIES = 5
FOUND = {
    "forgets-ids": ("I2: ",),
    "grants-one-too-many": ("I4: ", " in use of "),  # by the books, or by what a client is told
    "believes-an-old-catalogue": ("let in by a key that was revoked",),
    "drops-what-is-to-be-forwarded": ("row by row",),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_one_text_of_its_file(defect: str) -> None:
    file, sound, broken = DEFECTS[defect]
    assert scripts.read_lua(file).count(sound) == 1
    assert sound != broken


@pytest.mark.faults
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_gateway_is_caught_that(defect: str, tmp_path: Path) -> None:
    program = (sys.executable, "-m", "tests.faults.broken_gateway", defect)
    found = found_over(
        OneServer(tmp_path / "store"),
        tmp_path,
        lambda house: [each for each in plant_deeds(house) if each.name == "key revoked"],
        program,
    )
    assert any(sentence in each for each in found for sentence in FOUND[defect]), found


@pytest.mark.faults
def test_a_store_is_caught_that_is_asked_for_less_than_it_is_judged_by(tmp_path: Path) -> None:
    """What only the primary has is lost in a failover: at `replica` nothing of it is allowed."""

    def deeds(at: SentinelStore) -> list[Deed]:
        named = ("failover told", "pause primary")
        return [each for each in at.deeds((), ()) if each.name in named]

    for number in range(TRIES):
        directory = tmp_path / str(number)
        directory.mkdir()
        at = SentinelStore(directory / "store")
        at.ack = "written"
        found = found_over(at, directory, lambda _, at=at: deeds(at), seconds=FAILING_S)
        if any("only" in each and each.startswith("I1: ") for each in found):
            return
    raise AssertionError(found)


def found_over(
    store: Store,
    directory: Path,
    deeds: Callable[[House], Sequence[Deed]],
    program: Sequence[str] = COMMAND,
    seconds: float = SECONDS,
) -> list[str]:
    """Run a nemesis for a while over a store, and give what it finds."""
    seed = drawn_seed()

    async def run(at: Store) -> list[str]:
        async with open_house(directory, at, seed, program) as house:
            nemesis = Nemesis(deeds(house), seed)
            await safety(house, nemesis, Looks(house, nemesis), seconds)
            found = [*house.found, *house.oddities]
            if not found:
                await settle(house)
                _, found = await last_judgement(house, nemesis)
            return found

    with store as at:
        found = asyncio.run(run(at))
    print(*found, sep="\n")
    return found
