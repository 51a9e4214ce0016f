"""A batch as the lane sees it: a window of bounded work at a time, and others in between.

What ends a batch early leaves its further lines unsubmitted, and sending it again gets further.
Source: INTERFACE 4, RELIABILITY 2, SEMANTICS 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.core.errors import Unavailable
from gateway.service.batch import BATCH_S_MAX, WINDOW_WORK
from gateway.store.lanes import WORK_MAX
from tests.service.batches import (
    DONE,
    WIDE,
    WINDOW,
    At,
    Between,
    House,
    Saying,
    Telling,
    granted,
    heavy,
    houses,
    many,
    outcomes,
    sessions,
    told,
)
from tests.stores.homes import Home


@pytest.fixture(scope="module")
def at(shared_home: Home) -> Iterator[At]:
    with houses(shared_home) as run:
        yield run


def test_a_batch_goes_to_the_lane_window_by_window(at: At) -> None:
    async def story(house: House) -> None:
        await house.put_sessions(700)
        house.lane = Telling(house.store.lane)
        answers = await house.serve(*many(1_000))
        assert [len(window) for window in house.lane.windows] == [WINDOW, 1_000 - WINDOW]
        works = [sum(job.work for job in window) for window in house.lane.windows]
        assert max(works) <= WINDOW_WORK < 2 * WORK_MAX
        assert granted(answers) == [1] * 700 + [0] * 300

    at(story)


def test_a_line_that_is_more_than_a_window_is_the_last_of_one(at: At) -> None:
    async def story(house: House) -> None:
        await house.put_wide()
        house.lane = Telling(house.store.lane)
        greedy = heavy("b")
        greedy["features"] = [
            {"name": name, "count": 1, "version": version}
            for name in WIDE
            for version in ("0", "1.0", "0.9")
        ]
        answers = await house.serve(heavy("a"), greedy, sessions("c"))
        assert [each["status"] for each in answers] == [200] * 3
        assert [len(window) for window in house.lane.windows] == [2, 1]
        assert house.lane.windows[0][1].work > WINDOW_WORK

    at(story)


def test_a_single_request_comes_between_the_windows_of_a_heavy_batch(at: At) -> None:
    async def story(house: House) -> None:
        await house.put_wide()
        other = House(house.store)
        await other.put()
        house.lane = Telling(house.store.lane)
        serving = asyncio.create_task(house.serve(*(heavy(f"c-{n}") for n in range(30))))
        await house.lane.submitted.wait()
        before = len(house.lane.windows)
        alone = await other.serve_alone(sessions("alone"))
        assert len(house.lane.windows) - before <= 2
        assert not serving.done()
        assert not alone.replayed
        assert {each["status"] for each in await serving} == {200}
        assert len(house.lane.windows) == 15

    at(story)


def test_lines_refused_as_stale_go_before_the_windows_behind_them(at: At) -> None:
    async def story(house: House) -> None:
        await house.put_sessions(700)
        house.lane = Between(house.store.lane, 40, lambda: house.put(name="renamed"), window=2)
        answers = await house.serve(*many(1_000))
        assert house.lane.submitted == [WINDOW, 1_000 - WINDOW, 1_000 - WINDOW - 40]
        assert granted(answers) == [1] * 700 + [0] * 300
        assert not any(each["replayed"] for each in answers)
        assert await house.acked() == 700

        house.lane = Between(house.store.lane, 100, lambda: house.put(name="again"))
        answers = await house.serve(*(sessions(f"d-{n}", 0) for n in range(1_000)))
        assert house.lane.submitted == [WINDOW, WINDOW, 1_000 - WINDOW - 100]
        assert [each["correlationId"] for each in answers] == [f"d-{n}" for n in range(1_000)]
        assert {each["status"] for each in answers} == {200}

    at(story)


def test_a_line_without_an_answer_ends_the_batch(at: At) -> None:
    async def story(house: House) -> None:
        late = Unavailable("The store did not answer in time", "unknown")
        house.lane = Saying(DONE, late)
        posted = house.posted(*many(1_000))
        answers = await house.batch().serve(posted)
        lines = told(answers)
        assert house.lane.batches == 1
        assert [each["status"] for each in lines[:WINDOW]] == [200, 503] * (WINDOW // 2)
        assert outcomes(lines[:WINDOW]) == ["unknown"] * (WINDOW // 2)
        assert outcomes(lines[WINDOW:]) == ["not_applied"] * (1_000 - WINDOW)
        assert answers.unavailable[0] is late

    at(story)


def test_a_batch_that_takes_too_long_gets_further_when_it_is_sent_again(at: At) -> None:
    async def story(house: House) -> None:
        now_s = 0.0

        def later() -> None:
            nonlocal now_s
            now_s += BATCH_S_MAX

        await house.put_sessions(700)
        house.clock_s = lambda: now_s
        house.lane = Telling(house.store.lane, later)
        first = await house.serve(*many(1_000))
        assert [each["status"] for each in first[:WINDOW]] == [200] * WINDOW
        assert outcomes(first) == ["not_applied"] * (1_000 - WINDOW)
        assert await house.acked() == WINDOW

        house.lane = house.store.lane
        again = await house.serve(*many(1_000))
        assert [each["replayed"] for each in again] == [True] * WINDOW + [False] * (1_000 - WINDOW)
        assert granted(again) == [1] * 700 + [0] * 300

    at(story)


def test_a_batch_that_waited_too_long_is_not_begun(at: At) -> None:
    async def story(house: House) -> None:
        moments = iter([0.0, BATCH_S_MAX])
        house.clock_s = lambda: next(moments)
        house.lane = Telling(house.store.lane)
        with pytest.raises(Unavailable) as raised:
            await house.serve(*many(3))
        assert (raised.value.outcome, house.lane.windows) == ("not_applied", [])
        assert await house.acked() == 0

    at(story)


def test_a_lane_with_little_room_gets_small_windows(at: At) -> None:
    async def story(house: House) -> None:
        lane = house.store.lane
        queue_max, lane.queue_max = lane.queue_max, 7
        house.lane = Telling(lane)
        try:
            assert granted(await house.serve(*many(5))) == [1] * 5
            assert [len(window) for window in house.lane.windows] == [3, 2]
            lane.queue_max = 1
            assert granted(await house.serve(*many(8))) == [1] * 8
            assert len(house.lane.windows) == 2 + 8
            assert await house.acked() == 8
            lane.queue_max = 0
            with pytest.raises(Unavailable) as raised:
                await house.serve(sessions("last"))
            assert (raised.value.outcome, lane.depth) == ("not_applied", 0)
            assert await house.acked() == 8
        finally:
            lane.queue_max = queue_max

    at(story)


def test_a_lane_that_has_no_room_any_more_ends_the_batch(at: At) -> None:
    async def story(house: House) -> None:
        house.lane = Saying(DONE, full=2)
        answers = await house.serve(*many(1_000))
        assert [each["status"] for each in answers[:WINDOW]] == [200] * WINDOW
        assert outcomes(answers) == ["not_applied"] * (1_000 - WINDOW)
        assert house.lane.batches == 2

    at(story)
