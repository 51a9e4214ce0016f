"""Writing TOML: what is written reads back as itself."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.toml_text import write_table, write_value

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
FAR = timedelta(days=500_000)
MOMENTS = st.datetimes() | st.builds(
    lambda since, tz: (datetime(2000, 1, 1, tzinfo=UTC) + since).astimezone(tz),
    st.timedeltas(-FAR, FAR),
    OFFSETS,
)
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(), st.dates(), MOMENTS)
TABLES = st.recursive(
    st.dictionaries(TEXTS, SCALARS | st.dictionaries(TEXTS, SCALARS, max_size=3), max_size=4),
    lambda inner: st.dictionaries(TEXTS, SCALARS | st.lists(inner, min_size=1, max_size=2)),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_what_is_written_as_toml_reads_back_as_itself(table: dict[str, Any]) -> None:
    assert tomllib.loads(write_table(table)) == table


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('a"b\\c\n\x7f', '"a\\"b\\\\c\\u000a\\u007f"'),
        (True, "true"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        ({}, "{}"),
        ({"a b": 1}, '{ "a b" = 1 }'),
    ],
)
def test_values_are_spelled_plainly(value: Any, written: str) -> None:
    assert write_value(value) == written


def test_text_that_is_no_unicode_is_not_written() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        write_value("\ud800")
