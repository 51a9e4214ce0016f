"""Sentinels make another server the primary, under load, whatever became of the one that was it.

It is killed, or paused and woken when another one has its place, or there is no reason at all. What
all replicas had is not lost; below that, what is lost is counted, and was answered within a window
that the documents tell. A primary that is cut off: test_sentinel_cuts.py. GATEWAY_FAULT_FAILOVERS
is how many there are at each level; GATEWAY_FAULT_SEED repeats a run. Source: RELIABILITY 4, row 7;
RELIABILITY 2.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.failovers import Fault, agree, ask, kill, pause
from tests.faults.fleet import ASKED_S_MAX, knob
from tests.faults.trial import Window, have_back, now_ms, open_trial
from tests.stores.journal import Verdict
from tests.stores.sentinels import Sentinels
from tests.stores.servers import Server

FAILOVERS = knob("FAILOVERS", 2)
INSTANCES = ("S-1", "S-2", "S-3")
BEFORE_S = (0.1, 0.5)  # between faults

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A primary, two replicas and three sentinels; every test leaves them well."""
    with Sentinels(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


def test_what_all_replicas_had_is_not_lost_in_a_failover(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    faults = itertools.islice(itertools.cycle([kill, pause, ask]), FAILOVERS)
    verdict = asyncio.run(fail_over("replica", list(faults), sentinels, tmp_path))
    assert verdict.violations == []


def test_what_all_replicas_had_on_their_disks_is_not_lost_in_a_failover(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    with synced_always(sentinels):
        verdict = asyncio.run(fail_over("replica_fsync", [kill], sentinels, tmp_path))
    assert verdict.violations == []


def test_what_is_lost_of_what_is_only_written_was_acknowledged_within_its_window(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    """Just before the primary died, or while there were two of them."""
    faults = itertools.islice(itertools.cycle([kill, ask, pause, agree]), FAILOVERS)
    verdict = asyncio.run(fail_over("written", list(faults), sentinels, tmp_path))
    assert verdict.violations == []


async def fail_over(
    ack: str, faults: Sequence[Fault], sentinels: Sentinels, directory: Path
) -> Verdict:
    """Let faults happen under load, in any order, with all replicas asked; say what came of it."""
    have_back([*sentinels.servers, *sentinels.sentinels])
    sentinels.wait_in_sync()
    sentinels.primary().ask("FLUSHALL", answer_s_max=ASKED_S_MAX)
    switches, began_ms = sentinels.switches, now_ms()
    windows: list[Window] = []
    async with open_trial(
        f"sentinel: failovers at {ack}",
        directory,
        sentinels.url,
        lambda _: sentinels.primary(),
        INSTANCES,
        ack=ack,
        replicas=len(sentinels.servers) - 1,
    ) as trial:
        dice = trial.dice()
        async with trial.at_work():
            for fault in dice.sample(faults, len(faults)):
                await asyncio.sleep(dice.uniform(*BEFORE_S))
                async with trial.fault(fault.__name__):
                    windows += await fault(sentinels, dice)
                    await asyncio.to_thread(sentinels.wait_in_sync)
        if unasked := sentinels.switches - switches - len(faults):
            # A machine that is busy for a second makes one: nobody knows when it began.
            print(f"failovers that nobody asked for: {unasked}")
            windows = [(began_ms, now_ms())]
        return await trial.judge(*(windows if ack == "written" else []))


@contextmanager
def synced_always(sentinels: Sentinels) -> Iterator[None]:
    """Have every server sync at each write within, also when it starts again."""
    policies = {server: server.settings["appendfsync"] for server in sentinels.servers}
    sync(dict.fromkeys(policies, "always"))
    yield
    sync(policies)


def sync(policies: dict[Server, str]) -> None:
    for server, policy in policies.items():
        server.ask("CONFIG", "SET", "appendfsync", policy, answer_s_max=ASKED_S_MAX)
        server.ask("CONFIG", "REWRITE", answer_s_max=ASKED_S_MAX)
