"""Calls to the LicenseSpring cloud: paced, signed, answered, verified.

Decided here: how many calls a second go, which Date signs one, that the cloud's own clock is read
from its answers, and that a signature which does not fit makes an answer none. Not decided here:
what is asked when (licensespring_cloud.py, licensespring_sync.py), what an answer means
(licensespring_answers.py). Source: protocols/licensespring.md 2.2, 3.1, 3.2 and 3.4.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.core.errors import InvalidInput
from gateway.core.keys import KEY_BYTES_MAX, load_public
from gateway.core.ports import Answer, Verdict
from gateway.upstream.licensespring import Identity, LicensespringUpstream
from gateway.upstream.licensespring_answers import (
    DEVICE_NOT_FOUND,
    Licence,
    judge_refusal,
    problem_of,
    read_licence,
)
from gateway.upstream.licensespring_signing import (
    authorization,
    http_date,
    is_signed,
    read_http_date,
)
from gateway.upstream.sender import SUBJECT, Reply, check_address, post, read_word_file

# 200 in 10 s are allowed from one address, to all that run there.
CALLS_PER_S_MAX: Final = 10
NOT_SIGNED: Final = "the answer's signature does not fit the configured key"
UNDATED: Final = "HTTP 200 without a Date"
UNREADABLE: Final = "HTTP 200 that is no answer to the call"


class Looked(msgspec.Struct, frozen=True):
    """A licence as the cloud told it, when by its clock, in ms."""

    licence: Licence
    at_ms: int


@dataclass
class Calls:
    """The way to the cloud. `now_ms` is Unix time; the cloud's own takes its place once known.

    Raises InvalidInput for an address that is none.
    """

    upstream: LicensespringUpstream
    client: httpx.AsyncClient = field(repr=False)
    api_key: str = field(repr=False)
    shared_key: str = field(repr=False)
    verify_key: RSAPublicKey | None = None
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    monotonic_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    _ahead_ms: int = 0  # the cloud's clock, less ours
    _next_s: float = 0.0  # when the next call may go

    def __post_init__(self) -> None:
        check_address(self.upstream.name, self.upstream.url)

    def clock_ms(self) -> int:
        """Give the cloud's time, as far as it is known."""
        return self.now_ms() + self._ahead_ms

    async def look(self, who: Identity) -> Looked | Verdict:
        """Ask for a licence as it is now; the gateway's hardware id is activated if it was not.

        The verdict is about the question: nothing was added, whatever it says.
        """
        reply = await self._check(who)
        if isinstance(reply, Reply) and says(reply, DEVICE_NOT_FOUND):
            refused = await self.activate(who)
            if refused is not None:
                return refused
            reply = await self._check(who)
        if isinstance(reply, Verdict):
            return reply
        if reply.status != 200:
            return judge_refusal(reply.status, reply.headers, reply.body)
        if not self.is_ours(reply):
            return Verdict(Answer.UNKNOWN, NOT_SIGNED)
        licence = read_licence(reply.body)
        # By its own clock, or it could not be said for how long a call signed for then is good.
        at_ms = read_http_date(reply.headers.get("date", ""))
        if licence is None or at_ms is None:
            return Verdict(Answer.UNKNOWN, UNREADABLE if licence is None else UNDATED)
        return Looked(licence, at_ms)

    async def activate(self, who: Identity) -> Verdict | None:
        """Activate the licence for the gateway's hardware id, which consumes nothing; None: done.

        A repeat does no harm.
        """
        body = msgspec.json.encode(who.members)
        reply = await self.call("activate_license", body, self.clock_ms())
        if isinstance(reply, Verdict):
            return reply
        if reply.status == 200:
            return None
        verdict = judge_refusal(reply.status, reply.headers, reply.body)
        # What keeps a licence from being activated is not about the units: they wait.
        if verdict.answer is Answer.INVALID:
            return msgspec.structs.replace(verdict, answer=Answer.REFUSED)
        return verdict

    async def call(self, name: str, body: bytes, date_ms: int) -> Reply | Verdict:
        """Post a call once, signed for a moment by the cloud's clock."""
        return await self._ask("POST", self.upstream.address(name), body, date_ms)

    def is_ours(self, reply: Reply) -> bool:
        """Say whether a 200 bears the cloud's signature, where a key says how to know."""
        if self.verify_key is None:
            return True
        signature = reply.headers.get("licensesignature", "")
        return is_signed(reply.body, signature, self.verify_key)

    async def _check(self, who: Identity) -> Reply | Verdict:
        query = {**who.members, "include_expired_features": "true"}
        address = self.upstream.address("check_license", query)
        reply = await self._ask("GET", address, b"", self.clock_ms())
        if isinstance(reply, Reply) and says(reply, "date_header_diff"):
            # Its clock is known by now, from this very answer.
            reply = await self._ask("GET", address, b"", self.clock_ms())
        return reply

    async def _ask(self, method: str, address: str, body: bytes, date_ms: int) -> Reply | Verdict:
        await self._pace()
        reply = await post(
            self.client, address, self._headers(date_ms), body, self.upstream.timeout_s, method
        )
        if isinstance(reply, Reply):
            told_ms = read_http_date(reply.headers.get("date", ""))
            if told_ms is not None:
                self._ahead_ms = told_ms - self.now_ms()
        return reply

    async def _pace(self) -> None:
        now_s = self.monotonic_s()
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + 1 / CALLS_PER_S_MAX
        if at_s > now_s:
            await self.sleep(at_s - now_s)

    def _headers(self, date_ms: int) -> Mapping[str, str]:
        date = http_date(date_ms)
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",  # an old total would decide wrongly
            "User-Agent": SUBJECT,
            "Date": date,
            "Authorization": authorization(self.api_key, self.shared_key, date),
        }


def read_secret_file(path: Path) -> str:
    """Read an API key or a shared key from a file, without the white space around it.

    Raises InvalidInput with a sentence that holds nothing of the content.
    """
    return read_word_file(path, "key")


def read_verify_key(path: Path) -> RSAPublicKey:
    """Read the key that the cloud's answers are verified with: an RSA public key as PEM.

    Raises InvalidInput for a file that cannot be read or holds something else.
    """
    try:
        with path.open("rb") as file:
            key = load_public(file.read(KEY_BYTES_MAX + 1))
    except OSError as error:
        raise InvalidInput(f"the key {path} cannot be read: {error.strerror}") from error
    except InvalidInput as error:
        raise InvalidInput(f"the key {path}: {error.message}") from error
    if not isinstance(key, RSAPublicKey):
        raise InvalidInput(f"the key {path} is no RSA key")
    return key


def says(reply: Reply, code: str) -> bool:
    """Say whether an answer is an error with this code."""
    return reply.status >= 400 and problem_of(reply.body)[0] == code
