"""A cache bounded by bytes: what goes out for what comes in."""

from __future__ import annotations

from gateway.store.shelves import Shelf


def test_the_least_lately_used_goes_for_what_comes() -> None:
    shelf: Shelf[str] = Shelf(30)
    for name in "abc":
        assert shelf.put(name, name.upper(), 10) == []
    assert shelf.get("a") == "A"  # and is used by that
    assert shelf.put("d", "D", 15) == [("b", "B"), ("c", "C")]
    assert (shelf.weight, len(shelf)) == (25, 2)
    assert [shelf.get(name) for name in "abcd"] == ["A", None, None, "D"]


def test_a_name_weighs_what_it_was_put_in_with_last() -> None:
    shelf: Shelf[str] = Shelf(30)
    shelf.put("a", "long", 30)
    shelf.put("a", "s", 1)
    assert shelf.put("b", "B", 29) == []
    assert (shelf.get("a"), shelf.weight) == ("s", 30)


def test_what_is_taken_out_weighs_nothing() -> None:
    shelf: Shelf[str] = Shelf(30)
    shelf.put("a", "A", 30)
    assert (shelf.pop("a"), shelf.pop("a")) == ("A", None)
    assert (shelf.weight, len(shelf)) == (0, 0)


def test_what_is_larger_than_the_shelf_stays_until_another_comes() -> None:
    shelf: Shelf[str] = Shelf(30)
    shelf.put("a", "A", 10)
    assert shelf.put("b", "B", 31) == [("a", "A")]
    assert shelf.get("b") == "B"
    assert shelf.put("c", "C", 10) == [("b", "B")]
