"""The one HTTP client: bytes under an id to a configured address, an answer or why there is none.

Decided here: time-outs, bounds, how few connections, and what a failure below HTTP means. Not
decided here: what an answer means (cmapi.py) and whether to send again (delivery.py). Addresses
come from the configuration only; redirects are never followed; environment proxies and netrc are
not looked at. Source: DESIGN 5, RELIABILITY 3 (8), protocols/cmapi.md 7.2 and 9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey
from gateway.core.ports import Answer, Verdict
from gateway.core.tokens import mint_token
from gateway.core.usage import Batch
from gateway.upstream.cmapi import CmapiUpstream, judge

ANSWER_BYTES_MAX: Final = 65_536
CONNECT_TIMEOUT_S: Final = 5.0
# A hosted tenant has 60 connections for everybody; we are one of many.
CONNECTIONS_MAX: Final = 8
# An idle connection that the server closes just as we write makes an unknown outcome: short-lived.
IDLE_S_MAX: Final = 4.0
TOKEN_TTL_S: Final = 3_600
TOKEN_SPARE_S: Final = 300  # a token is minted anew so long before it lapses
SUBJECT: Final = "cmapi-gateway"

# Nothing of a request was sent when one of these is raised.
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer, read whole; header names in lower case. A body over the bound is empty."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def open_http() -> httpx.AsyncClient:
    """Make the client that all upstreams of a process share; the caller closes it."""
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        timeout=CONNECT_TIMEOUT_S,  # of nothing we do: each post has a deadline of its own
        limits=httpx.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S_MAX,
        ),
    )


async def post(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> Reply | Verdict:
    """Post once and read the answer, or give the verdict when there is none.

    NOT_APPLIED when no connection came about, UNKNOWN when one did; `timeout_s` bounds it all.
    """
    timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream("POST", url, headers=headers, content=body, timeout=timeout) as answer,
        ):
            return Reply(
                answer.status_code,
                {name.lower(): value for name, value in answer.headers.items()},
                await _read(answer),
            )
    except _UNSENT as error:
        return Verdict(Answer.NOT_APPLIED, type(error).__name__)
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:  # TimeoutError is an OSError
        return Verdict(Answer.UNKNOWN, type(error).__name__)


async def _read(answer: httpx.Response) -> bytes:
    """Read a body up to the bound. Raw, because a small compressed one may be a large plain one."""
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            return b""  # reads as no answer of ours; the status still speaks for itself
    return bytes(body)


@dataclass
class CmapiSender:
    """Sends batches to one CMAPI upstream, with capability tokens minted by `private`.

    `now_s` is the clock of the tokens' claims, Unix time. Raises InvalidInput for a key that is no
    RSA key and an address that is none.
    """

    upstream: CmapiUpstream
    private: PrivateKey = field(repr=False)
    client: httpx.AsyncClient = field(repr=False)
    now_s: Callable[[], float] = time.time
    _token: str = field(default="", repr=False)
    _token_until_s: float = 0.0

    def __post_init__(self) -> None:
        url = httpx.URL(self.upstream.url)
        if url.scheme not in ("http", "https") or not url.host:
            raise InvalidInput(f"upstream {self.upstream.name}: url is not an http(s) address")
        self._mint()

    async def send(self, batch: Batch) -> Verdict:
        """Post the batch once, twice only when the first token was not taken."""
        verdict = Verdict(Answer.UNKNOWN)
        for attempt in range(2):
            if attempt or self.now_s() >= self._token_until_s - TOKEN_SPARE_S:
                self._mint()
            reply = await post(
                self.client,
                self.upstream.endpoint,
                self._headers(batch),
                batch.body,
                self.upstream.timeout_s,
            )
            if isinstance(reply, Verdict):
                return reply
            verdict = judge(reply.status, reply.headers, reply.body)
            if reply.status != 401:
                break
        return verdict

    def _headers(self, batch: Batch) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {self._token}",
            "Idempotency-Key": batch.id,
            "User-Agent": SUBJECT,
        }

    def _mint(self) -> None:
        now_s = self.now_s()
        self._token = mint_token(
            self.private,
            sub=SUBJECT,
            now_s=now_s,
            ttl_s=TOKEN_TTL_S,
            kid=self.upstream.kid or None,
        )
        self._token_until_s = now_s + TOKEN_TTL_S
