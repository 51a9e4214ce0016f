"""A long JSON array, made and written piece by piece.

Decided here: how much of it is done before others get their turn, so that a full page holds no
request up for longer than a piece takes. Not decided here: what the elements are and how they are
written (protocols/), how many there are (the reads bound their pages).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, TypeVar

ELEMENTS_AT_ONCE_MAX: Final = 200  # made and written between two turns: about 2 ms

_T = TypeVar("_T")


async def array(elements: Iterable[_T], encode: Callable[[list[_T]], bytes]) -> bytes:
    """Write an array of `elements`, which are taken, and so made, a piece at a time.

    `encode` writes a list of them as a JSON array without space around its brackets.
    """
    coming = iter(elements)
    pieces: list[bytes] = []
    while piece := list(islice(coming, ELEMENTS_AT_ONCE_MAX)):
        pieces.append(encode(piece)[1:-1])
        await asyncio.sleep(0)
    return b"[%b]" % b",".join(pieces)
