"""The HTTP client over real sockets: what a failure means, what is bounded, which token goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest

from gateway.core.errors import InvalidInput
from gateway.core.keyring import KeyRing
from gateway.core.keys import generate, public_der
from gateway.core.model import Key
from gateway.core.ports import Answer, Verdict
from gateway.core.tokens import verify_token
from gateway.core.usage import Batch
from gateway.upstream.cmapi import CmapiUpstream
from gateway.upstream.sender import TOKEN_SPARE_S, TOKEN_TTL_S, CmapiSender, open_http
from tests.upstream.parent import Parent, open_parent
from tests.upstream.works import PRIVATE

BATCH = Batch("b1", "parent", "DEMO", (), b'{"features":[]}')


@dataclass
class Now:
    """Unix time, set by hand."""

    s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.s


def with_parent(
    story: Callable[[Parent, CmapiSender, Now], Awaitable[None]], *, timeout_s: float = 5.0
) -> None:
    async def run() -> None:
        async with asyncio.timeout(20), open_parent() as parent, open_http() as client:
            now = Now()
            config = configured(parent.url, timeout_s)
            await story(parent, CmapiSender(config, PRIVATE, client, now_s=now), now)

    asyncio.run(run())


def configured(url: str, timeout_s: float = 5.0) -> CmapiUpstream:
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

    with_parent(story, timeout_s=0.2)


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
