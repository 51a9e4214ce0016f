"""Plans for an upstream, drawn from dice: what is likely to be wrong with it for a while. Pure.

Decided here: which faults come together. Not decided here: what they look like (plan.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from tests.faults.plan import INVALID, PASSING, STOPPING, Plan

STORM = {"": 2, "500": 2, "502 applied": 2, "reset applied": 2, "close": 1, "half applied": 1}
SLOW = {"": 3, "late": 4, "drip": 1, "drip applied": 2}
STORM_REQUESTS = 12
POISONED = 3
ROOM_UNITS_MAX = 40
BYTES = (250, 700)  # of a request with one feature, and with all of an instance

Draw = Callable[[random.Random, Sequence[str], Mapping[str, int]], Plan]


def draw_plan(
    dice: random.Random, features: Sequence[str], totals: Mapping[str, int]
) -> tuple[str, Plan]:
    """Draw a plan and its name; `totals` is what was taken so far by feature, for a capacity."""
    name = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    return name, _DRAWS[name](dice, features, totals)


def _mixed(mix: Mapping[str, int], requests: int | None = None) -> Draw:
    def draw(dice: random.Random, _: Sequence[str], __: Mapping[str, int]) -> Plan:
        return Plan(
            seed=dice.randrange(2**32),
            mix=mix,
            mix_requests=requests,
            late_s=dice.choice([0.2, 0.6, 1.2]),
            drip_s=dice.choice([0.001, 0.02]),
        )

    return draw


def _poison(dice: random.Random, features: Sequence[str], _: Mapping[str, int]) -> Plan:
    return Plan(seed=dice.randrange(2**32), mix=PASSING, poison=dice.sample(features, POISONED))


def _capacity(dice: random.Random, features: Sequence[str], totals: Mapping[str, int]) -> Plan:
    named = dice.sample(features, len(features) // 2)
    room = {name: totals.get(name, 0) + dice.randint(0, ROOM_UNITS_MAX) for name in named}
    return Plan(seed=dice.randrange(2**32), mix=PASSING, capacity=room)


def _keeps(dice: random.Random, _: Sequence[str], __: Mapping[str, int]) -> Plan:
    return Plan(seed=dice.randrange(2**32), mix=PASSING, takes_back=False)


def _small(dice: random.Random, _: Sequence[str], __: Mapping[str, int]) -> Plan:
    return Plan(seed=dice.randrange(2**32), mix=PASSING, bytes_max=dice.randint(*BYTES))


def _stopping(dice: random.Random, _: Sequence[str], __: Mapping[str, int]) -> Plan:
    # A 401 is asked again with a fresh token, so that it takes two of them to stop a lane.
    return Plan(seed=dice.randrange(2**32), script=[dice.choice(STOPPING)] * 2, mix=PASSING)


_DRAWS: dict[str, Draw] = {
    "passing": _mixed(PASSING),
    "invalid": _mixed(PASSING | dict.fromkeys(INVALID, 4)),
    "storm": _mixed(STORM, STORM_REQUESTS),
    "slow": _mixed(SLOW),
    "poison": _poison,
    "capacity": _capacity,
    "keeps": _keeps,
    "small": _small,
    "stopping": _stopping,
    "calm": _mixed({}),
}
_WEIGHTS = dict.fromkeys(_DRAWS, 2) | {"passing": 4, "stopping": 1}
