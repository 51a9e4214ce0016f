"""The one HTTP client: bytes under an id to a configured address, an answer or why there is none.

Decided here: time-outs, bounds, how few connections, which credential goes, and what a failure
below HTTP means. Not decided here: what an answer means (cmapi.py, cloudevents.py) and whether to
send again (delivery.py). Addresses come from the configuration only; redirects are never followed;
environment proxies and netrc are not looked at. Source: DESIGN 5, INTERFACE 4, RELIABILITY 3 (8),
protocols/cmapi.md 7.2 and 9.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

import httpx
import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.keys import PrivateKey
from gateway.core.ports import Answer, Verdict
from gateway.core.tokens import mint_token
from gateway.core.usage import Batch
from gateway.upstream import cloudevents, cmapi

ANSWER_BYTES_MAX: Final = 2**20  # a grant of 64 features with long texts has 100 KB
CONNECT_TIMEOUT_S: Final = 5.0
# A hosted tenant has 60 connections for everybody; we are one of many.
CONNECTIONS_MAX: Final = 8
# An idle connection that the server closes just as we write makes an unknown outcome: short-lived.
IDLE_S_MAX: Final = 4.0
TOKEN_TTL_S: Final = 3_600
TOKEN_SPARE_S: Final = 300  # a token is minted anew so long before it lapses
TOKEN_BYTES_MAX: Final = 16_384  # of a token file; servers take about half of that in a header
SUBJECT: Final = "cmapi-gateway"

# Anything else would end the header, or could not be written into one.
_TOKEN: Final = re.compile(rb"[\x21-\x7e]+")

# Nothing of a request was sent when one of these is raised.
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Reply(msgspec.Struct, frozen=True):
    """An HTTP answer, read whole; header names in lower case. A body over the bound is empty."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def open_http() -> httpx.AsyncClient:
    """Make the client of one upstream, so that none waits for another; the caller closes it."""
    return httpx.AsyncClient(
        verify=_trusted(),
        follow_redirects=False,
        trust_env=False,
        timeout=CONNECT_TIMEOUT_S,  # of nothing we do: each post has a deadline of its own
        limits=httpx.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_MAX,
            keepalive_expiry=IDLE_S_MAX,
        ),
    )


@cache
def _trusted() -> ssl.SSLContext:
    """Read whom to trust, once for all upstreams: it takes some 17 ms."""
    return httpx.create_ssl_context(trust_env=False)


async def post(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    timeout_s: float,
    method: str = "POST",
) -> Reply | Verdict:
    """Post once and read the answer, or give the verdict when there is none.

    NOT_APPLIED when no connection came about, UNKNOWN when one did; `timeout_s` bounds it all.
    """
    # Who finds no connection free has sent nothing, and must be told so before the deadline.
    first_s = min(CONNECT_TIMEOUT_S, timeout_s / 2)
    timeout = httpx.Timeout(timeout_s, connect=first_s, pool=first_s)
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream(method, url, headers=headers, content=body, timeout=timeout) as answer,
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

    upstream: cmapi.CmapiUpstream
    private: PrivateKey = field(repr=False)
    client: httpx.AsyncClient = field(repr=False)
    now_s: Callable[[], float] = time.time
    _token: str = field(default="", repr=False)
    _token_until_s: float = 0.0

    def __post_init__(self) -> None:
        check_address(self.upstream.name, self.upstream.url)
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
                _headers(batch, "application/json", self._token),
                batch.body,
                self.upstream.timeout_s,
            )
            if isinstance(reply, Verdict):
                return reply
            verdict = cmapi.judge(reply.status, reply.headers, reply.body)
            if reply.status != 401:
                break
        return verdict

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


@dataclass
class EventsSender:
    """Sends batches to one collector of CloudEvents.

    `read_token` gives the bearer token anew for each send, because tokens rotate, and raises
    InvalidInput where there is none that could be sent; None: no token goes along. It is called in
    a thread. Raises InvalidInput for an address that is none.
    """

    upstream: cloudevents.CloudeventsUpstream
    client: httpx.AsyncClient = field(repr=False)
    read_token: Callable[[], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_address(self.upstream.name, self.upstream.url)

    async def send(self, batch: Batch) -> Verdict:
        """Post the batch once; nothing is sent without the token that should go along."""
        try:
            token = await self._token()
        except TimeoutError:
            return Verdict(Answer.STOPPED, "the token file does not answer")
        except InvalidInput as error:
            return Verdict(Answer.STOPPED, str(error))
        reply = await post(
            self.client,
            self.upstream.url,
            _headers(batch, cloudevents.MEDIA_TYPE, token),
            batch.body,
            self.upstream.timeout_s,
        )
        if isinstance(reply, Verdict):
            return reply
        return cloudevents.judge(reply.status, reply.headers, reply.body)

    async def _token(self) -> str:
        if self.read_token is None:
            return ""
        # In a thread and bounded: a secret may lie on a volume that hangs, requests may not.
        async with asyncio.timeout(self.upstream.timeout_s):
            return await asyncio.to_thread(self.read_token)


def read_token_file(path: Path) -> str:
    """Read a bearer token from a file; see `read_word_file`."""
    return read_word_file(path, "token")


def read_word_file(path: Path, what: str) -> str:
    """Read a secret from a file, without the white space around it.

    Raises InvalidInput with a sentence that holds nothing of the content: for a file that cannot be
    read, that is over TOKEN_BYTES_MAX, or that is not one word of visible ASCII.
    """
    try:
        with path.open("rb") as file:
            content = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInput(f"the {what} file {path} cannot be read: {error.strerror}") from error
    word = content.strip()
    if len(content) > TOKEN_BYTES_MAX or not _TOKEN.fullmatch(word):
        raise InvalidInput(f"the {what} file {path} is not one {what} of visible ASCII")
    return word.decode("ascii")


def check_address(name: str, address: str) -> None:
    """Raise InvalidInput for an address that is none."""
    url = httpx.URL(address)
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f"upstream {name}: url is not an http(s) address")


def _headers(batch: Batch, media_type: str, token: str) -> dict[str, str]:
    headers = {
        "Content-Type": media_type,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Idempotency-Key": batch.id,
        "User-Agent": SUBJECT,
    }
    return headers | {"Authorization": f"Bearer {token}"} if token else headers
