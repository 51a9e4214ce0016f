"""Work beside a block: begun with it, and ended with it whatever swallows a cancellation.

Decided here: that a task is cancelled again until it has ended. Before Python 3.12 asyncio.wait_for
swallows a cancellation that comes as what it waits for ends, and the store's client library uses
it: a loop that was cancelled once might go on for ever, and whoever waits for its end with it. For
work that has nothing to bring to an end of its own. Source: RELIABILITY 3.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

AGAIN_S: Final = 0.1


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Have work done until the end of the block. What it raises is lost: it tells by itself."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        pending = {task}
        while pending:
            task.cancel()
            _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
