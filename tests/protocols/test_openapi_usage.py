"""What is written of a report, and what may be asked, is what the OpenAPI document tells of.

Every grouping of every view is written, and so is each way to ask for one.
"""

from __future__ import annotations

import itertools
import json
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.reports import Row, Sums
from gateway.core.reports_asked import UNITS, Asked, Thing, View, read_grouping
from gateway.core.reports_periods import Days, label_of
from gateway.protocols.openapi_parts import BASE, CSV, JSON
from gateway.protocols.usage_report import (
    CsvText,
    Head,
    JsonText,
    decode_capacity_query,
    decode_query,
)
from tests.contract import DOCUMENT, judge

PATH = {View.USAGE: "usage", View.DENIALS: "usage/denials", View.PEAKS: "usage/peaks"}
DAYS = Days(date(2026, 11, 1), date(2026, 11, 22))
GROUPINGS = [
    (view, ",".join(filter(None, words)))
    for view in View
    for words in itertools.product(
        ("", *UNITS), ("", *Thing), ("",) if view is View.PEAKS else ("", "code")
    )
    if any(words)
]
SUMS = (Sums(-3, 4, 1, least=2, most=2), Sums(5, 0, 0, least=2, most=3))


def operation(path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][f"{BASE}/{path}"]["get"]
    return found


def schema_of_answer(path: str, media_type: str) -> dict[str, Any]:
    found: dict[str, Any] = operation(path)["responses"]["200"]["content"][media_type]["schema"]
    return found


def parameters(path: str) -> dict[str, dict[str, Any]]:
    """Give the schema of each member of the query."""
    return {
        each["name"]: each["schema"] for each in operation(path)["parameters"] if "name" in each
    }


def head_of(asked: Asked) -> Head:
    return Head("DEMO", "UTC", DAYS, str(asked.by), asked.columns, asked.counts)


def rows_of(asked: Asked) -> list[Row]:
    by = asked.by
    return [
        Row(
            0,
            label_of(by.unit, DAYS.first) if by.unit else "",
            "sessions" if by.thing else "",
            "L1" if by.thing is Thing.LINE else "",
            "FEATURE_NOT_FOUND" if by.code else "",
            sums,
        )
        for sums in SUMS
    ]


def written(asked: Asked, *, compared: bool = False) -> dict[str, Any]:
    text = b""
    for number in range(1 + compared):
        part = JsonText(head_of(asked))
        text += b',"previous":' * number + part.begin()
        text += part.rows(rows_of(asked)) + part.end(SUMS[1])
    found: dict[str, Any] = json.loads(text + b"}" * (1 + compared))
    return found


@pytest.mark.parametrize(("view", "by"), GROUPINGS)
def test_what_is_written_has_the_documented_members_and_no_other(view: View, by: str) -> None:
    asked, _ = decode_query(f"by={by}".encode(), view)
    its_judge = judge(schema_of_answer(PATH[view], JSON), closed=True)

    its_judge.validate(written(asked))
    told = written(asked, compared=True)
    its_judge.validate(told)
    for part in (told, told["previous"]):
        for counts in (part["total"], *part["rows"]):
            for name in asked.counts:
                assert not its_judge.is_valid(_without(told, counts, name)), name
    assert not its_judge.is_valid(told | {"previous": told})


def _without(whole: dict[str, Any], counts: dict[str, Any], name: str) -> dict[str, Any]:
    """Give a copy of a report in which one object lacks a member."""
    value = counts.pop(name)
    copy: dict[str, Any] = json.loads(json.dumps(whole))
    counts[name] = value
    return copy


@pytest.mark.parametrize(("view", "by"), GROUPINGS)
def test_a_csv_has_a_documented_header(view: View, by: str) -> None:
    asked, _ = decode_query(f"by={by}&format=csv".encode(), view)
    text = CsvText(head_of(asked))
    its_judge = judge(schema_of_answer(PATH[view], CSV))

    whole = (text.begin() + text.rows(rows_of(asked))).decode()
    its_judge.validate(whole)
    assert not its_judge.is_valid("when," + whole)
    assert not its_judge.is_valid(whole.replace("\r\n", ",more\r\n", 1))


@pytest.mark.parametrize("view", View)
def test_what_a_question_is_grouped_by_is_as_documented(view: View) -> None:
    """Whatever is read fits; two of one kind cannot be told apart by a pattern, and are refused."""
    pattern = parameters(PATH[view])["by"]["pattern"]
    words = [*UNITS, *Thing, "code", "hour"]
    for many in range(1, 4):
        for said in itertools.product(words, repeat=many):
            text = ",".join(said)
            fits = re.fullmatch(pattern, text) is not None
            try:
                read_grouping(view, text)
            except BadRequest:
                kinds = {_kind(word) for word in said}
                assert not fits or len(kinds) < len(said), text
            else:
                assert fits, text


def _kind(word: str) -> str:
    return "unit" if word in UNITS else "thing" if word in (*Thing,) else word


@pytest.mark.parametrize("path", [*PATH.values(), "usage/capacity"])
def test_the_members_of_a_query_are_those_that_are_read(path: str) -> None:
    view = next((view for view, its_path in PATH.items() if its_path == path), None)
    known = parameters(path)
    for name in ("feature", "period", "from", "to", "by", "compare", "format", "limit"):
        try:
            _read(view, name, "?")
            unknown = False
        except BadRequest as refused:
            unknown = "is none of" in refused.message
        assert unknown == (name not in known), name


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_documented_word_is_read_and_no_other(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*PATH.values(), "usage/capacity"]))
    view = next((view for view, its_path in PATH.items() if its_path == path), None)
    worded = {name: schema for name, schema in parameters(path).items() if "enum" in schema}
    name = data.draw(st.sampled_from(sorted(worded)))
    words = worded[name]["enum"]

    _read(view, name, data.draw(st.sampled_from(words)))
    other = data.draw(st.text("abcdefghijklmnopqrstuvwxyz-", max_size=6).filter(_not(words)))
    with pytest.raises(BadRequest) as raised:
        _read(view, name, other)
    assert raised.value.arguments == (name,)


def _not(words: list[str]) -> Any:
    return lambda word: word not in words


def _read(view: View | None, name: str, value: str) -> None:
    query = f"{name}={value}".encode()
    if view is None:
        decode_capacity_query(query)
    else:
        decode_query(query, view)
