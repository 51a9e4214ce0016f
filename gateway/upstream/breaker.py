"""The breaker of one upstream: how long to leave it alone after it did not answer well.

Decided here: full jitter (a random part of a span that doubles), that a server's Retry-After is a
lower bound, and that after a pause one send goes ahead alone. Clock and random are arguments.
Source: DESIGN 5; the jitter is the one Marc Brooker described for clients of a shared service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.5  # the first span; doubles with each failure in a row
PAUSE_S_MAX: Final = 60.0
PROBE_S_MAX: Final = 60.0  # a probe that never reports gives way to the next after this


class Breaker:
    """State of one upstream: closed while it answers, else open until `ready_s`."""

    __slots__ = ("_probing", "_random", "failures", "ready_s")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random  # uniform in [0, 1)
        self.failures = 0  # in a row
        self.ready_s = 0.0
        self._probing = False

    def admit(self, now_s: float) -> bool:
        """Say whether a send may go now; when open and ready, only to the first who asks."""
        if not self.failures:
            return True
        if now_s < self.ready_s:
            return False
        self.ready_s = now_s + PROBE_S_MAX
        self._probing = True
        return True

    def give_back(self, now_s: float) -> None:
        """Let the next one go in the place of a send that was admitted and did not happen."""
        if self._probing:
            self._probing = False
            self.hasten(now_s)

    def hasten(self, now_s: float) -> None:
        """End the pause: a person, or a restart, wants it tried."""
        self.ready_s = min(self.ready_s, now_s)

    def wait_s(self, now_s: float) -> float:
        """Give how long it is until a send may be admitted; 0 when it may be now."""
        return max(0.0, self.ready_s - now_s) if self.failures else 0.0

    def succeed(self) -> bool:
        """Close; say whether it was open."""
        was_open = self.failures > 0
        self.failures = 0
        self._probing = False
        return was_open

    def fail(self, now_s: float, at_least_s: float = 0.0) -> bool:
        """Open for a while, at least `at_least_s`; say whether it was closed.

        Sends that were under way together and fail together count as one failure.
        """
        if self.failures and not self._probing:
            self.ready_s = max(self.ready_s, now_s + at_least_s)
            return False
        span_s = min(PAUSE_S_MAX, PAUSE_S * 2 ** min(self.failures, 16))
        self.failures += 1
        self._probing = False
        self.ready_s = now_s + max(self._random() * span_s, at_least_s)
        return self.failures == 1
