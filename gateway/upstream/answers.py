"""What an HTTP answer means whatever the kind of upstream: all but its success. Pure.

Decided here: which failures leave a batch unapplied for sure, which leave it in doubt, which stop
the lane, how long a server may ask us to wait, and up to when an id may be used again. Not decided
here: what a success looks like (cmapi.py, cloudevents.py) and what is then done (delivery.py).
Source: DESIGN 5 (the table of answers), protocols/cmapi.md 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from gateway.core.ports import Answer, Verdict

RETRY_AFTER_S_MAX: Final = 3_600  # a hostile or mistaken header must not silence us for days
WHY_CHARS_MAX: Final = 200
# The content is not taken; half of it may be.
INVALID: Final = frozenset({400, 413, 422})
# A server that gave up on reading, or that works on the same already: what became of it is open.
UNSETTLED: Final = frozenset({408, 409, 425})
# Past this before the upstream forgets an id, it is not used any more: the clocks are not one.
HORIZON_MARGIN_MS: Final = 60_000

_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Problem(msgspec.Struct):
    key: str = ""
    arguments: list[Any] | None = None


_problem: Final = msgspec.json.Decoder(_Problem).decode


def horizon_ms(dedupe_horizon_ms: int, send_s_max: float) -> int:
    """Say for how long after its first attempt a batch may be sent again under its id.

    `dedupe_horizon_ms` is how long the upstream remembers ids, `send_s_max` how long one send may
    take. 0: it is never sent again while an attempt is in doubt.
    """
    return max(0, dedupe_horizon_ms - int(send_s_max * 1000) - HORIZON_MARGIN_MS)


def judge_failure(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Say what an answer means that is no success; header names are lower case. Never raises.

    A 1xx or 2xx that comes here is one that the kind cannot read as a success: UNKNOWN.
    """
    why = f"HTTP {status}"
    if status == 429 or (status == 503 and _says_not_applied(body)):
        return Verdict(Answer.NOT_APPLIED, why, retry_after_s=_retry_after_s(headers))
    if status in INVALID:
        return Verdict(Answer.INVALID, f"{why} {_key(body)}".rstrip())
    if 300 <= status < 500 and status not in UNSETTLED:
        return Verdict(Answer.STOPPED, f"{why} {_key(body)}".rstrip())
    return Verdict(Answer.UNKNOWN, why, retry_after_s=_retry_after_s(headers))


def _says_not_applied(body: bytes) -> bool:
    """Say whether it is a gateway of ours that did not apply the request (SEMANTICS 10)."""
    problem = _read_problem(body)
    return problem.key == "gateway.unavailable" and (problem.arguments or [])[:1] == ["not_applied"]


def _key(body: bytes) -> str:
    """Give the error's key where it is a plain word; nothing else of a body goes into a log."""
    key = _read_problem(body).key
    return key if _PLAIN.fullmatch(key) else ""


def _read_problem(body: bytes) -> _Problem:
    try:
        return _problem(body)
    except (ValueError, RecursionError):
        return _Problem()


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Read Retry-After in seconds, or as a date against the answer's own Date; None: no sense."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(int(text), RETRY_AFTER_S_MAX)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0, int(wait.total_seconds())), RETRY_AFTER_S_MAX)
