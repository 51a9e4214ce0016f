"""One request to a foreign server and its answer: bounded in time, in bytes and in tries.

Decided here: how long an answer may take and be, that only a 429, which says that nothing was
done, is asked again, and that nobody's cookie, proxy or .netrc takes part: each request has the
credentials it names and no others. Not decided here: what is asked (site.py).
Source: protocols/cmapi.md 5.5.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import FrameType
from typing import Any, Final, NamedTuple

import httpx
import msgspec

from gateway.cli.conformity.checks import Differs

TIMEOUT_S: Final = 10.0  # of one try, from the first byte sent to the last one read
ANSWER_BYTES_MAX: Final = 8 * 2**20
TRIES_MAX: Final = 3
PAUSE_S_MAX: Final = 5  # of what a Retry-After asks for
_DIGITS_MAX: Final = 9  # of a Retry-After that are read
# What a reader trips over when an answer is of a shape that it did not look for.
MISSHAPEN: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class NoAnswer(Exception):
    """The server gave no answer, or one that does not end; what was asked may have been done."""


class Busy(NoAnswer):
    """The server answered every try with 429: nothing was done."""


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
    """Sends requests over one client, one after another, from the main thread."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes = b""
    ) -> Reply:
        """Send until the answer is not 429, TRIES_MAX times at most. Raises NoAnswer, and Busy
        when even the last one is.
        """
        named = {**headers, "Accept-Encoding": "identity"}
        for tries_left in reversed(range(TRIES_MAX)):
            with _within(TIMEOUT_S):
                reply = self._sent(method, url, named, content)
            if reply.status != 429:
                return reply
            if tries_left:
                asked = reply.headers.get("retry-after", "")
                pause_s = int(asked[:_DIGITS_MAX]) if asked.isdecimal() else 1
                time.sleep(min(pause_s, PAUSE_S_MAX))
        raise Busy(f"no answer: HTTP 429, {TRIES_MAX} times")

    def _sent(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Reply:
        parts: list[bytes] = []
        size = 0
        try:
            with self._client.stream(method, url, headers=headers, content=content) as response:
                coding = response.headers.get("content-encoding", "identity")
                if coding != "identity":
                    # Not unpacked: nobody asked for it, and a little of it can be very much.
                    raise NoAnswer(f"no answer: one with Content-Encoding {coding}")
                for part in response.iter_raw():
                    parts.append(part)
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        raise NoAnswer(f"no answer: one over {ANSWER_BYTES_MAX} bytes")
                return Reply(response.status_code, response.headers, b"".join(parts))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise NoAnswer(f"no answer: {why}") from None


def new_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """Make a client that follows nothing, keeps nothing and takes nothing from its surroundings."""
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return httpx.Client(
        transport=transport,
        timeout=TIMEOUT_S,
        follow_redirects=False,
        trust_env=False,
        cookies=no_cookies,
    )


@contextmanager
def _within(limit_s: float) -> Iterator[None]:
    """End the block with NoAnswer when it takes longer.

    A timeout of the client is of each read, which headers that come byte by byte, or one 103 after
    another, never exceed; an alarm ends all of it, wherever it is.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise NoAnswer(f"no answer: none that ended within {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
