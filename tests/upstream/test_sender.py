"""The HTTP client over real sockets: what a failure means, what is bounded, which token goes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from gateway.core.errors import InvalidInput
from gateway.core.keyring import KeyRing
from gateway.core.keys import generate, public_der
from gateway.core.model import Key
from gateway.core.ports import Answer, Verdict
from gateway.core.tokens import verify_token
from gateway.core.usage import Batch
from gateway.upstream.cloudevents import CloudeventsUpstream
from gateway.upstream.cmapi import CmapiUpstream
from gateway.upstream.sender import (
    TOKEN_BYTES_MAX,
    TOKEN_SPARE_S,
    TOKEN_TTL_S,
    CmapiSender,
    EventsSender,
    open_http,
    read_token_file,
)
from tests.upstream.parent import Parent, open_parent
from tests.upstream.works import PRIVATE
from tests.vectors.patience import PATIENT_S

HALF = b"HTTP/1.1 202 X\r\nContent-Length: 9\r\n\r\nhalf"
BATCH = Batch("b1", "parent", "DEMO", (), b'{"features":[]}')


@dataclass
class Now:
    """Unix time, set by hand."""

    s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.s


def with_parent(
    story: Callable[[Parent, CmapiSender, Now], Awaitable[None]], *, timeout_s: float = PATIENT_S
) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), open_parent() as parent, open_http() as client:
            now = Now()
            config = configured(parent.url, timeout_s)
            await story(parent, CmapiSender(config, PRIVATE, client, now_s=now), now)

    asyncio.run(run())


def configured(url: str, timeout_s: float = PATIENT_S) -> CmapiUpstream:
    return CmapiUpstream(
        name="parent",
        url=url,
        kid="k1",
        dedupe_horizon_ms=0,
        interval_s=60,
        timeout_s=timeout_s,
    )


def test_a_batch_goes_as_it_is_under_its_id_with_a_capability_token() -> None:
    async def story(parent: Parent, sender: CmapiSender, now: Now) -> None:
        assert await sender.send(BATCH) == Verdict(Answer.GRANTED)
        assert parent.posts == [("b1", b'{"features":[]}')]
        assert parent.paths == ["/api/1.0/instances/PARENT/access_request"]
        ring = KeyRing([Key("k1", "RS256", public_der(PRIVATE.public_key()))])
        token = verify_token(parent.tokens[0], ring, now_s=now.s)
        assert token is not None
        assert token.capable
        assert token.exp_s == now.s + TOKEN_TTL_S

    with_parent(story)


def test_a_token_is_kept_until_shortly_before_it_lapses() -> None:
    async def story(parent: Parent, sender: CmapiSender, now: Now) -> None:
        await sender.send(BATCH)
        now.s += TOKEN_TTL_S - TOKEN_SPARE_S - 1
        await sender.send(BATCH)
        assert len(set(parent.tokens)) == 1
        now.s += 1
        await sender.send(BATCH)
        assert len(set(parent.tokens)) == 2

    with_parent(story)


@pytest.mark.parametrize(
    ("faults", "answer"), [(["401"], Answer.GRANTED), (["401", "401"], Answer.STOPPED)]
)
def test_a_token_that_is_not_taken_is_minted_once_more(faults: list[str], answer: Answer) -> None:
    async def story(parent: Parent, sender: CmapiSender, now: Now) -> None:
        await sender.send(BATCH)
        now.s += 1
        parent.faults = faults
        verdict = await sender.send(BATCH)
        assert verdict.answer is answer
        assert len(parent.posts) == 3
        assert len(set(parent.tokens)) == 2

    with_parent(story)


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("close", Answer.UNKNOWN),
        ("hang", Answer.UNKNOWN),
        ("drop applied", Answer.UNKNOWN),
        ("half applied", Answer.UNKNOWN),
        ("huge applied", Answer.UNKNOWN),
        ("302", Answer.STOPPED),
    ],
)
def test_a_broken_answer_is_judged_by_what_may_have_happened(fault: str, answer: Answer) -> None:
    async def story(parent: Parent, sender: CmapiSender, now: Now) -> None:
        parent.faults = [fault]
        verdict = await sender.send(BATCH)
        assert verdict.answer is answer
        assert len(parent.paths) <= 1  # no redirect was followed, nothing sent again

    with_parent(story, timeout_s=1.0 if fault == "hang" else PATIENT_S)


def test_nobody_there_is_not_applied_for_sure() -> None:
    async def run() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
            async with open_http() as client:
                verdict = await CmapiSender(configured(url), PRIVATE, client).send(BATCH)
        assert verdict == Verdict(Answer.NOT_APPLIED, "ConnectError")

    asyncio.run(run())


def test_the_environment_does_not_choose_where_usage_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def story(parent: Parent, sender: CmapiSender, now: Now) -> None:
        assert (await sender.send(BATCH)).answer is Answer.GRANTED

    with_parent(story)


@pytest.mark.parametrize("url", ["", "host", "file:///etc/passwd", "ftp://h/x", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput, match="parent"):
        CmapiSender(configured(url), PRIVATE, httpx.AsyncClient())


def test_a_key_that_mints_no_capability_token_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="RSA"):
        CmapiSender(configured("http://h"), generate("EdDSA"), httpx.AsyncClient())


def test_what_is_secret_is_not_in_a_repr() -> None:
    sender = CmapiSender(configured("http://h"), PRIVATE, httpx.AsyncClient())
    assert sender._token not in repr(sender)
    assert "private" not in repr(sender)


@dataclass
class Collector:
    """Keeps what is posted to it, heads whole, and answers as it is told."""

    answer: bytes = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *rest = head.strip().split("\r\n")
                headers = {name.lower(): text for name, text in (one.split(": ") for one in rest)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.posts.append((first, headers, body))
                writer.write(self.answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_collector() -> AsyncIterator[Collector]:
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    collector.url = f"http://127.0.0.1:{port}/events"
    async with server:
        yield collector


def with_collector(
    story: Callable[[Collector, EventsSender], Awaitable[None]],
    read_token: Callable[[], str] | None = None,
    *,
    timeout_s: float = PATIENT_S,
) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), open_collector() as collector, open_http() as client:
            await story(
                collector, EventsSender(metering(collector.url, timeout_s), client, read_token)
            )
            await client.aclose()  # before the server: its connections end with the client's

    asyncio.run(run())


def metering(url: str, timeout_s: float = PATIENT_S) -> CloudeventsUpstream:
    return CloudeventsUpstream(
        name="meter", url=url, dedupe_horizon_ms=0, interval_s=60, timeout_s=timeout_s
    )


def test_events_go_as_they_are_under_their_id_with_the_token() -> None:
    async def story(collector: Collector, sender: EventsSender) -> None:
        assert await sender.send(BATCH) == Verdict(Answer.GRANTED)
        [(first, headers, body)] = collector.posts
        assert (first, body) == ("POST /events HTTP/1.1", BATCH.body)
        assert headers["content-type"] == "application/cloudevents-batch+json"
        assert headers["idempotency-key"] == "b1"
        assert headers["authorization"] == "Bearer T-1"

    with_collector(story, lambda: "T-1")


def test_without_token_file_no_authorization_goes() -> None:
    async def story(collector: Collector, sender: EventsSender) -> None:
        assert (await sender.send(BATCH)).answer is Answer.GRANTED
        assert "authorization" not in collector.posts[0][1]

    with_collector(story)


def test_a_token_that_was_replaced_goes_with_the_next_send(tmp_path: Path) -> None:
    path = tmp_path / "token"

    async def story(collector: Collector, sender: EventsSender) -> None:
        for content in ("old", "  new\n"):
            path.write_text(content)
            await sender.send(BATCH)
        told = [headers["authorization"] for _, headers, _ in collector.posts]
        assert told == ["Bearer old", "Bearer new"]

    with_collector(story, partial(read_token_file, path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is not one token"),
        (b" \n", "is not one token"),
        (b"hidden\r\nX-Evil: 1", "is not one token"),
        (b"two hidden", "is not one token"),
        ("hiddén".encode(), "is not one token"),
        (b"hidden" + b"x" * TOKEN_BYTES_MAX, "is not one token"),
        (b"hidden" + b"\n" * TOKEN_BYTES_MAX, "is not one token"),
    ],
)
def test_without_a_token_that_could_go_nothing_goes_and_nothing_of_it_is_told(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    async def story(collector: Collector, sender: EventsSender) -> None:
        verdict = await sender.send(BATCH)
        assert verdict.answer is Answer.STOPPED
        assert why in verdict.why
        assert "hidd" not in verdict.why
        assert collector.posts == []

    with_collector(story, partial(read_token_file, path))


def test_a_token_file_that_does_not_answer_holds_up_nothing_but_its_own_send() -> None:
    hung = threading.Event()

    def read_token() -> str:
        hung.wait(60)
        return "late"

    async def story(collector: Collector, sender: EventsSender) -> None:
        try:
            verdict = await sender.send(BATCH)
        finally:
            hung.set()
        assert verdict == Verdict(Answer.STOPPED, "the token file does not answer")
        assert collector.posts == []

    with_collector(story, read_token, timeout_s=0.1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", Answer.NOT_APPLIED),
        (b"HTTP/1.1 302 X\r\nLocation: /events\r\nContent-Length: 0\r\n\r\n", Answer.STOPPED),
        (b"HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n", Answer.STOPPED),
        (b"HTTP/1.1 413 X\r\nContent-Length: 0\r\n\r\n", Answer.INVALID),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", Answer.UNKNOWN),
        (HALF, Answer.UNKNOWN),
        (b"", Answer.UNKNOWN),
    ],
)
def test_a_collector_s_answer_is_judged_after_one_post(answer: bytes, expected: Answer) -> None:
    async def story(collector: Collector, sender: EventsSender) -> None:
        collector.answer = answer
        assert (await sender.send(BATCH)).answer is expected
        assert len(collector.posts) == 1  # no redirect was followed, nothing sent again

    waited_for = answer not in (HALF, b"")  # the rest of these never comes
    with_collector(story, lambda: "T-1", timeout_s=PATIENT_S if waited_for else 1.0)


@pytest.mark.parametrize("url", ["", "host", "file:///etc/passwd", "http://"])
def test_a_collector_s_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidInput, match="meter"):
        EventsSender(metering(url), httpx.AsyncClient())
