"""Clients of several instances, and when each of their attempts ended.

Decided here: what is meant by being served, and by not being served. Not decided here: what a
client asks and how its journal is kept (fleet_load.py), what is done to the store (trial.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.faults.fleet import Instance
from tests.faults.fleet_load import Load
from tests.faults.fleet_requests import Ask
from tests.faults.scene import until

SERVED = 3  # answers of each gateway by which an instance is known to be served
RECOVERED_S_MAX = 60.0
LOOK_S = 0.05
STALL_S = 0.3  # so late a look says that the machine did nothing for anybody
ANSWERED = "200"


@dataclass(frozen=True)
class End:
    """When an attempt at a gateway began and ended, on the monotonic clock, and how: its status,
    and of a 503 also what it says of the request.
    """

    began_s: float
    at_s: float
    how: str
    url: str


class WatchedLoad(Load):
    """The clients of one instance; how each of their attempts ended is kept."""

    def __init__(self, directory: Path, urls: Sequence[str], of: Instance, seed: int) -> None:
        super().__init__(directory, urls, of.id, list(of.counts), seed)
        self.ends: list[End] = []

    async def attempt(self, ask: Ask, url: str, replica: str = "") -> None:
        """Ask once, and note how that ended."""
        began_s = time.monotonic()
        await super().attempt(ask, url, replica)
        self.ends.append(End(began_s, time.monotonic(), ask.endings[-1], url))

    async def _work(self, host: str, dice: random.Random) -> None:
        # Every host has a journal, and those of all instances are in one directory.
        await super()._work(f"{self.instance}-{host}", dice)


@dataclass
class Watch:
    """Looks at loads, by instance; where instances are named it looks at those only.

    Spans are from a moment until now, or until another one, on the monotonic clock. `stalls` are
    those in which the machine stood still, so that nothing is said of anybody.
    """

    loads: Mapping[str, WatchedLoad]
    stalls: list[tuple[float, float]] = field(init=False, default_factory=list)

    async def feel_stalls(self) -> None:
        """Note, until cancelled, when not even this could go on."""
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(LOOK_S)
            if time.monotonic() - before_s > LOOK_S + STALL_S:
                self.stalls.append((before_s, time.monotonic()))

    async def served(self, *instances: str, by: Collection[str] = ()) -> None:
        """Wait until each gateway, or those with URLs `by`, has answered each instance a few times
        more. Fails for a gateway that does not find back to it in time.
        """
        since_s = time.monotonic()

        def are_served() -> bool:
            return all(
                self._answers(since_s, each)[url] >= SERVED
                for each in instances or self.loads
                for url in by or self.loads[each].urls
            )

        await until(are_served, RECOVERED_S_MAX)

    def endings(self, since_s: float, *instances: str) -> Counter[str]:
        """Count how attempts ended that began since, but those that the machine held up."""
        return Counter(
            end.how
            for end in self._ends(since_s, *instances)
            if end.began_s >= since_s and not self._stalled(end.began_s, end.at_s)
        )

    def asked_and_answered(self, since_s: float, by: str = "") -> list[End]:
        """Give the answers to what was asked since, of all gateways or of that with the URL `by`.

        An answer to what was asked before may be heard at any time.
        """
        return [
            end
            for end in self._ends(since_s)
            if end.how == ANSWERED and end.began_s >= since_s and by in ("", end.url)
        ]

    def silence_s(self, since_s: float, *instances: str) -> float:
        """Give the longest time in which nothing was answered."""
        answers = sorted(end.at_s for end in self._ends(since_s, *instances) if end.how == ANSWERED)
        moments = [since_s, *answers, time.monotonic()]
        return max(later - one for one, later in pairwise(moments))

    def answers_each_second(self, since_s: float, *instances: str) -> list[int]:
        """Count the answers of each whole second, but of those in which the machine stalled."""
        seconds = Counter(
            int(end.at_s - since_s)
            for end in self._ends(since_s, *instances)
            if end.how == ANSWERED
        )
        return [
            seconds[second]
            for second in range(int(time.monotonic() - since_s))
            if not self._stalled(since_s + second, since_s + second + 1)
        ]

    def _stalled(self, from_s: float, to_s: float) -> bool:
        return any(first < to_s and from_s < last for first, last in self.stalls)

    def _answers(self, since_s: float, instance: str) -> Counter[str]:
        ends = self._ends(since_s, instance)
        return Counter(end.url for end in ends if end.how == ANSWERED)

    def _ends(self, since_s: float, *instances: str) -> list[End]:
        loads = [self.loads[each] for each in instances or self.loads]
        return [end for load in loads for end in load.ends if end.at_s >= since_s]
