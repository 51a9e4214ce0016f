"""The page of threats names tests that there are, for each of the ten risks."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "gateway" / "ARCHITECTURE.md").read_text("utf-8")
THREATS = PAGE.partition("\n## Threats\n")[2].partition("\n## ")[0]
ROWS = {
    row.group(1): row.group(0)
    for row in re.finditer(r"^\| (API[0-9]+) .*\|$", THREATS, re.MULTILINE)
}


@cache
def _tests() -> dict[str, list[Path]]:
    """Find all functions that pytest would take for tests, by name."""
    found: dict[str, list[Path]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.setdefault(node.name, []).append(file)
    return found


def test_every_risk_of_the_ten_has_a_row() -> None:
    assert list(ROWS) == [f"API{number}" for number in range(1, 11)]


@pytest.mark.parametrize("risk", [f"API{number}" for number in range(1, 11)])
def test_a_risk_names_tests_and_each_of_them_is_there(risk: str) -> None:
    named = re.findall(r"`(test_\w+)`", ROWS[risk].split("|")[3])
    assert named
    for name in named:
        assert len(_tests().get(name, ())) == 1, f"{name} is {_tests().get(name, 'nowhere')}"


def test_whatever_looks_like_a_test_on_the_page_is_one() -> None:
    for name in re.findall(r"`(test_\w+)`", THREATS):
        assert name in _tests()
    for name in re.findall(r"tests/[\w/]+\.py", THREATS):
        assert (ROOT / name).is_file(), name
