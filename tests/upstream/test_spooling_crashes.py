"""The spool's writer in trouble: many at once, a fault or a kill at every step, a full disk.

Laws: a file that is visible is whole; a batch has one file; numbers have no gaps. They hold after
whatever happened, and after the same batch was sent again.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.ports import Answer
from gateway.upstream.spooling import SEQUENCE
from tests.upstream.spool_house import batch, drafts, files, send

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
STEPS = ("open", "fsync", "rename", "unlink", "listdir", "mkdir")


@pytest.mark.parametrize("after", [False, True])
def test_a_fault_at_any_step_is_told_truly_and_the_next_attempt_ends_it(
    tmp_path: Path, after: bool
) -> None:
    answers = set()
    for at in range(100):
        spool = tmp_path / str(at)
        send(spool, batch("before"))
        with struck(at, disk_full, after=after) as begun:
            verdict = send(spool, batch("a"))
        told = {1: "before"} | ({2: "a"} if verdict.answer is Answer.HANDED_OVER else {})
        assert verdict.answer in (Answer.NOT_APPLIED, Answer.UNKNOWN, Answer.HANDED_OVER)
        if verdict.answer is not Answer.UNKNOWN:
            assert files(spool) == told
        if verdict.answer is Answer.NOT_APPLIED:
            assert "No space left on device" in verdict.why
            assert drafts(spool) == []
        answers.add(verdict.answer)
        for batch_id in ("a", "next"):
            assert send(spool, batch(batch_id)).answer is Answer.HANDED_OVER
        assert files(spool) == {1: "before", 2: "a", 3: "next"}
        assert drafts(spool) == []
        if len(begun) <= at:
            break
    assert answers == {Answer.NOT_APPLIED, Answer.UNKNOWN, Answer.HANDED_OVER}
    assert at > 10


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    ran = run_here(f"kill_at_every_step({str(tmp_path)!r})")
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert int(ran.stdout) > 40


def kill_at_every_step(root: str) -> None:
    kills = 0
    for after in (False, True):
        for carried in (False, True):
            for at in range(100):
                spool = Path(root) / f"{after}-{carried}-{at}"
                send(spool, batch("before"))
                if not killed_writing(spool, at, after=after):
                    break
                kills += 1
                recover(spool, carried=carried)
    print(kills)


def killed_writing(spool: Path, at: int, *, after: bool) -> bool:
    def write() -> None:
        with struck(at, lambda: os.kill(os.getpid(), signal.SIGKILL), after=after):
            send(spool, batch("a"))

    code = ended(forked(write))
    assert code in (0, KILLED)
    return code == KILLED


def recover(spool: Path, *, carried: bool) -> None:
    """Send again after a kill; before it, a person may have carried away what was visible."""
    seen = files(spool)
    assert seen in ({1: "before"}, {1: "before", 2: "a"})
    if carried:
        for path in spool.glob("*.ndjson"):
            path.unlink()
    for batch_id in ("a", "next"):
        assert send(spool, batch(batch_id)).answer is Answer.HANDED_OVER
    both = (seen | files(spool)) if carried else files(spool)
    assert both == {1: "before", 2: "a", 3: "next"}
    if carried:  # a file that was carried away does not come back
        assert not seen.items() & files(spool).items()
    assert drafts(spool) == []


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    ran = run_here(f"kill_at_random({str(tmp_path)!r}, {seed})")
    assert (ran.stderr, ran.returncode) == ("", 0), f"seed {seed}"
    written = int(ran.stdout)
    assert list(files(tmp_path)) == list(range(1, written + 1)), f"seed {seed}"
    assert set(files(tmp_path).values()) == {f"b{number}" for number in range(written)}


def kill_at_random(root: str, seed: int, kills: int = 20) -> None:
    chance = random.Random(seed)  # noqa: S311 - a fault plan
    spool = Path(root)
    after = 0

    def write() -> None:
        for number in range(after, 1_000_000):
            send(spool, batch(f"b{number}"))

    for _ in range(kills):
        pid = forked(write)
        time.sleep(chance.uniform(0.0, 0.06))  # the moment of the kill, not a wait for something
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == KILLED
        seen = {int(batch_id[1:]) for batch_id in files(spool).values()}
        after = max(seen, default=-1) + 1
        # The batch in doubt is the last one seen, or the one after it.
        for number in range(max(0, after - 1), after + 1):
            assert send(spool, batch(f"b{number}")).answer is Answer.HANDED_OVER
        after += 1
    print(after)


def test_many_writers_at_once_give_each_batch_one_file_without_gaps(tmp_path: Path) -> None:
    ids = [f"b{number}" for number in range(24)]
    with ThreadPoolExecutor(2) as pool:
        calls = [f"write_all({str(tmp_path)!r}, {seed})" for seed in (1, 2)]
        others = [pool.submit(run_here, call) for call in calls]
        write_all(str(tmp_path), 3)
    assert [(each.result().stderr, each.result().returncode) for each in others] == [("", 0)] * 2
    found = files(tmp_path)
    assert list(found) == list(range(1, len(ids) + 1))
    assert sorted(found.values()) == sorted(ids)
    assert sorted((tmp_path / SEQUENCE).read_text().split()) == sorted(
        path.name for path in tmp_path.glob("*.ndjson")
    )
    assert drafts(tmp_path) == []


def write_all(root: str, seed: int) -> None:
    """Write the same batches from three threads, each in an order of its own."""

    def write(chance: random.Random) -> None:
        ids = [f"b{number}" for number in range(24)]
        chance.shuffle(ids)
        for batch_id in ids:
            while send(Path(root), batch(batch_id)).answer is not Answer.HANDED_OVER:
                pass

    threads = [
        threading.Thread(target=write, args=(random.Random(10 * seed + number),))  # noqa: S311
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_disk_that_takes_half_a_file_shows_none(tmp_path: Path) -> None:
    send(tmp_path, batch("before"))
    ran = run_here(f"write_within({str(tmp_path)!r}, 700)")
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout.strip() == "not_applied 00000002-a.ndjson was not written: File too large"
    assert files(tmp_path) == {1: "before"}
    assert drafts(tmp_path) == []
    assert send(tmp_path, batch("a")).why == "written to 00000002-a.ndjson"


def test_a_note_for_which_there_is_no_space_leaves_the_batch_in_doubt_and_safe(
    tmp_path: Path,
) -> None:
    for number in range(30):
        send(tmp_path, batch(f"{number}" * 30))
    size = (tmp_path / SEQUENCE).stat().st_size
    assert len(batch("a").body) + 600 < size
    ran = run_here(f"write_within({str(tmp_path)!r}, {size + 9})")
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout.startswith("unknown 00000031-a.ndjson may not be written")
    assert (tmp_path / SEQUENCE).stat().st_size == size + 9
    assert 31 not in files(tmp_path)
    assert send(tmp_path, batch("a")).why == "written to 00000031-a.ndjson"
    assert files(tmp_path)[31] == "a"
    assert drafts(tmp_path) == []


def write_within(root: str, bytes_max: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
    verdict = send(Path(root), batch("a"))
    print(verdict.answer, verdict.why)


def run_here(call: str) -> subprocess.CompletedProcess[str]:
    """Run a function of this file in a process of its own, of one thread, that may fork."""
    return subprocess.run(
        [sys.executable, "-c", f"from tests.upstream import test_spooling_crashes as t; t.{call}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def struck(at: int, blow: Callable[[], object], *, after: bool) -> Iterator[list[str]]:
    """Strike at the step with number `at`, before or after it is done; gives the steps begun."""
    begun: list[str] = []
    originals = {name: getattr(os, name) for name in STEPS}

    def step(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begun.append(name)
            mine = len(begun) - 1 == at
            if mine and not after:
                blow()
            done = None
            try:
                done = originals[name](*arguments, **options)
            finally:
                if mine and after:
                    if name == "open" and done is not None:
                        os.close(done)
                    blow()
            return done

        return call

    try:
        for name in STEPS:
            setattr(os, name, step(name))
        yield begun
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
