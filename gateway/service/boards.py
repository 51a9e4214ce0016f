"""Where the workers of one gateway count, so that whoever is asked tells the sum of all.

Decided here: one memory, made by the supervisor and inherited like the listener, in which each
worker has a slot; that a worker which follows a dead one counts on in its slot, so that counters
never go back; that what a dead one last said of the present is not told; and that its death is
counted in its slot, by whoever replaces it, since it cannot do so itself. No file: it needs no
place to write and leaves nothing behind. Source: INTERFACE 5.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, Self

from gateway.core.meters import CELL_BYTES, UNSET, Meters
from gateway.core.metrics import Layout

_HEAD_CELLS: Final = 1  # of a slot: the process id of its worker


class Board:
    """The slots of all workers; `own` is the one of this process, from 0."""

    def __init__(self, layout: Layout, cells: memoryview[int], own: int) -> None:
        self.layout, self.own = layout, own
        self._slots = _slots(layout, cells)
        self.meters = Meters(layout, self._slots[own][_HEAD_CELLS:])
        self._slots[own][0] = os.getpid()
        self.meters.begin()

    @classmethod
    def alone(cls, layout: Layout) -> Self:
        """Make the board of a process that has no others beside it."""
        return cls(layout, memoryview(bytearray(_bytes(layout))).cast("q"), 0)

    @classmethod
    def shared(cls, layout: Layout, fd: int, own: int) -> Self:
        """Take one's slot on the board behind a descriptor that `make` gave, perhaps elsewhere.

        The layout has to be that which it was made for.
        """
        return cls(layout, _cells(fd), own)

    @staticmethod
    def make(layout: Layout, slots: int) -> int:
        """Make the memory of a board, all zeros; the caller closes the descriptor."""
        fd = os.memfd_create("gateway-board")
        os.ftruncate(fd, slots * _bytes(layout))
        return fd

    @staticmethod
    def count_death(layout: Layout, fd: int, own: int) -> None:
        """Count, in the slot of a worker that has ended, that it did so without being told to."""
        slot = _slots(layout, _cells(fd))[own]
        slot[0] = 0  # its process id may soon be somebody else's
        Meters(layout, slot[_HEAD_CELLS:]).add("gateway_worker_deaths_total")

    def totals(self) -> list[int]:
        """Add up the slots, cell by cell; UNSET where no worker that is alive has set a gauge."""
        totals = [0] * self.layout.size
        for place in self.layout.gauges:
            totals[place] = UNSET
        gauges = frozenset(self.layout.gauges)
        for slot in self._slots:
            alive = bool(slot[0]) and _is_alive(slot[0])  # 0: not taken yet, or not again
            for place, value in enumerate(slot[_HEAD_CELLS:].tolist()):
                if place not in gauges:
                    totals[place] += value
                elif alive and value != UNSET:
                    before = totals[place]
                    totals[place] = value if before == UNSET else before + value
        return totals

    def gauge(self, name: str, *labels: str) -> int | None:
        """Add up what the first cell of a gauge says in all workers that are alive; None: nothing
        is known.
        """
        value = self.totals()[self.layout.places[name, *labels]]
        return None if value == UNSET else value


def _cells(fd: int) -> memoryview[int]:
    return memoryview(mmap.mmap(fd, os.fstat(fd).st_size)).cast("q")


def _slots(layout: Layout, cells: memoryview[int]) -> list[memoryview[int]]:
    width = _HEAD_CELLS + layout.size
    return [cells[start : start + width] for start in range(0, len(cells), width)]


def _bytes(layout: Layout) -> int:
    return CELL_BYTES * (_HEAD_CELLS + layout.size)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's by now
        return False
    return True
