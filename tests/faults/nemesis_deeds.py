"""Which deeds are done, in which order, with how long between: drawn from one seed. And doing them.

Decided here: that the same seed draws the same deeds with the same dice, whatever became of those
before; that a thing has one done to it at a time, in the order in which they were drawn, while
different things suffer together. Not decided here: what is done (nemesis_stores.py,
nemesis_plant.py), what must hold all the while (nemesis_books.py).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

PAUSE_S = (0.05, 0.5)  # between deeds
REST_S = (0.2, 1.5)  # in which a thing is well, before the next one is done to it
AHEAD_MAX = 6  # deeds that are under way, or wait for their thing
SPAN_S = (0.1, 1.5)  # of being away or stopped
DEED_S_MAX = 600.0

Do = Callable[[random.Random], Awaitable[object]]


@dataclass(frozen=True)
class Deed:
    """Something to do to `things`, and how often in comparison with others.

    It draws what it needs from the dice it is given; it ends with everything whole again.
    """

    weight: int
    name: str
    things: tuple[str, ...]
    do: Do


@dataclass(frozen=True)
class Drawn:
    """The `number`-th deed of a seed, its own dice, the pause until the next one, and the rest that
    its things have after it.
    """

    number: int
    deed: Deed
    dice: random.Random
    pause_s: float
    rest_s: float


def draw(deeds: Sequence[Deed], seed: int) -> Iterator[Drawn]:
    """Draw deeds without end. Pure: the n-th depends on the seed and on n alone."""
    weights = [deed.weight for deed in deeds]
    for number in itertools.count(1):
        dice = random.Random(f"nemesis {seed} {number}")  # noqa: S311 (to be repeatable)
        (deed,) = dice.choices(deeds, weights)
        yield Drawn(number, deed, dice, dice.uniform(*PAUSE_S), dice.uniform(*REST_S))


def span_s(dice: random.Random) -> float:
    """Draw for how long something is away."""
    return dice.uniform(*SPAN_S)


@dataclass
class Nemesis:
    """Does the deeds of a seed; `done` says what was begun when, for whoever looks at a failure."""

    deeds: Sequence[Deed]
    seed: int
    done: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _over: Callable[[], object] = lambda: False
    _began_s: float = 0.0

    async def run(self, duration_s: float, is_amiss: Callable[[], object]) -> None:
        """Do deeds until time is over or something is amiss; all is whole again afterwards.

        Raises what a deed raises: then the test does not know what it did.
        """
        self._began_s = time.monotonic()
        self._over = lambda: is_amiss() or self._passed_s >= duration_s
        ahead = asyncio.Semaphore(AHEAD_MAX)
        async with asyncio.TaskGroup() as group:
            for drawn in draw(self.deeds, self.seed):
                await ahead.acquire()
                if self._over():
                    return
                group.create_task(self._do(drawn, ahead))
                await asyncio.sleep(drawn.pause_s)

    def is_busy(self, thing: str) -> bool:
        """Say whether something is being done to a thing now."""
        lock = self._locks.get(thing)
        return lock is not None and lock.locked()

    @property
    def figures(self) -> str:
        """Tell how often what was done."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))

    @property
    def _passed_s(self) -> float:
        return time.monotonic() - self._began_s

    async def _do(self, drawn: Drawn, ahead: asyncio.Semaphore) -> None:
        """Do a deed once its things have had those before it, and let them be well for a while."""
        deed = drawn.deed
        async with AsyncExitStack() as held:
            held.callback(ahead.release)
            for thing in deed.things:  # those of several are in one order: there is no circle
                await held.enter_async_context(self._locks.setdefault(thing, asyncio.Lock()))
            if self._over():
                return
            self.counts[deed.name] += 1
            self.done.append(f"{self._passed_s:.2f} {drawn.number} {deed.name} {deed.things[0]}")
            try:
                async with asyncio.timeout(DEED_S_MAX):
                    await deed.do(drawn.dice)
            except Exception as error:
                error.add_note(f"deed {drawn.number}: {deed.name}")
                raise
            await asyncio.sleep(drawn.rest_s)
