"""The spool's writer on a real disk: what is written, found again, carried away and counted."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from gateway.core.errors import InvalidInput
from gateway.core.ports import Answer, Verdict
from gateway.upstream import spooling
from gateway.upstream.spool import check_trailer, read_receipt
from gateway.upstream.spooling import LOCK, NOTES_KEPT, SEQUENCE, totals
from tests.upstream.spool_house import PUBLIC, batch, files, send


def test_a_batch_is_written_to_a_file_that_nobody_may_write(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    assert send(spool, batch("a")) == Verdict(Answer.HANDED_OVER, "written to 00000001-a.ndjson")
    assert files(spool) == {1: "a"}
    assert stat.S_IMODE(spool.stat().st_mode) & 0o027 == 0
    assert stat.S_IMODE((spool / "00000001-a.ndjson").stat().st_mode) & 0o337 == 0


def test_the_same_batch_is_found_and_not_written_again(tmp_path: Path) -> None:
    first = send(tmp_path, batch("a"))
    before = (tmp_path / "00000001-a.ndjson").stat()
    assert send(tmp_path, batch("a")) == first
    assert (tmp_path / "00000001-a.ndjson").stat() == before
    assert files(tmp_path) == {1: "a"}


def test_numbers_go_on_after_the_files_were_carried_away(tmp_path: Path) -> None:
    for batch_id in "abc":
        send(tmp_path, batch(batch_id))
    for path in tmp_path.glob("*.ndjson"):
        path.unlink()
    send(tmp_path, batch("d"))
    assert files(tmp_path) == {4: "d"}


def test_a_batch_that_was_carried_away_before_its_answer_came_is_not_written_again(
    tmp_path: Path,
) -> None:
    send(tmp_path, batch("a"))
    (tmp_path / "00000001-a.ndjson").unlink()
    assert send(tmp_path, batch("a")) == Verdict(
        Answer.HANDED_OVER, "written to 00000001-a.ndjson, which was carried away since"
    )
    assert files(tmp_path) == {}


def test_without_the_sequence_the_listing_tells_number_and_batch(tmp_path: Path) -> None:
    for batch_id in "abc":
        send(tmp_path, batch(batch_id))
    (tmp_path / SEQUENCE).unlink()
    assert send(tmp_path, batch("b")).why == "written to 00000002-b.ndjson"
    send(tmp_path, batch("d"))
    assert files(tmp_path) == {1: "a", 2: "b", 3: "c", 4: "d"}


def test_a_note_that_was_cut_short_is_no_note(tmp_path: Path) -> None:
    send(tmp_path, batch("a"))
    with (tmp_path / SEQUENCE).open("ab") as file:
        file.write(b"00000002-b.ndj")
    send(tmp_path, batch("b"))
    assert files(tmp_path) == {1: "a", 2: "b"}
    (tmp_path / "00000002-b.ndjson").unlink()
    for batch_id in "bc":
        send(tmp_path, batch(batch_id))
    assert files(tmp_path) == {1: "a", 3: "c"}


def test_the_sequence_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "NOTES_KEPT", 3)
    for number in range(20):
        send(tmp_path, batch(f"b{number}"))
        assert len((tmp_path / SEQUENCE).read_text().split()) <= 2 * 3
    assert list(files(tmp_path)) == list(range(1, 21))
    assert NOTES_KEPT >= 1_000


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "receipt.ndjson").write_text("x")
    (tmp_path / "00000002-b.ndjson.part").write_text("x")
    (tmp_path / ".00000001-a.ndjson.draft").mkdir()
    (tmp_path / "00000003-c.ndjson").mkdir()
    os.mkfifo(tmp_path / "pipe.ndjson")
    (tmp_path / "lost").symlink_to("nowhere")
    before = set(tmp_path.iterdir())
    assert send(tmp_path, batch("d")).why == "written to 00000004-d.ndjson"
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made == {"00000004-d.ndjson", LOCK, SEQUENCE}
    assert before <= set(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["changed", "cut", "another", "pipe"])
def test_a_file_that_is_not_what_was_written_stops_the_lane(tmp_path: Path, harm: str) -> None:
    send(tmp_path, batch("a"))
    path = tmp_path / "00000001-a.ndjson"
    data = path.read_bytes()
    path.unlink()
    if harm == "pipe":
        os.mkfifo(path)
    elif harm == "another":
        send(tmp_path / "elsewhere", batch("b"))
        (tmp_path / "elsewhere" / "00000001-b.ndjson").rename(path)
    else:
        path.write_bytes(data[:-9] if harm == "cut" else data.replace(b"DEMO", b"OMED", 1))
    before = {each: each.lstat() for each in tmp_path.iterdir()}
    verdict = send(tmp_path, batch("a"))
    assert verdict.answer is Answer.STOPPED
    assert verdict.why.startswith("00000001-a.ndjson")
    after = {each: each.lstat() for each in tmp_path.iterdir()}
    assert [each.st_mtime_ns for each in before.values()] == [
        each.st_mtime_ns for each in after.values()
    ]


def test_a_directory_that_cannot_be_made_or_used_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for spool, why in (
        (tmp_path / "not-mounted" / "spool", "No such file or directory"),
        (tmp_path / "file", "Not a directory"),
        (tmp_path / "file" / "spool", "Not a directory"),
    ):
        assert send(spool, batch("a")) == Verdict(
            Answer.NOT_APPLIED, f"the spool is not usable: {why}"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_writer_does_not_wait_for_ever_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "LOCK_WAIT_S", 0.0)
    with (tmp_path / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert send(tmp_path, batch("a")) == Verdict(
            Answer.NOT_APPLIED, "the spool is not usable: another writer holds it"
        )
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert send(tmp_path, batch("a")).answer is Answer.HANDED_OVER


def test_the_totals_are_those_of_the_files_of_one_upstream(tmp_path: Path) -> None:
    send(tmp_path, batch("a", units=5))
    send(tmp_path, batch("b", units=-1))
    send(tmp_path, batch("c", units=100, upstream="other"))
    shutil.copy(tmp_path / "00000001-a.ndjson", tmp_path / "00000009-a.ndjson")
    (tmp_path / "notes.txt").write_text("x")
    assert totals(tmp_path, "usb") == {("DEMO", "L1"): 12}
    assert totals(tmp_path, "other") == {("DEMO", "L1"): 300}


def test_totals_name_every_file_that_was_changed(tmp_path: Path) -> None:
    for batch_id in "abc":
        send(tmp_path, batch(batch_id))
    for name in ("00000001-a.ndjson", "00000003-c.ndjson"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(data.replace(b'"units":1', b'"units":0', 1))
    with pytest.raises(InvalidInput) as refused:
        totals(tmp_path, "usb")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "00000001-a.ndjson",
        "00000003-c.ndjson",
    ]


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs GNU coreutils")
def test_a_receiver_checks_and_receipts_with_tools_that_every_system_has(tmp_path: Path) -> None:
    for batch_id in "abc":
        send(tmp_path, batch(batch_id))

    def shell(line: str) -> str:
        ran = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
        return ran.stdout.decode()

    shell("tail -qn1 *.ndjson > receipt.ndjson.new && mv receipt.ndjson.new receipt.txt")
    receipt = read_receipt((tmp_path / "receipt.txt").read_bytes())
    assert [(each.number, each.batch) for each in receipt] == [(1, "a"), (2, "b"), (3, "c")]
    assert all(check_trailer(each, PUBLIC) for each in receipt)
    for each in receipt:
        name = f"{each.number:08d}-{each.batch}.ndjson"
        assert shell(f"head -n -1 {name} | sha256sum").split()[0] == each.sha256
        lines = (tmp_path / name).read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines[:-1]] == [
            f"{each.batch}/{row}" for row in range(each.rows)
        ]
