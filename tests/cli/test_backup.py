"""`backup` and `restore`: what is printed, exit codes, and whose eyes a file is for."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.core.backups import FORMAT
from gateway.core.keys import generate, public_pem
from gateway.store.opening import open_store
from tests.service.backup_house import Site
from tests.system.processes import COMMAND

pytestmark = pytest.mark.slow  # each a few commands over stores of its own

FORCED = ("--force", "--reason", "the store was lost")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "all.gwb"


def use(data_dir: Path, key: str, units: int = 5) -> None:
    async def story() -> None:
        async with open_store("embedded", data_dir, partitions=256) as store:
            site = Site(store, ("DEMO",))
            if await store.catalogues.read("DEMO") is None:
                await site.provision()
            await site.use("DEMO", "sessions", units, key)

    asyncio.run(story())


def told(data_dir: Path, *words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [*words, "--data-dir", str(data_dir)])
    assert result.exit_code == code, result.output
    return result


def verified(data_dir: Path) -> bool:
    return "conservation: OK" in told(data_dir, "verify", "--deep").stdout


def test_from_store_to_file_to_store(tmp_path: Path, data_dir: Path, out: Path) -> None:
    use(data_dir, "k1")
    said = told(data_dir, "backup", "--out", str(out)).stdout
    assert "1 instances, 1 idempotency ids" in said
    assert "it holds secrets" in said
    assert out.stat().st_mode & 0o777 == 0o600
    assert not out.with_name("all.gwb.part").exists()
    listed = told(data_dir, "backup", "--list", str(out)).stdout
    assert "DEMO" in listed
    assert "whole" in listed
    other = tmp_path / "other"
    said = told(other, "restore", str(out)).stdout
    assert "1 batches that waited to go upstream are set aside" in said
    assert "verify --deep" in said
    assert verified(other)
    assert "parked" in told(other, "forward", "list").stdout


def test_what_would_be_forgotten_is_listed_and_refused(data_dir: Path, out: Path) -> None:
    use(data_dir, "k1")
    told(data_dir, "backup", "--out", str(out))
    use(data_dir, "k2", units=7)
    for words, code in ((("--dry-run",), 1), ((), 1), (("--dry-run", *FORCED), 0)):
        refused = told(data_dir, "restore", str(out), *words, code=code)
        assert "instance DEMO would forget, since the backup:" in refused.stdout
        assert "line L1: 7 units acknowledged" in refused.stdout
    assert "nothing was changed" in told(data_dir, "restore", str(out), code=1).stderr
    assert "--reason is empty" in told(data_dir, "restore", str(out), "--force", code=2).stderr
    told(data_dir, "restore", str(out), *FORCED)
    assert verified(data_dir)
    on_record = told(data_dir, "forward", "list", "--decisions").stdout
    assert "restore --force" in on_record
    assert "L1=-7" in on_record


def test_a_bad_file_changes_nothing_and_opens_no_store(
    tmp_path: Path, data_dir: Path, out: Path
) -> None:
    use(data_dir, "k1")
    told(data_dir, "backup", "--out", str(out))
    whole = out.read_bytes()
    empty = tmp_path / "empty"
    for bad, words in (
        (whole[:-9], "cut off"),
        (whole[:60], "cut off"),
        (b"REDIS0011", "no backup"),
        (whole.replace(b"backup %d" % FORMAT, b"backup 9", 1), "in format 9"),
        (whole[:99] + bytes([whole[99] ^ 1]) + whole[100:], "changed or damaged"),
    ):
        out.write_bytes(bad)
        assert words in told(empty, "restore", str(out), code=2).stderr
        assert words in told(empty, "backup", "--list", str(out), code=2).stderr
    assert not empty.exists()
    assert "cannot be read" in told(empty, "restore", str(tmp_path / "none"), code=2).stderr


def test_what_cannot_be_written_or_is_being_written_is_told(data_dir: Path, out: Path) -> None:
    use(data_dir, "k1")
    nowhere = str(out / "x" / "y")
    assert "cannot be written" in told(data_dir, "backup", "--out", nowhere, code=2).stderr
    assert "Say either --out" in told(data_dir, "backup", code=2).stderr
    assert "no instance 'X'" in told(data_dir, "backup", "--out", str(out), "X", code=2).stderr
    assert not out.exists()
    part = out.with_name("all.gwb.part")
    assert not part.exists()
    with part.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = told(data_dir, "backup", "--out", str(out), code=2).stderr
    assert "being written by another backup" in said
    told(data_dir, "backup", "--out", str(out))  # over what a kill has left
    assert not part.exists()


def test_it_can_go_to_another_program_and_to_no_terminal(data_dir: Path, out: Path) -> None:
    use(data_dir, "k1")
    said = told(data_dir, "backup", "--out", "-")
    assert "stdout: 1 instances, 1 idempotency ids" in said.stderr
    out.write_bytes(said.stdout_bytes)
    assert "DEMO" in told(data_dir, "backup", "--list", str(out)).stdout
    said = told(data_dir, "backup", "--out", "-", "NONE", code=2)
    out.write_bytes(said.stdout_bytes)
    assert "cut off" in told(data_dir, "backup", "--list", str(out), code=2).stderr
    controller, terminal = pty.openpty()
    with os.fdopen(controller), os.fdopen(terminal, "wb") as shown:
        line = [*COMMAND, "backup", "--out", "-", "--data-dir", str(data_dir)]
        ended = subprocess.run(line, stdout=shown, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 2
    assert "for no terminal" in ended.stderr


@pytest.mark.parametrize("place", ["/", ".", "..", "/dev/full/x", "{}"])
def test_what_is_no_place_for_a_file_is_told_in_one_sentence(tmp_path: Path, place: str) -> None:
    use(tmp_path / "var", "k1")
    said = told(tmp_path / "var", "backup", "--out", place.format(tmp_path), code=2)
    assert "directory" in said.stderr.lower()
    assert isinstance(said.exception, SystemExit)
    assert not list(tmp_path.glob("*.part"))


def test_a_full_disk_is_told_in_one_sentence(data_dir: Path) -> None:
    use(data_dir, "k1")
    with Path("/dev/full").open("wb") as full:
        line = [*COMMAND, "backup", "--out", "-", "--data-dir", str(data_dir)]
        ended = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert ended.returncode == 2
    assert "The backup cannot be written: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_damaged_instance_is_named_and_the_others_can_be_kept(
    tmp_path: Path, data_dir: Path, out: Path
) -> None:
    use(data_dir, "k1")
    told(data_dir, "backup", "--out", str(out))

    async def story() -> None:
        async with open_store("embedded", data_dir, partitions=256) as store:
            await store.client.hset(store.catalogues.keys("DEMO").ledger, "seq", "three")

    asyncio.run(story())
    said = told(data_dir, "backup", "--out", str(tmp_path / "new.gwb"), code=2).stderr
    assert "Instance DEMO is damaged" in said
    said = told(data_dir, "restore", str(out), code=2).stderr
    assert "Instance DEMO of this store is damaged" in said
    assert "Nothing was changed" in said


def test_what_of_a_catalogue_would_come_back_is_listed(
    tmp_path: Path, data_dir: Path, out: Path
) -> None:
    use(data_dir, "k1")
    pem = public_pem(generate("ES256").public_key())
    (tmp_path / "k.pem").write_bytes(pem)
    told(data_dir, "keys", "add", "DEMO", "--public", str(tmp_path / "k.pem"), "--kid", "stolen")
    told(data_dir, "backup", "--out", str(out))
    told(data_dir, "keys", "revoke", "DEMO", "stolen")
    refused = told(data_dir, "restore", str(out), code=1).stdout
    assert "its catalogue, version 3" in refused
    assert "+ instance DEMO, key stolen" in refused
