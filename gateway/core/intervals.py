"""How long a grant is held and when a client should renew it.

Decided here: how intervals are spelled, that the lowest wins, the moment of a lapse, the advice to
renew. Not decided here: the clock (`now_ms` is the store's transaction time), what a lapse does
(ledger.py), which intervals a file may declare (catalogue.py). Source: SEMANTICS 2 and 5.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.core.model import INTERVAL_DAYS_MAX, Catalogue, Line, Model

SERVER_RENEW_PERCENT: Final = 15  # of the instance's default interval
INTERVAL_S_MAX: Final = INTERVAL_DAYS_MAX * 86_400

_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPELLING: Final = re.compile(r"([0-9]+)([smhdw]?)")  # not \d: it takes digits of every script


def parse_interval_s(text: str) -> int | None:
    """Read a `borrow-interval`: digits and at most one letter of smhdw, no letter being seconds.

    Returns seconds, 0 to INTERVAL_S_MAX, or None when the text is malformed or says more.
    Source: SEMANTICS 2.
    """
    # fullmatch, since `$` would let a trailing newline pass.
    match = _SPELLING.fullmatch(text)
    if match is None:
        return None
    digits, unit = match[1].lstrip("0"), match[2]
    # Counted before they are read: int() raises on thousands of digits, and a body may bring them.
    if len(digits) > len(str(INTERVAL_S_MAX)):
        return None
    interval_s = int(digits or "0") * _UNIT_S[unit]
    return interval_s if interval_s <= INTERVAL_S_MAX else None


def parse_duration_ms(text: str) -> int | None:
    """Read a duration of a configuration or provisioning file, spelled like a `borrow-interval`.

    Returns milliseconds, or None when it is malformed or over INTERVAL_S_MAX. Knows no months.
    """
    duration_s = parse_interval_s(text)
    return None if duration_s is None else duration_s * 1_000


def spell_duration(span_ms: int) -> str:
    """Write a span, in whole seconds, with the largest unit that divides it: `1w`, `90m`, `0s`.
    Pure.
    """
    for unit, unit_s in reversed(_UNIT_S.items()):
        if span_ms and span_ms % (1000 * unit_s) == 0:
            return f"{span_ms // (1000 * unit_s)}{unit}"
    return f"{span_ms // 1000}s"


def effective_interval_ms(line: Line, catalogue: Catalogue, asked_s: int) -> int | None:
    """Say how long a grant of this line is held, or None when no interval ends it.

    The lowest of the line's interval (the instance's default where it has none), the request's and
    the instance's maximum wins. An `asked_s` of 0 is no preference; a metered reusable grant then
    lapses at the line's expiry only. Metered grants are not held at all: None. Neither rounded nor
    cut at the expiry, which `lapse_at_ms` does. Source: SEMANTICS 5.
    """
    if line.model is Model.METERED or (line.model is Model.METERED_REUSABLE and asked_s == 0):
        return None
    own_ms = catalogue.borrow_ms if line.borrow_ms is None else line.borrow_ms
    lowest_ms = min(own_ms, catalogue.borrow_max_ms)
    return min(lowest_ms, asked_s * 1_000) if asked_s > 0 else lowest_ms


def lapse_at_ms(now_ms: int, interval_ms: int | None, expires_ms: int | None) -> int | None:
    """Say when a grant made at `now_ms` lapses, or None when it never does.

    `now_ms + interval_ms` rounded up to a whole second of the clock, and never past `expires_ms`,
    which is not rounded. Without an interval only the expiry ends the grant. Source: SEMANTICS 5.
    """
    if interval_ms is None:
        return expires_ms
    lapses_ms = -(-(now_ms + interval_ms) // 1_000) * 1_000
    return lapses_ms if expires_ms is None else min(lapses_ms, expires_ms)


def renew_interval_s(line: Line, catalogue: Catalogue, asked_s: int) -> int:
    """Say after how many seconds a client should renew a grant of this line; 0 for metered ones.

    The line's `renew_percent` of the effective interval, rounded down. Taken before the cut at the
    line's expiry, so the advice stays the same while that draws near. Source: SEMANTICS 5.
    """
    interval_ms = effective_interval_ms(line, catalogue, asked_s)
    if interval_ms is None or line.model.metered:
        return 0
    return _percent_s(interval_ms, line.renew_percent)


def server_renew_interval_s(catalogue: Catalogue) -> int:
    """Say after how many seconds a client should ask this instance again.

    SERVER_RENEW_PERCENT of the instance's default interval, rounded down: 90720 for 1w.
    Source: SEMANTICS 5.
    """
    return _percent_s(catalogue.borrow_ms, SERVER_RENEW_PERCENT)


def _percent_s(span_ms: int, percent: int) -> int:
    # One division, at the end: dividing twice would round down twice.
    return span_ms * percent // (100 * 1_000)
