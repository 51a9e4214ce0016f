"""Kills, suspensions and silence between a forwarder and the LicenseSpring cloud, as processes.

GATEWAY_KILLS says how many kill -9 there are (few by default),
GATEWAY_FAULT_SEED repeats their moments. After each story everything is drained, and three records
are held against one another: what was granted, our books, the cloud's.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.core.ports import Standing
from gateway.store.asides import Asides
from tests.faults.cloud_forwarder import WINDOW_MS
from tests.faults.cloud_scene import INSTANCE, PARTITIONS, Scene, tell, until
from tests.upstream.cloud_books import Books, Counted
from tests.upstream.cloud_house import HARDWARE, KEY, NAME

pytestmark = pytest.mark.faults
KILLS = int(os.environ.get("GATEWAY_KILLS", "10"))
# One that is not applied is waited for until its Date has run out.
UNKNOWN = ("500", "hang", "close", "garbage", "forged")
APPLIED = tuple(f"{each} applied" for each in (*UNKNOWN[:4], "half", "wrong signature"))
DEAD = ("413", "422")
STOPPING = ("401", "302")
ANSWERS = (*UNKNOWN, *APPLIED, "429", *DEAD, *STOPPING)
MIX = {"": 6, "500": 1, "close": 1, "close applied": 2, "half applied": 2, "hang applied": 1}


def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("GATEWAY_FAULT_SEED") or secrets.randbelow(2**32))
    print(f"GATEWAY_FAULT_SEED={seed}")
    dice = random.Random(f"cloud {seed}")  # noqa: S311 (to be repeatable)

    async def story(scene: Scene) -> None:
        working = asyncio.create_task(scene.work(dice))
        fell: Counter[str] = Counter()
        batch = None
        for number in range(KILLS):
            scene.cloud.follow(mix=MIX, seed=seed + number)
            process = scene.start()
            await until(scene.leased)
            # Now and then a doubt is lived through, or all kills would be of one batch.
            patience_s = 1.5 * WINDOW_MS / 1_000 if batch and batch.before else 0.5
            await asyncio.sleep(dice.uniform(0, patience_s))
            scene.kill(process)
            batch = await scene.outbox.sealed(INSTANCE, NAME)
            fell["between" if batch is None else "in doubt" if batch.before else "sealed"] += 1
            if dice.random() < 0.2:
                scene.cloud.restart()
                scene.faults["cloud restarted"] += 1
            await scene.lapse_leases()
            await scene.books()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        print(f"kills {dict(fell)}, adds {len(scene.cloud.counted())}")
        # Where they fell is chance; of many, not all of them in one place.
        assert len(fell) > 1 or KILLS < 50

    tell(tmp_path, story, within_s=600 + 20 * KILLS)


def test_who_sleeps_past_the_lease_settles_nothing_that_is_another_s(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cloud.pause()
        sleeper = scene.start()
        await scene.use("", 5)
        await until(lambda: scene.says(0, "batch_sealed"))
        sleeper.send_signal(signal.SIGSTOP)
        scene.faults["SIGSTOP"] += 1
        scene.cloud.resume()
        await scene.lapse_leases()
        scene.start()
        await until(lambda: scene.cloud.totals(HARDWARE)[""] == 5)
        await scene.use("pages", 3)
        await until(lambda: scene.cloud.totals(HARDWARE)["pages"] == 3)
        sleeper.send_signal(signal.SIGCONT)
        await scene.use("scans", 2)
        await until(lambda: scene.cloud.totals(HARDWARE)["scans"] == 2)
        assert scene.cloud.totals(HARDWARE)[""] == 5

    tell(tmp_path, story)


def test_who_sleeps_between_note_and_call_until_another_owns_it_adds_nothing_when_it_wakes(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        sleeper = scene.start(sleeps=True)
        await scene.use("", 5)
        stopped = Path(f"/proc/{sleeper.pid}/stat")
        await until(lambda: stopped.read_text().rpartition(")")[2].split()[0] == "T")
        scene.faults["SIGSTOP"] += 1
        batch = await scene.outbox.sealed(INSTANCE, NAME)
        assert batch is not None
        assert batch.attempts == 1
        await scene.lapse_leases()
        scene.start()
        await until(scene.delivered)
        await scene.use("", 3)
        await until(scene.delivered)
        sleeper.send_signal(signal.SIGCONT)
        await until(lambda: scene.says(0, "date_header_diff"))
        assert scene.cloud.totals(HARDWARE)[""] == 8

    tell(tmp_path, story)


def test_whatever_the_cloud_answers_each_unit_is_added_once(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        asides = Asides(scene.store.topology, scene.store.scripts, PARTITIONS)
        process = scene.start()
        for fault in ANSWERS:
            scene.cloud.follow(script={"add": [fault]})
            await scene.use("", 5)
            await until(lambda fault=fault: fault in scene.cloud.faults())
            if fault in DEAD:

                async def dead() -> bool:
                    return bool(await asides.batches(INSTANCE, NAME))

                await until(dead)
                (batch,) = await asides.batches(INSTANCE, NAME)
                assert batch.standing is Standing.DEAD
                done = await scene.command("retry", batch.id, "--reason", "it is taken by now")
                assert done.returncode == 0, done.stderr
            elif fault in STOPPING:
                await until(lambda fault=fault: scene.says(-1, f"HTTP {fault}"))
                scene.kill(process)  # it would probe in five minutes, and a new one does at once
                await scene.lapse_leases()
                process = scene.start()
            await until(scene.delivered)

    tell(tmp_path, story)


def test_a_drain_before_a_cloud_that_is_away_ends_and_says_so(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.use("", 5)
        scene.cloud.kill()
        scene.faults["cloud killed"] += 1
        drained = await scene.command("--once")
        assert drained.returncode != 0
        assert "upstream does not answer" in drained.stdout + drained.stderr
        books = await scene.books()
        assert [entry.sealed for entry in books.lines if entry.acked] == [5]
        scene.cloud.start()

    tell(tmp_path, story)


def test_a_store_that_is_killed_in_the_middle_of_a_doubt_still_knows_what_was_before(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        scene.cloud.follow(script={"add": ["hang applied"]})
        process = scene.start()
        await scene.use("", 5)
        await until(lambda: scene.cloud.totals(HARDWARE)[""] == 5)
        scene.kill(process)
        before = await scene.outbox.sealed(INSTANCE, NAME)
        scene.server.kill()
        scene.faults["store killed"] += 1
        scene.server.start()
        after = None
        for _ in range(20):  # a connection may be left from the store that was killed
            with suppress(Exception):
                after = await scene.outbox.sealed(INSTANCE, NAME)
                break
        assert before is not None
        assert before == after
        assert before.before
        assert before.attempts == 1

    tell(tmp_path, story)


def test_a_doubt_that_others_make_undecidable_is_parked_and_a_person_settles_it(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        scene.cloud.follow(script={"add": ["hang applied"]})
        process = scene.start()
        await scene.use("", 5)
        await until(lambda: scene.cloud.totals(HARDWARE)[""] == 5)
        scene.kill(process)
        scene.cloud.kill()
        scene.faults["cloud killed"] += 1
        other = Counted("add", KEY, "", 2, "another", scene.cloud.counted()[-1].at_ms)
        Books(scene.cloud.directory).count(other)
        scene.cloud.start()
        await scene.lapse_leases()
        scene.start()
        asides = Asides(scene.store.topology, scene.store.scripts, PARTITIONS)

        async def parked() -> bool:
            return bool(await asides.batches(INSTANCE, NAME))

        await until(parked)
        (batch,) = await asides.batches(INSTANCE, NAME)
        assert batch.standing is Standing.PARKED
        assert "5 were sent; the cloud's total was 0 before and is 7 now" in batch.why
        shown = await scene.command("show", batch.id)
        assert "activity log" in shown.stdout
        assert KEY not in shown.stdout
        said = ["reconcile", batch.id, "--applied", "--reason", "seen in the activity log"]
        done = await scene.command(*said)
        assert done.returncode == 0, done.stderr

    tell(tmp_path, story)
