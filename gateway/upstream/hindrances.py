"""What keeps an upstream or a lane from being tried, remembered between visits.

Decided here: the breaker of each upstream, which upstream lets nobody in, which lane stands and
until when, which one is to be looked at again at a certain moment. Not decided here: what follows
from an answer (outcomes.py). It may be forgotten at any time: a restart only tries once more.
Health is logged when it changes, not as long as it lasts. Source: DESIGN 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.upstream.breaker import Breaker

STOPPED_PROBE_S: Final = 300.0
KNOWN_S: Final = 120.0  # beyond when it was to be tried again, a time-out included

Lane = tuple[str, str]  # instance and upstream

_log: Final = structlog.get_logger("gateway.forward")


@dataclass(frozen=True)
class Wait:
    """Why something waits, and until when."""

    reason: str
    until_s: float


@dataclass
class Hindrances:
    """What is in the way, of one process. `random` is uniform in [0, 1)."""

    monotonic_s: Callable[[], float]
    random: Callable[[], float]
    _breakers: dict[str, Breaker] = field(default_factory=dict)
    _stopped: dict[str, str] = field(default_factory=dict)  # upstream -> why it takes nothing
    _blocks: dict[Lane, Wait] = field(default_factory=dict)  # lanes that stand
    _looks: dict[Lane, Wait] = field(default_factory=dict)  # lanes where something waits its turn

    def breaker(self, upstream: str) -> Breaker:
        """Give the breaker of an upstream."""
        return self._breakers.setdefault(upstream, Breaker(self.random))

    def away(self, upstream: str, why: str, at_least_s: float = 0.0) -> None:
        """Leave an upstream alone for a while that did not answer well."""
        if self.breaker(upstream).fail(self.monotonic_s(), at_least_s):
            _log.warning("upstream_away", upstream=upstream, why=why)

    def stopped(self, upstream: str, why: str) -> None:
        """Leave an upstream alone that lets nobody in, but for a probe now and then."""
        self.breaker(upstream).fail(self.monotonic_s(), STOPPED_PROBE_S)
        if self._stopped.get(upstream) != why:
            self._stopped[upstream] = why
            _log.error("upstream_stopped", upstream=upstream, why=why)

    def answers(self, upstream: str) -> None:
        """Take back what was held against an upstream: it answers."""
        self._stopped.pop(upstream, None)
        if self.breaker(upstream).succeed():
            _log.info("upstream_back", upstream=upstream)

    def is_away(self, upstream: str) -> bool:
        """Say whether an upstream does not answer well, as this process found it lately.

        Who had no reason to try again for long knows nothing: another process may have.
        """
        breaker = self._breakers.get(upstream)
        if breaker is None or not breaker.failures:
            return False
        return self.monotonic_s() < breaker.ready_s + KNOWN_S

    def is_stopped(self, upstream: str) -> bool:
        """Say whether, of one that is away, the reason is that it lets nobody in."""
        return upstream in self._stopped and self.is_away(upstream)

    def stands(self, lane: Lane) -> bool:
        """Say whether a lane is not to be tried now."""
        block = self._blocks.get(lane)
        return block is not None and self.monotonic_s() < block.until_s

    def block(self, lane: Lane, reason: str, for_s: float, batch: str = "") -> None:
        """Let a lane stand for a while."""
        before = self._blocks.get(lane)
        self._blocks[lane] = Wait(reason, self.monotonic_s() + for_s)
        if before is None or before.reason != reason:
            instance, upstream = lane
            _log.error(
                "lane_blocked", instance=instance, upstream=upstream, batch=batch, why=reason
            )

    def free(self, lane: Lane) -> None:
        """Take a block away: something of the lane went through."""
        if self._blocks.pop(lane, None) is not None:
            instance, upstream = lane
            _log.info("lane_freed", instance=instance, upstream=upstream)

    def look_again(self, lane: Lane, reason: str, in_s: float) -> None:
        """Have a lane looked at after a while, because something of it waits its turn."""
        self._looks[lane] = Wait(reason, self.monotonic_s() + in_s)

    def nothing_waits(self, lane: Lane) -> None:
        """Take back `look_again`."""
        self._looks.pop(lane, None)

    def waits(self, upstream: str) -> dict[str, float]:
        """Give the instances of an upstream with something to be tried, and in how many seconds.

        What is due by now has just had its turn, or another process gives it one.
        """
        now_s = self.monotonic_s()
        ends: dict[str, float] = {}
        for waits in (self._blocks, self._looks):
            for (instance, name), wait in waits.items():
                if name == upstream and wait.until_s > now_s:
                    ends[instance] = min(wait.until_s - now_s, ends.get(instance, math.inf))
        return ends

    def hasten(self) -> None:
        """Let everything be tried at once: a person, or a restart, wants it."""
        now_s = self.monotonic_s()
        for lane, block in self._blocks.items():
            self._blocks[lane] = Wait(block.reason, now_s)
        for upstream in self._stopped:
            self.breaker(upstream).hasten(now_s)

    def hasten_lane(self, lane: Lane) -> None:
        """Let one lane be tried at once, and its upstream with it: a person wants it."""
        now_s = self.monotonic_s()
        block = self._blocks.get(lane)
        if block is not None:
            self._blocks[lane] = Wait(block.reason, now_s)
        self.breaker(lane[1]).hasten(now_s)

    def reason(self, lane: Lane) -> str:
        """Say why an outbox is not empty, as far as is known here; "" when nothing is known."""
        for waits in (self._blocks, self._looks):
            if lane in waits:
                return waits[lane].reason
        upstream = lane[1]
        if upstream in self._stopped:
            return self._stopped[upstream]
        return "upstream does not answer" if self.breaker(upstream).failures else ""
