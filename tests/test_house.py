"""The rules of the house, held by the test run: style, types, floors, sizes, the top level."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = re.compile(
    r"pyproject\.toml|README\.md|LICENSE|gateway|schemas|tests|deploy|uv\.lock|pylock\.toml|\..*"
)
LINES_MAX = 350


def _run(*command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_ruff_finds_nothing() -> None:
    """Every rule in pyproject.toml holds, and each ignore has its reason there."""
    _run("ruff", "check", ".")


def test_format_is_settled() -> None:
    """Nobody argues about layout."""
    _run("ruff", "format", "--check", ".")


def test_types_are_strict() -> None:
    """The whole package passes mypy in strict mode."""
    _run("mypy", "gateway")


def test_imports_go_down_only() -> None:
    """Floors are held, and core and protocols stay pure."""
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def test_top_level_is_fixed() -> None:
    """Documents live beside the code they tell of, not at the top."""
    odd = {name.split("/")[0] for name in _tracked()}
    assert {name for name in odd if not TOP_LEVEL.fullmatch(name)} == set()


def test_rooms_are_read_in_one_sitting() -> None:
    """No Python file is over the bound."""
    long = {
        name: lines
        for name in _tracked()
        if name.endswith(".py")
        and (ROOT / name).exists()
        and (lines := len((ROOT / name).read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_the_tree_names_no_machine() -> None:
    """No path of the machine it was written on is in the tree."""
    private = re.compile(r"/(?:work|farm|root)(?:/)(?:main|shared|\.pyenv)")
    found = [
        name
        for name in _tracked()
        if (ROOT / name).is_file() and private.search((ROOT / name).read_text(errors="replace"))
    ]
    assert found == []
