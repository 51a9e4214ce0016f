"""A batch as a story: over a real store, and over lanes that misbehave where no store can be made
to.

What moves while a batch is under way is the catalogue: lines keep their order, none is lost or
counted twice, and an error is the whole batch's only while nothing of it has been applied.
Source: INTERFACE 4, SEMANTICS 9 and 10.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import cast

import pytest

from gateway.core.calls import INCREMENTAL
from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import Unauthorized, Unavailable
from gateway.core.model import AccessRequest, Catalogue, Host
from gateway.service.access import CATALOGUE_TRIES_MAX, Access
from gateway.service.credentials import Caller, Credentials
from gateway.store.lanes import Lane
from tests.service.batches import (
    CAPACITY,
    DONE,
    SIGNER,
    STALE,
    WINDOW,
    At,
    Between,
    House,
    Saying,
    Telling,
    granted,
    houses,
    many,
    sessions,
    told,
)
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with houses(shared_home) as run:
        yield run


# Order ----------------------------------------------------------------------------------------


def test_lines_apply_in_order_over_many_calls(at: At) -> None:
    async def story(house: House) -> None:
        calls = house.store.lane.calls
        answers = await house.serve(*many(600))
        assert house.store.lane.calls - calls > 1
        assert granted(answers) == [1] * CAPACITY + [0] * (600 - CAPACITY)
        assert [each["correlationId"] for each in answers] == [f"c-{n}" for n in range(600)]
        assert await house.acked() == CAPACITY

    at(story)


def test_a_catalogue_that_moved_before_goes_unnoticed(at: At) -> None:
    async def story(house: House) -> None:
        await house.own.read(house.instance)
        await house.put(name="renamed")
        answers = await house.serve(*many(120))
        assert granted(answers) == [1] * CAPACITY + [0] * 20
        assert not any(each["replayed"] for each in answers)

    at(story)


def test_lines_refused_as_stale_go_again_behind_those_that_were_applied(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Between(house.store.lane, 40, lambda: house.put(name="renamed"))
        answers = await house.serve(*many(120))
        assert house.lane.submitted == [120, 80]
        assert granted(answers) == [1] * CAPACITY + [0] * 20
        assert {each["status"] for each in answers} == {200}
        assert await house.acked() == CAPACITY

    at(story)


# Whose an error is ----------------------------------------------------------------------------


def test_a_key_revoked_before_is_a_refusal_of_the_whole(at: At) -> None:
    async def story(house: House) -> None:
        await house.own.read(house.instance)
        await house.put(keys=())
        with pytest.raises(Unauthorized):
            await house.serve(*many(3))
        assert await house.acked() == 0

    at(story)


def test_a_key_revoked_meanwhile_refuses_the_lines_that_wait(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Between(house.store.lane, 2, lambda: house.put(keys=()))
        answers = await house.serve(*many(4))
        assert [each["status"] for each in answers] == [200, 200, 401, 401]
        assert [each["correlationId"] for each in answers] == ["c-0", "c-1", "c-2", "c-3"]
        assert answers[3]["response"]["key"] == "gateway.unauthorized"
        assert await house.acked() == 2

    at(story)


def test_a_catalogue_that_moves_all_the_time_is_not_followed_for_ever(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Saying(STALE)
        with pytest.raises(Unavailable) as raised:
            await house.serve(*many(3))
        assert raised.value.outcome == "not_applied"
        assert house.lane.batches == CATALOGUE_TRIES_MAX

        house.lane = Saying(DONE, STALE, STALE, then=[STALE])
        answers = await house.serve(*many(3))
        assert [each["status"] for each in answers] == [200, 503, 503]
        assert answers[2]["response"]["arguments"] == ["not_applied"]
        assert house.lane.batches == CATALOGUE_TRIES_MAX

    at(story)


def test_a_line_that_the_store_did_not_answer_says_so_for_itself(at: At) -> None:
    async def story(house: House) -> None:
        unknown = Unavailable("The store did not answer in time", "unknown")
        house.lane = Saying(DONE, unknown)
        answers = await house.batch().serve(house.posted(*many(4)))
        lines = told(answers)
        assert [each["status"] for each in lines] == [200, 503, 200, 503]
        assert lines[1]["response"] == {
            "key": "gateway.unavailable",
            "message": "The store did not answer in time",
            "arguments": ["unknown"],
        }
        assert answers.unavailable == [unknown, unknown]
        assert house.lane.batches == 1

    at(story)


# Other tasks ----------------------------------------------------------------------------------


def test_what_was_submitted_is_applied_though_its_client_goes_away(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Telling(house.store.lane)
        serving = asyncio.create_task(house.serve(*many(600)))
        await house.lane.submitted.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert granted(await house.serve(sessions("last"))) == [0]  # it came behind all the others
        assert await house.acked() == CAPACITY
        assert len(house.lane.windows) == 2  # the first, and `last`
        again = await house.serve(*many(600))
        assert [each["replayed"] for each in again] == [True] * WINDOW + [False] * (600 - WINDOW)

    at(story)


def test_the_event_loop_serves_others_while_a_batch_is_read(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Saying(DONE)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(other())
        try:
            await house.serve(*many(1_000))
        finally:
            ticking.cancel()
        assert turns > 5  # some 15 ms of work

    at(story)


# Jobs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("explain_ms", [0, 60_000])
@pytest.mark.parametrize("idempotency_id", [None, "c-1"])
def test_what_may_be_explained_keeps_what_was_asked(
    explain_ms: int, idempotency_id: str | None
) -> None:
    access = Access(
        cast(Credentials, None), cast(Lane, None), SIGNER, time.time, explain_ms=explain_ms
    )
    caller = Caller(CatalogueIndex(Catalogue(id="I-1", version=1)), forwarder=False)
    request = AccessRequest(host=Host("string", "h1"), incremental=True)
    job = access.job(caller, request, idempotency_id, "r" * 22)
    assert (job.explain_ms, job.flags) == (explain_ms, INCREMENTAL)
    assert bool(job.echo) == (explain_ms > 0 or idempotency_id is not None)
