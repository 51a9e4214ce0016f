"""Random faults over real processes, for each kind of upstream and for all at once.

The seed is printed; GATEWAY_FAULT_SEED repeats a run, GATEWAY_FAULT_SECONDS prolongs the one with
all kinds of upstreams, and those with one of them in proportion. At every tick the books balance;
after a faultless drain nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.ending import finish
from tests.faults.nemesis import Nemesis
from tests.faults.scene import open_scene
from tests.faults.sites import KINDS

SECONDS = float(os.environ.get("GATEWAY_FAULT_SECONDS", "8"))
SHARE_OF_ONE = 0.5  # of that, for one kind of upstream

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS), [*KINDS]], ids="+".join)
def test_nothing_is_lost_or_counted_twice_whatever_happens(
    kinds: Sequence[str], tmp_path: Path
) -> None:
    seed = int(os.environ.get("GATEWAY_FAULT_SEED") or secrets.randbelow(2**32))
    print(f"GATEWAY_FAULT_SEED={seed} {'+'.join(kinds)} in {tmp_path}")

    async def run() -> list[str]:
        async with open_scene(tmp_path, kinds, seed) as scene:
            nemesis = Nemesis(scene, seed, SECONDS if len(kinds) > 1 else SHARE_OF_ONE * SECONDS)
            await nemesis.run()
            found = scene.found or await finish(scene)
            print(*nemesis.done, sep="\n")
            print(f"{scene.load.answered} answers, {scene.ticks} looks, {scene.decided} decisions")
            for site in scene.http:
                print(site.name, Counter(each.fault for each in site.upstream.handled()))
            assert scene.load.answered
            assert scene.ticks
            return found

    assert asyncio.run(run()) == []
