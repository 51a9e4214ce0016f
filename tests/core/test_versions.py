"""Versions are dotted numbers: one order, and one meaning for all spellings of a number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.versions import VERSION_BYTES_MAX, canonical_version, is_version, version_key

untimed = settings(deadline=None)  # a busy machine is no failure

NUMBERS = st.lists(st.integers(0, 9_999), min_size=1, max_size=5)


def spelled(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))


@pytest.mark.parametrize("text", ["0", "1", "1.0", "00", "2024.11.3", "9" * VERSION_BYTES_MAX])
def test_dotted_digits_are_a_version(text: str) -> None:
    assert is_version(text)
    assert is_version(canonical_version(text))


NO_VERSIONS = ["", ".", "1.", ".1", "1..2", "v1", "1a", "-1", "+1", "1 ", "1\n", "1.0-rc", "²", "٣"]


@pytest.mark.parametrize("text", [*NO_VERSIONS, "9" * (VERSION_BYTES_MAX + 1)])
def test_anything_else_is_not_a_version(text: str) -> None:
    assert not is_version(text)


@pytest.mark.parametrize("text", ["1", "1.0", "1.0.0", "01", "01.00"])
def test_missing_parts_and_leading_zeros_change_nothing(text: str) -> None:
    assert version_key("1") == version_key(text)
    assert canonical_version(text) == "1"


@pytest.mark.parametrize("text", ["0", "0.0", "000"])
def test_every_zero_is_any_version(text: str) -> None:
    assert version_key(text) == ()
    assert canonical_version(text) == "0"


def test_versions_are_ordered_by_number_not_by_letter() -> None:
    texts = ["10", "1.10", "1.9.9", "0", "1.9", "2", "1"]

    assert sorted(texts, key=version_key) == ["0", "1", "1.9", "1.9.9", "1.10", "2", "10"]


@untimed
@given(NUMBERS, NUMBERS)
def test_padded_with_zeros_the_numbers_alone_decide_the_order(
    one: list[int], other: list[int]
) -> None:
    width = max(len(one), len(other))
    padded = [numbers + [0] * (width - len(numbers)) for numbers in (one, other)]

    assert (version_key(spelled(one)) < version_key(spelled(other))) == (padded[0] < padded[1])
    assert (canonical_version(spelled(one)) == canonical_version(spelled(other))) == (
        padded[0] == padded[1]
    )
