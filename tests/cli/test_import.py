"""`import`: a licence server's answer on disk becomes a file that `apply` takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.importing import FILE_BYTES_MAX, LOCAL_INSTANCE

GUIDE = Path(__file__).parents[2] / "deploy" / "MIGRATING.md"
EXAMPLE = Path(__file__).with_name("features_example.json")
EXPECTED = r"""[[instance]]
id = "EXAMPLE00001"
timezone = "Europe/Paris"

  [[instance.line]]
  id = "9f3c2a71-sessions"
  feature = "sessions"
  version = "1.0"
  count = 5000
  model = "metered"
  overdraft = 500
  starts = 2026-01-05
  expires = 2027-01-04
  undo_interval = "15m"
  issuer = "Acme Tools"

  [[instance.line]]
  id = "9f3c2a71-pages"
  feature = "pages"
  version = "1.0"
  count = "uncounted"
  model = "metered"
  starts = 2026-01-05
  expires = "permanent"
  issuer = "Acme Tools"

  [[instance.line]]
  id = "9f3c2a71-jobs"
  feature = "jobs"
  version = "0.00"
  count = 40
  model = "metered-reusable"
  starts = 2026-01-05
  expires = 2027-01-04
  borrow_interval = "1d"
  issuer = "Acme Tools"
  notice = "fair use"

  [[instance.line]]
  id = "9f3c2a71-designer"
  feature = "designer"
  version = "2.0"
  count = 12
  model = "concurrent"
  starts = 2026-01-05
  expires = 2027-01-04T22:59:59Z
  borrow_interval = "1h"
  renew_percent = 20
  vendor_string = "tier=\"gold\""
  serial_number = "40117"
  issuer = "Acme Tools"

  [[instance.line]]
  id = "L1"
  feature = "designer"
  version = "1.0"
  count = 5
  model = "concurrent"
  starts = 2024-03-01
  expires = 2025-03-01
  borrow_interval = "1h"
  issuer = "Acme Tools"
"""
NOW_S = 1_780_000_000.0  # in 2026, when only one of the lines has expired
TOLD = [
    "element 101 (sessions): overdraftCount 500 is carried as a number",
    "element 101 (sessions): used 1280 is not carried, the line begins at 0; post 1280 once",
    "element 102 (pages): used 88213 is not carried, the line begins at 0",
    "element 105 (designer): it has expired (2025-03-01): carried, but whoever asks for it is d",
    "element 104 (designer): used 3 is not carried: the hosts that hold it ask anew here",
    "element 104 (designer): reserved 4 is not carried, reservations are not built",
    "element 105 (designer): featureId '9f3c2a71-designer' is no id or comes twice: its line is L1",
    "element 106 (designer): not carried: it is metered, and an element before it makes designer c",
    "element 107 ('export|pdf'): not carried: featureName 'export|pdf' is not 1 to 128 letters",
    "element 108 (viewer): not carried: expiry '04/01/2027' is not a date such as 2026-12-31",
    "elements 101 (sessions), 102 (pages), 103 (jobs), 104 (designer), 105 (designer): vendor, is",
]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_example_becomes_a_file_and_all_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW_S)
    result = run("import", EXAMPLE, "--instance", "EXAMPLE00001", "--timezone", "Europe/Paris")
    assert (result.exit_code, result.stdout) == (0, EXPECTED)
    told = result.stderr.splitlines()
    for beginning in TOLD:
        assert any(line.startswith(beginning) for line in told), beginning
    assert len(told) == len(TOLD)


def test_imported_file_can_be_applied(tmp_path: Path) -> None:
    out = tmp_path / "example.toml"
    made = run("import", EXAMPLE, "--instance", "EXAMPLE00001", "--out", out)
    assert (made.exit_code, made.stdout) == (0, f"{out}: 5 lines of 8 elements\n")
    store = ("--data-dir", tmp_path / "var")
    dry = run("apply", out, "--dry-run", *store)
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert "+ instance EXAMPLE00001, line 9f3c2a71-pages: feature pages" in dry.stdout
    assert dry.stdout.endswith("dry run: nothing was written\n")
    applied = run("apply", out, *store)
    assert applied.stdout.endswith("instance EXAMPLE00001 is at version 1\n")
    assert run("apply", out, *store).stdout == "nothing to change\n"


@pytest.mark.parametrize("options", [[], ["--instance", "~"]])
def test_local_server_becomes_the_default_instance(options: list[str]) -> None:
    result = run("import", EXAMPLE, *options)
    assert result.exit_code == 0
    assert result.stdout.startswith(f'[[instance]]\nid = "{LOCAL_INSTANCE}"\ndefault = true\n')


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<html>", "The file is not JSON"),
        (b"{}", "no array of objects; expected the JSON array that GET /features answers"),
        (b"[]", "lists no features"),
        (b" " * (FILE_BYTES_MAX + 1), "is over 16777216 bytes"),
    ],
)
def test_what_is_no_such_answer_is_one_sentence_and_writes_nothing(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    file, out = tmp_path / "features.json", tmp_path / "out.toml"
    file.write_bytes(data)
    result = run("import", file, "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--instance", "a b"], "'a b' is no instance id"),
        (["--timezone", "Mars/Base"], "unknown time zone 'Mars/Base'"),
    ],
)
def test_options_are_checked(options: list[str], sentence: str) -> None:
    result = run("import", EXAMPLE, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.toml"
    out.write_text("edited by hand")
    result = run("import", EXAMPLE, "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{out} exists and is not overwritten; take another --out\n"
    assert out.read_text() == "edited by hand"


def test_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    result = run("import", EXAMPLE, "--out", tmp_path / "no" / "out.toml")
    assert result.exit_code == 2
    assert result.stderr.endswith("cannot be written: No such file or directory\n")


def test_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    result = run("import", tmp_path / "none.json")
    assert result.exit_code == 2
    assert "none.json cannot be read: No such file or directory" in result.stderr


def test_commands_of_the_guide_are_spelled_as_they_are_taken() -> None:
    """Each command line of deploy/MIGRATING.md names a command and options that there are."""
    lines = re.findall(
        r"^ {4,}cmapi-gateway (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line.partition(" < ")[0])
        command: click.Command | None = main
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
        command.make_context(line, words)  # raises for an option or argument that there is not
