"""A loop and a real store on it, whose clock the tests set; kept from example to example."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.store.opening import Store, open_store

DEADLINE_S = 20.0  # a busy machine is no failure
T = TypeVar("T")


class Bench:
    """Runs coroutines on the loop that the store is opened on."""

    def __init__(self, runner: asyncio.Runner, store: Store) -> None:
        self.runner, self.store = runner, store

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


@contextmanager
def open_bench(data_dir: Path) -> Iterator[Bench]:
    """Open an embedded store of one partition, so that its instances meet in the shared keys."""
    prelude = Path(__file__).with_name("clock.lua").read_text(encoding="utf-8")
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        opened = open_store(
            "embedded", data_dir, partitions=1, prelude=prelude, deadline_s=DEADLINE_S
        )
        try:
            yield Bench(runner, runner.run(stack.enter_async_context(opened)))
        finally:
            runner.run(stack.aclose())
