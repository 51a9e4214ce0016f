"""What a failed call to the store says: whether it may have been applied, and why.

Law: RELIABILITY 2.
"""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.core.errors import Unavailable
from gateway.store.durable import answered


@pytest.mark.parametrize(
    ("error", "words", "outcome"),
    [
        (BusyLoadingError("loading"), "The store is still loading its data", "not_applied"),
        (OutOfMemoryError("full"), "The store refuses the call", "not_applied"),
        (ReadOnlyError("replica"), "The store refuses the call", "not_applied"),
        (StoreConnectionError("gone"), "The store gave no usable answer", "unknown"),
    ],
)
def test_a_reader_is_not_told_of_writing(error: RedisError, words: str, outcome: str) -> None:
    async def fails() -> None:
        raise error

    with pytest.raises(Unavailable) as caught:
        asyncio.run(answered(fails()))
    assert (words, outcome) == (str(caught.value), caught.value.outcome)
