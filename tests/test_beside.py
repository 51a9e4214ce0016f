"""Work beside a block ends with it, and lets nobody wait for ever."""

from __future__ import annotations

import asyncio

import pytest

from gateway.beside import beside


@pytest.mark.parametrize("swallowed", [0, 1, 3])
def test_it_ends_whatever_swallows_a_cancellation(swallowed: int) -> None:
    left, steps = swallowed, 0
    begun = asyncio.Event()

    async def stubborn() -> None:
        nonlocal left, steps
        while True:
            steps += 1
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not left:
                    raise
                left -= 1

    async def story() -> None:
        async with asyncio.timeout(30), beside(stubborn()):
            await begun.wait()

    asyncio.run(story())
    assert (left, steps) == (0, swallowed + 1)


def test_what_the_block_raises_is_raised_and_what_the_work_raises_is_not() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    async def story() -> None:
        async with beside(failing()):
            await asyncio.sleep(0)
        with pytest.raises(KeyError):
            async with beside(asyncio.sleep(60)):
                raise KeyError

    asyncio.run(story())
