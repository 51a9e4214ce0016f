"""Names for requests: 22 characters of base64url that are given once, in this process or another.

Decided here: 96 random bits and a count, because fresh randomness for every request is a system
call for every request. An id is a name and no secret: who sees one can tell the next. It must never
come twice, since the store remembers under it what brought no id of its own.
"""

from __future__ import annotations

import secrets
from typing import Final

PREFIX_BYTES: Final = 12  # 16 characters
COUNT_MAX: Final = 1 << 24  # ids under one prefix: 6 hexadecimal digits


class RequestIds:
    """A source of ids. No two sources have the same prefix, but for a chance of 2**-96."""

    def __init__(self) -> None:
        self._prefix, self._count = "", COUNT_MAX

    def next(self) -> str:
        """Give an id that was not given before."""
        if self._count == COUNT_MAX:
            self._prefix, self._count = secrets.token_urlsafe(PREFIX_BYTES), 0
        count, self._count = self._count, self._count + 1
        return f"{self._prefix}{count:06x}"
