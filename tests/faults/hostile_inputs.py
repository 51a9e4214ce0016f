"""The hostile inputs, by number: the same seed and number always make the same one.

Decided here: how many there are of each kind. The same but for keys and moments, which are of each
run: what is spoiled, and how, is drawn from seed and number alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from tests.faults import hostile_desks, hostile_doors, hostile_pages, hostile_wire
from tests.faults.hostile_http import Input
from tests.faults.hostile_site import Site

Maker = Callable[[Random, int, Site], Input]

# Of a thousand, each. A log-in is a tenth of a second of hashing, a silence one of waiting.
SHARES: Final[dict[Maker, int]] = {
    hostile_doors.payload: 230,
    hostile_doors.token: 120,
    hostile_doors.body: 180,
    hostile_doors.batch: 40,
    hostile_doors.signed_batch: 50,
    hostile_doors.stranger: 60,
    hostile_desks.floating: 90,
    hostile_desks.floating_read: 30,
    hostile_desks.administration: 50,
    hostile_desks.login: 4,
    hostile_pages.page: 40,
    hostile_pages.way_in: 10,
    hostile_wire.headers: 40,
    hostile_wire.head: 30,
    hostile_wire.framing: 16,
    hostile_wire.noise: 10,
}
_MAKERS: Final = tuple(SHARES)
_WEIGHTS: Final = tuple(SHARES.values())


def make(seed: str, number: int, site: Site) -> Input:
    """Make one input."""
    draw = Random(f"{seed}/{number}")  # noqa: S311 - to be repeated, not to be secret
    (maker,) = draw.choices(_MAKERS, _WEIGHTS)
    return maker(draw, number, site)


def make_all(seed: str, numbers: range, site: Site) -> Iterator[Input]:
    """Make inputs one after the other, as they are taken."""
    for number in numbers:
        yield make(seed, number, site)
