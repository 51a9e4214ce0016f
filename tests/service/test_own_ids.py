"""A request that brings no id gets one of ours: of its replays the client must notice nothing.

The lane sends again what it got no answer for; the store then tells of a replay, which to the
client is the first answer. Source: SEMANTICS 9.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from gateway.core.calls import Reply, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.keys import generate
from gateway.core.model import Catalogue, Outcome
from gateway.service.access import Access, Answer, Kind, Posted, Signer
from gateway.service.credentials import Caller, Credentials
from gateway.store.calls import Job
from gateway.store.lanes import Lane

REQUEST_ID = "r" * 22


class _Anyone:
    """Credentials that accept whoever comes, for an instance without lines."""

    async def by_token(self, instance: str, authorization: str | None) -> Caller:
        return Caller(CatalogueIndex(Catalogue(id=instance, version=1)), forwarder=False)


class _SentTwice:
    """A lane whose first reply was lost on its way: the one it has is that of a replay."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def submit(self, job: Job) -> Reply:
        self.jobs.append(job)
        return Reply(Verdict.REPLAYED, outcome=Outcome(1_000, [], [], []), echo=job.echo)


def _served(key: str | None, **more: int) -> tuple[Answer, Job]:
    private, lane = generate("ES256"), _SentTwice()
    access = Access(
        cast(Credentials, _Anyone()),
        cast(Lane, lane),
        Signer("k", "ES256", private),
        lambda: 0.0,
        **more,
    )
    host: dict[str, Any] = {"hostId": {"type": "string", "value": "h1"}}
    posted = Posted(Kind.ACCESS, "I-1", msgspec.json.encode(host), jose=False, idempotency_key=key)
    answer = asyncio.run(access.serve(posted, REQUEST_ID))
    return answer, lane.jobs[0]


@pytest.mark.parametrize("key", [None, "the-clients-own"])
def test_only_an_id_of_the_clients_shows_a_replay(key: str | None) -> None:
    answer, _ = _served(key)
    assert answer.replayed == (key is not None)
    assert answer.at_ms == 1_000


def test_an_id_of_ours_is_remembered_briefly_and_without_a_meaning() -> None:
    _, ours = _served(None)
    assert (ours.dedupe_id, ours.ttl_ms, ours.fingerprint) == (REQUEST_ID, 60_000, "")


@pytest.mark.parametrize("key", [None, "the-clients-own"])
def test_no_outcome_is_forgotten_while_the_lane_may_send_again(key: str | None) -> None:
    """A short retention must not make our own re-sending count twice."""
    _, job = _served(key, retention_ms=1_000, resend_ms=120_000)
    assert job.ttl_ms == 120_000


def test_a_clients_id_is_remembered_hashed_and_with_its_meaning() -> None:
    _, theirs = _served("the-clients-own")
    assert "the-clients-own" not in theirs.dedupe_id
    assert (theirs.ttl_ms, len(theirs.fingerprint)) == (3_600_000, 32)
