"""A primary is cut off with clients on its side, and sentinels make another server the primary.

The first gateway is on its side of the cut and reaches nobody else; the second is connected with it
and reaches the others too; the third is on their side. For a while there are two primaries.
GATEWAY_FAULT_SEED repeats a run. Source: RELIABILITY 4, row 7; RELIABILITY 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.faults.checker import Kind
from tests.faults.fleet import ASKED_S_MAX
from tests.faults.scene import until
from tests.faults.trial import GATEWAYS, Trial, have_back, now_ms, open_trial
from tests.stores.sentinels import LAG_S_MAX
from tests.stores.wired_sentinels import WiredSentinels

INSTANCES = ("S-1", "S-2", "S-3")
TWO_PRIMARIES_S = 1.0
SAFE_S = 1.0  # what is asked for so long may have been safe when it was cut off
# It hears of its replicas once a second, counts whole seconds, and looks once a second, or later on
# a machine that stalls.
REFUSES_MS_MAX = (LAG_S_MAX + 2 + 2) * 1000
CUT_OFF, BETWEEN, _ = GATEWAYS

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WiredSentinels]:
    """A primary, two replicas and three sentinels; every test leaves them well."""
    with WiredSentinels(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


def test_cut_off_nothing_is_acknowledged_that_all_replicas_are_asked_for(
    sentinels: WiredSentinels, tmp_path: Path
) -> None:
    """On neither side: there is no primary any more that has two replicas."""

    async def story() -> None:
        async with trial_of("replica", 2, sentinels, tmp_path) as trial:
            async with trial.at_work(), trial.fault("cut") as since_s, cut(sentinels):
                await asyncio.sleep(TWO_PRIMARIES_S)
                assert trial.asked_and_answered(since_s + SAFE_S) == []
            assert (await trial.judge()).violations == []

    asyncio.run(story())


def test_cut_off_only_who_reaches_the_new_primary_goes_on_where_one_replica_is_asked_for(
    sentinels: WiredSentinels, tmp_path: Path
) -> None:
    """Also who was connected with the old one: it has no replica to wait for."""

    async def story() -> None:
        async with trial_of("replica", 1, sentinels, tmp_path) as trial:
            cut_off, *others = (gateway.url for gateway in trial.gateways)
            async with trial.at_work(), trial.fault("cut") as since_s, cut(sentinels) as window_ms:
                await trial.served(by=others)
                assert trial.asked_and_answered(since_s + SAFE_S, by=cut_off) == []
            # What the one replica had and the promoted one had not: as a rule, nothing.
            cut_ms, _ = window_ms
            assert (await trial.judge((cut_ms, cut_ms))).violations == []

    asyncio.run(story())


def test_cut_off_what_is_lost_of_what_is_only_written_was_acknowledged_since(
    sentinels: WiredSentinels, tmp_path: Path
) -> None:
    """Until the old primary misses its replicas, and with min-replicas-to-write refuses."""

    async def story() -> None:
        async with trial_of("written", 1, sentinels, tmp_path, needed=1) as trial:
            async with trial.at_work(), trial.fault("cut"), cut(sentinels) as window_ms:
                # By then it refuses of itself, and not because it has become a replica.
                refuses_ms = window_ms[0] + REFUSES_MS_MAX
                await until(lambda: now_ms() > refuses_ms)
            cut_ms, follows_ms = window_ms
            assert refuses_ms < follows_ms
            verdict = await trial.judge((cut_ms, refuses_ms))
            assert verdict.violations == []
            assert verdict.units(Kind.LOST) > 0  # or nobody was cut off

    asyncio.run(story())


@asynccontextmanager
async def cut(sentinels: WiredSentinels) -> AsyncIterator[list[int]]:
    """Cut the primary off; within there is another one. In the end it follows that.

    Gives when it was cut off and, once all is well again, when it had become a replica.
    """
    old, moments_ms = sentinels.primary(), [now_ms()]
    with sentinels.cut(old, beside=(CUT_OFF, BETWEEN)):
        await asyncio.to_thread(sentinels.wait_other_primary, old)
        yield moments_ms
    await asyncio.to_thread(sentinels.wait_in_sync)
    moments_ms.append(now_ms())


def trial_of(
    ack: str, replicas: int, sentinels: WiredSentinels, directory: Path, *, needed: int = 0
) -> AbstractAsyncContextManager[Trial]:
    """Set a trial; `needed` is the servers' min-replicas-to-write."""
    have_back([*sentinels.servers, *sentinels.sentinels])
    sentinels.wait_in_sync()
    sentinels.primary().ask("FLUSHALL", answer_s_max=ASKED_S_MAX)
    for server in sentinels.servers:
        server.ask("CONFIG", "SET", "min-replicas-to-write", needed, answer_s_max=ASKED_S_MAX)
    asked = f", {replicas} of 2 replicas asked" if ack == "replica" else ""
    return open_trial(
        f"sentinel: cut off at {ack}{asked}",
        directory,
        sentinels.url,
        lambda _: sentinels.primary(),
        INSTANCES,
        ack=ack,
        replicas=replicas,
        own_urls={CUT_OFF: sentinels.far_url},
    )
