"""One request to a foreign server and its answer: bounded in time, in bytes and in tries.

Decided here: how long an answer may take and be, and that only a 429, which says that nothing was
done, is asked again. Not decided here: what is asked (site.py). Source: protocols/cmapi.md 5.5.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from gateway.cli.conformity.checks import Differs

TIMEOUT_S: Final = 10.0  # of each step of a request, and of reading an answer in all
ANSWER_BYTES_MAX: Final = 8 * 2**20
TRIES_MAX: Final = 3
PAUSE_S_MAX: Final = 5  # of what a Retry-After asks for


class NoAnswer(Exception):
    """The server gave no answer, or one that does not end; what was asked may have been done."""


class Reply(NamedTuple):
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]  # by name in any case
    content: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """Read the body. Raises Differs when it is not JSON."""
        try:
            return msgspec.json.decode(self.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Differs("a body of JSON", self.words) from None

    @property
    def words(self) -> str:
        """Say in short what was answered."""
        return f"HTTP {self.status}, {self.content[:200].decode(errors='replace') or 'no body'}"


class Wire:
    """Sends requests over one client, one after another."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> Reply:
        """Send until the answer is not 429, TRIES_MAX times at most. Raises NoAnswer."""
        for _ in range(TRIES_MAX - 1):
            reply = self._sent(method, url, headers, content)
            if reply.status != 429:
                return reply
            asked = reply.headers.get("retry-after", "")
            time.sleep(min(int(asked) if asked.isdecimal() else 1, PAUSE_S_MAX))
        return self._sent(method, url, headers, content)

    def _sent(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Reply:
        until_s = time.monotonic() + TIMEOUT_S
        parts: list[bytes] = []
        size = 0
        try:
            with self._client.stream(method, url, headers=headers, content=content) as response:
                for part in response.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_BYTES_MAX or time.monotonic() > until_s:
                        raise NoAnswer(f"an answer over {ANSWER_BYTES_MAX} bytes or {TIMEOUT_S} s")
                return Reply(response.status_code, response.headers, b"".join(parts))
        except httpx.HTTPError as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise NoAnswer(f"no answer: {why}") from None
