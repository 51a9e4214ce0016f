"""`schema` writes the public contract: all of it, whole files, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.cli.schema import schema
from gateway.schemas import files
from gateway.service.server import distribution_version

MADE = files(distribution_version())


@pytest.fixture(autouse=True)
def made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making YAML is what takes long, and it is always the same."""
    monkeypatch.setattr("gateway.cli.schema.files", lambda version: MADE)


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_all_files_are_written_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "a" / "schemas"
    ended = CliRunner().invoke(schema, ["--out", str(out)])

    assert ended.exit_code == 0, ended.output
    assert ended.output == f"{out}: {len(MADE)} files, {len(MADE)} changed\n"
    assert written(out) == MADE
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}


def test_the_default_is_schemas_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert CliRunner().invoke(schema).exit_code == 0
    assert written(tmp_path / "schemas") == MADE


def test_only_what_changed_is_written_and_others_are_left_alone(tmp_path: Path) -> None:
    CliRunner().invoke(schema, ["--out", str(tmp_path)])
    (tmp_path / "error.schema.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("ours")
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    ended = CliRunner().invoke(schema, ["--out", str(tmp_path)])

    assert ended.output.endswith(f"{len(MADE)} files, 1 changed\n")
    assert written(tmp_path) == MADE | {"notes.txt": b"ours"}
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"error.schema.json"}


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "file"
    out.write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["schema", "--out", str(out)])

    assert ended.value.code == 2
    assert str(out) in capsys.readouterr().err
    assert written(tmp_path) == {"file": b"mine"}


def test_a_file_that_cannot_be_replaced_leaves_no_half(tmp_path: Path) -> None:
    """Where its name is a directory's, the attempt leaves nothing beside it."""
    (tmp_path / "access-answer.schema.json").mkdir()
    (tmp_path / "access-answer.schema.json" / "inside").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(["schema", "--out", str(tmp_path)])

    assert ended.value.code == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_help_has_an_example() -> None:
    assert "cmapi-gateway schema" in CliRunner().invoke(schema, ["--help"]).output
