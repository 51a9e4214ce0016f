"""A line's number is given once: the id of CMAPI's reads must never mean another line.

Source: protocols/cmapi.md 3.4.
"""

from __future__ import annotations

from msgspec.structs import replace

from gateway.core.model import Catalogue, Line, Model
from gateway.core.provisioning_change import difference, next_catalogue


def line(name: str, **changes: object) -> Line:
    plain = Line(id=name, feature=name, version="1.0", model=Model.METERED, count=5, capacity=5)
    return replace(plain, **changes)


def declared(*names: str) -> Catalogue:
    return Catalogue(id="I", lines=tuple(line(name) for name in names))


def applied(*files: tuple[str, ...]) -> Catalogue:
    current = Catalogue(id="I")
    for version, names in enumerate(files, 1):
        current = replace(next_catalogue(current, declared(*names)), version=version)
    return current


def numbers(catalogue: Catalogue) -> dict[str, int]:
    return {line.id: line.number for line in catalogue.lines}


def test_lines_are_numbered_in_the_order_of_the_file() -> None:
    assert numbers(applied(("z", "a", "m"))) == {"z": 1, "a": 2, "m": 3}


def test_a_line_keeps_its_number_wherever_the_file_has_it_later() -> None:
    assert numbers(applied(("z", "a"), ("b", "a", "z"))) == {"z": 1, "a": 2, "b": 3}


def test_a_line_keeps_its_number_when_something_of_it_changes() -> None:
    before = applied(("z", "a"))
    changed = Catalogue(id="I", lines=(line("a", count=7, capacity=7), line("z")))
    assert numbers(next_catalogue(before, changed)) == {"z": 1, "a": 2}


def test_the_number_of_a_retired_line_is_given_to_no_other() -> None:
    assert numbers(applied(("a", "b"), ("a",), ("a", "c"))) == {"a": 1, "b": 2, "c": 3}


def test_a_retired_line_that_returns_has_its_number_again() -> None:
    again = applied(("a", "b"), ("a",), ("b", "c"))
    assert numbers(again) == {"a": 1, "b": 2, "c": 3}
    assert not next(each for each in again.lines if each.id == "b").retired


def test_lines_that_were_applied_before_there_were_numbers_get_them_at_the_next_apply() -> None:
    former = Catalogue(id="I", version=3, lines=(line("a"), line("gone", retired=True), line("z")))
    new = next_catalogue(former, declared("z", "new", "a"))
    assert numbers(new) == {"z": 1, "new": 2, "a": 3, "gone": 4}


def test_only_the_lines_without_a_number_get_one() -> None:
    former = Catalogue(id="I", version=3, lines=(line("a", number=7), line("b")))
    assert numbers(next_catalogue(former, declared("b", "a"))) == {"a": 7, "b": 8}


def test_the_same_file_again_changes_nothing() -> None:
    once = applied(("z", "a"))
    assert next_catalogue(once, declared("z", "a")) == once


def test_a_number_is_no_change_to_tell_of() -> None:
    former = Catalogue(id="I", version=3, lines=(line("a"), line("z")))
    new = next_catalogue(former, declared("z", "a"))
    assert new != former
    assert difference(former, new) == []
    assert "number" not in " ".join(difference(Catalogue(id="I"), new))
