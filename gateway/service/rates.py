"""How many requests a client key may make in a second: `limits.requests_per_key_per_s`.

Decided here: that only what was authenticated counts, so that nobody without the key can use up its
rate; that a key may spend a second's worth at once; that a batch costs its lines and may be paid
off afterwards. Counted in this process alone, without the store: N workers or replicas let N times
as much through. Not decided here: who authenticates (credentials.py). Source: INTERFACE 2.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.core.errors import TooManyRequests

KEYS_MAX: Final = 50_000  # whose spending is remembered; the least lately seen is forgotten first
BURST_S: Final = 1.0  # of its rate that a key may spend at once


class TooFast(TooManyRequests):
    """A key is over its rate; nothing of the request was read, and nothing applied."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("This key makes more requests than it may", retry_after_s)
        self.arguments = ("not_applied",)


class KeyRates:
    """What keys have spent lately. `per_s` is requests in a second, 0: as many as they like.

    `clock_s` is monotonic.
    """

    __slots__ = ("_clock_s", "_full_at_s", "_per_s")

    def __init__(self, per_s: int = 0, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock_s = clock_s
        # A bucket of tokens, told by the one moment at which it is full again if nothing is spent:
        # what was full by now is as good as forgotten.
        self._full_at_s: OrderedDict[tuple[str, str], float] = OrderedDict()

    def spend(self, instance: str, kid: str, requests: int = 1) -> None:
        """Spend on `requests` at once of a key of an instance; all of them are let in or none.

        What costs more than a key can ever have at once needs a full bucket, and leaves a debt.
        Raises TooFast, and nothing is spent: a retry after the seconds it names helps.
        """
        if not self._per_s:
            return
        now_s = self._clock_s()
        key = (instance, kid)
        full_at_s = max(now_s, self._full_at_s.get(key, now_s))
        cost_s = requests / self._per_s
        wait_s = full_at_s - now_s + min(cost_s, BURST_S) - BURST_S
        # Sums of fractions: what is due to the last bit of a second shall not be refused for it.
        if wait_s > 1e-6:
            raise TooFast(math.ceil(wait_s))
        self._full_at_s[key] = full_at_s + cost_s
        self._full_at_s.move_to_end(key)
        if len(self._full_at_s) > KEYS_MAX:
            self._full_at_s.popitem(last=False)
