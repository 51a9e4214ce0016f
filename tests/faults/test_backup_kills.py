"""kill -9 of a backup and of a restore, wherever it falls: no half file, and no half instance."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.backing.files import MODE
from gateway.core.calls import Verdict
from gateway.protocols.backup_file import read_frames
from gateway.service.balance import audit
from gateway.store.keys import PartitionKeys
from gateway.store.opening import open_store
from gateway.store.snapshots import read_snapshot
from tests.service.backup_house import Site, backed_up
from tests.stores.servers import Server

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
PARTITIONS = 256  # as the command has it
STEPS_BETWEEN = 9
RUNS_MAX = 40
ENDED_S_MAX = 60
FORCED = ("--force", "--reason", "a test", "--outbox", "send")


def run(what: str, step: int, *command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "tests.faults.killed_backup", what, str(step), what, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        timeout=ENDED_S_MAX,
    )  # fmt: skip


def killed(ended: subprocess.CompletedProcess[str]) -> bool:
    return ended.returncode == -signal.SIGKILL


async def provisioned(server: Server, tmp_path: Path) -> Site:
    async with open_store(server.url, tmp_path, partitions=PARTITIONS) as store:
        site = Site(store)
        await site.provision()
        for name in site.names:
            for number in range(5):
                await site.use(name, "sessions", 10, f"before-{number}")
        return site


def test_a_killed_backup_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "all.gwb"
    with Server(tmp_path / "server") as server:
        asyncio.run(provisioned(server, tmp_path))
        assert killed(run("backup", 30, "--out", str(out), "--redis", server.url))
        assert not out.exists()
        assert run("backup", 0, "--out", str(out), "--redis", server.url).returncode == 0
        whole = out.read_bytes()
        assert killed(run("backup", 9, "--out", str(out), "--redis", server.url))
        assert out.read_bytes() == whole
    part = out.with_name("all.gwb.part")  # what the next run writes over
    assert part.stat().st_mode & 0o777 == MODE
    assert out.stat().st_mode & 0o777 == MODE
    with out.open("rb") as file:
        assert sum(1 for _ in read_frames(file)) > 20


def test_a_killed_restore_is_run_again_to_its_end(tmp_path: Path) -> None:
    """Between two runs each instance is as it was, or closed, or restored, with its own ids."""

    async def story(server: Server) -> int:
        out = tmp_path / "all.gwb"
        site = await provisioned(server, tmp_path)
        async with open_store(server.url, tmp_path, partitions=PARTITIONS) as store:
            site.store = store
            await asyncio.to_thread(out.write_bytes, await backed_up(store))
            for name in site.names:
                await site.use(name, "sessions", 1, "after")
            kills = 0
            for kill in range(RUNS_MAX):
                step = 1 + STEPS_BETWEEN * kill
                command = (str(out), "--redis", server.url, *FORCED)
                ended = await asyncio.to_thread(run, "restore", step, *command)
                await let_go(store.catalogues.topology.client)
                for name in site.names:
                    await is_whole(site, name)
                if not killed(ended):
                    break
                kills += 1
            assert ended.returncode == 0, ended.stderr
            fresh = Site(store)
            for name in site.names:
                assert await fresh.acked(name) == 50
                reply = await fresh.use(name, "sessions", 10, "before-3")
                assert reply.verdict is Verdict.REPLAYED
                assert (await fresh.use(name, "sessions", 1, "after")).verdict is Verdict.DONE
                assert await fresh.acked(name) == 51
            assert not await store.client.keys("gw:*:r:*")
        return kills

    with Server(tmp_path / "server") as server:
        assert asyncio.run(story(server)) > 3


async def let_go(client: object) -> None:
    """Let the leases of a process that was killed lapse at once."""
    names = [PartitionKeys(partition).lease for partition in range(PARTITIONS)]
    await client.delete(*names)  # type: ignore[attr-defined]


async def is_whole(site: Site, name: str) -> None:
    """Look at an instance between two runs: in service its ids agree with its counters."""
    store = site.store
    if await read_snapshot(store.client, store.catalogues.keys(name)) is None:
        return  # closed: in nobody's service
    await store.catalogues.read(name)
    assert (await audit(store.catalogues, name, deep=True)).differences == []
    units = await site.acked(name)
    ids = await store.client.keys(f"gw:{store.catalogues.keys(name).tag}:d:*")
    assert (units, len(ids)) in ((51, 6), (50, 5))
