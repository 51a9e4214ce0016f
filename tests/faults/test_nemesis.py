"""Everything at random over a whole house, for each kind of store: nothing lost, nothing doubled.

The seed is printed; GATEWAY_FAULT_SEED draws the same deeds in the same order again, and
GATEWAY_FAULT_SECONDS is for how long they are done: 20 minutes of each kind are

    GATEWAY_FAULT_SECONDS=1200 python -m pytest -m faults tests/faults/test_nemesis.py -s

Source: RELIABILITY 4, row 17.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.fleet import drawn_seed, knob
from tests.faults.nemesis_books import Looks, figures, last_judgement, safety, settle
from tests.faults.nemesis_deeds import Nemesis
from tests.faults.nemesis_house import GATEWAYS, INSTANCES, open_house
from tests.faults.nemesis_plant import plant_deeds
from tests.faults.nemesis_stores import STORES, Store

SECONDS = knob("SECONDS", 60)


@pytest.mark.faults
@pytest.mark.parametrize("kind", STORES)
def test_nothing_is_lost_doubled_or_over_whatever_happens_to_a_house_over(
    kind: str, tmp_path: Path
) -> None:
    seed = drawn_seed()

    async def run(at: Store) -> list[str]:
        async with open_house(tmp_path, at, seed) as house:
            nemesis = Nemesis([*at.deeds(GATEWAYS[:1], INSTANCES), *plant_deeds(house)], seed)
            looks = Looks(house, nemesis)
            try:
                await safety(house, nemesis, looks, SECONDS)
                if found := [*house.found, *house.oddities]:
                    return found
                await settle(house)
                verdict, amiss = await last_judgement(house, nemesis)
            finally:
                (tmp_path / "deeds").write_text("\n".join(nemesis.done))
            print(f"{verdict.figures} in {SECONDS} s", f"faults [{nemesis.figures}]", sep="\n")
            print(figures(house, looks))
            assert looks.count
            return amiss

    with STORES[kind](tmp_path / "store") as at:
        amiss = asyncio.run(run(at))
    assert amiss == [], "\n".join(amiss)
