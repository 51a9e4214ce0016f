"""How moments are written: ISO-8601 in UTC with milliseconds and `Z`. Source: SEMANTICS 8."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=8192)  # a line's expiry is written with every grant
def iso(at_ms: int) -> str:
    """Write a moment, in ms since the epoch, as `2026-11-22T10:00:00.000Z`."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
