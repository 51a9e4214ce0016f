"""Which lines may serve a feature, in which order, and how a request becomes tables."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.calls import Row
from gateway.core.catalogue import (
    TABLES_MAX,
    CatalogueIndex,
    ResolvedWant,
    candidate_key,
    candidates,
    selects,
)
from gateway.core.model import AccessRequest, Catalogue, Code, Host, Line, Model, Want

NOW_MS = 1_795_348_800_250
HOUR_MS = 3_600_000


def line(line_id: str = "L1", **more: Any) -> Line:
    said: dict[str, Any] = {
        "feature": "editor",
        "version": "2.0",
        "model": Model.CONCURRENT,
        "count": 3,
    }
    said |= {"capacity": 3} | more
    return Line(id=line_id, **said)


def request(*wants: tuple[str, str, int], **more: Any) -> AccessRequest:
    return AccessRequest(
        host=Host("string", "h1"), wants=tuple(Want(*want) for want in wants), **more
    )


def index(*lines: Line, **more: Any) -> CatalogueIndex:
    return CatalogueIndex(Catalogue(id="DEMO", lines=lines, **more))


def row(resolved: list[ResolvedWant], at: int = 0) -> Row:
    return resolved[0][0].table.rows[at]


def ids(lines: list[Line]) -> list[str]:
    return [each.id for each in lines]


def test_earliest_expiry_comes_first_and_permanent_last() -> None:
    lines = [line("A"), line("B", expires_ms=NOW_MS + 2), line("C", expires_ms=NOW_MS + 1)]
    assert ids(sorted(lines, key=candidate_key)) == ["C", "B", "A"]


def test_of_one_expiry_the_earliest_start_comes_first_and_one_without_start_before_it() -> None:
    lines = [line("A", starts_ms=2), line("B", starts_ms=1), line("C"), line("D", starts_ms=-5)]
    assert ids(sorted(lines, key=candidate_key)) == ["C", "D", "B", "A"]


def test_the_line_id_decides_where_all_else_is_equal() -> None:
    assert ids(sorted([line("L2"), line("L10"), line()], key=candidate_key)) == ["L1", "L10", "L2"]


@pytest.mark.parametrize(
    ("lines", "version", "code"),
    [
        ([], "0", Code.FEATURE_NOT_FOUND),
        ([line(retired=True)], "0", Code.FEATURE_NOT_FOUND),
        ([line(retired=True)], "9.0", Code.FEATURE_NOT_FOUND),
        ([line()], "2.1", Code.VERSION_TOO_HIGH),
        ([line(starts_ms=NOW_MS + 1)], "3", Code.VERSION_TOO_HIGH),
        ([line(starts_ms=NOW_MS + 1)], "2.0", Code.LICENSE_NOT_YET_VALID),
        ([line(starts_ms=NOW_MS + 2, expires_ms=NOW_MS)], "2", Code.LICENSE_NOT_YET_VALID),
        ([line(expires_ms=NOW_MS)], "2", Code.LICENSE_LAPSED),
        ([line(expires_ms=NOW_MS, selectors={"a": "b"})], "2", Code.LICENSE_LAPSED),
        ([line(selectors={"a": "b"})], "2", Code.DENIED_BY_POLICY),
        # each line falls to another filter: the last that left none is named
        (
            [line("A", version="1"), line("B", starts_ms=NOW_MS + 1)],
            "2",
            Code.LICENSE_NOT_YET_VALID,
        ),
        ([line("A", expires_ms=1), line("B", selectors={"a": "b"})], "2", Code.DENIED_BY_POLICY),
    ],
)
def test_the_filter_that_leaves_none_names_the_code(
    lines: list[Line], version: str, code: Code
) -> None:
    assert ([], code) == candidates(lines, version, {}, NOW_MS)


@pytest.mark.parametrize(
    ("more", "version"),
    [
        ({}, "0"),
        ({}, "2"),
        ({}, "2.0.0"),
        ({}, "1.99"),
        ({"starts_ms": NOW_MS}, "2"),
        ({"expires_ms": NOW_MS + 1}, "2"),
        ({"version": "10.0"}, "9.0"),
    ],
)
def test_a_line_serves_up_to_its_version_and_between_its_moments(
    more: dict[str, Any], version: str
) -> None:
    only = line(**more)
    assert ([only], None) == candidates([only], version, {}, NOW_MS)


@pytest.mark.parametrize(
    ("selectors", "asked", "admitted"),
    [
        ({}, {}, True),
        ({}, {"site": "north"}, True),
        ({"site": "north"}, {}, False),
        ({"site": "north"}, {"site": "north"}, True),
        ({"site": "north"}, {"site": "ANY"}, True),
        ({"site": "north"}, {"site": "any"}, False),
        ({"site": "north"}, {"site": "North"}, False),
        ({"site": "north", "floor": "2"}, {"site": "north"}, False),
        ({"site": "north", "floor": "2"}, {"site": "north", "floor": "ANY", "desk": "1"}, True),
        ({"site": "ANY"}, {"site": "north"}, False),
    ],
)
def test_every_selector_of_a_line_has_to_be_met(
    selectors: dict[str, str], asked: dict[str, str], admitted: bool
) -> None:
    assert admitted is selects(line(selectors=selectors), asked)
    resolved = index(line(selectors=selectors)).resolve(
        request(("editor", "0", 1), selectors=asked)
    )
    assert admitted is row(resolved).selected


def test_wants_of_one_name_share_a_table_highest_version_first() -> None:
    lines = (line("A", version="1.0"), line("B"), line("C", version="3.0"))
    asked = request(("editor", "0", 1), ("tool", "1", 4), ("editor", "2.5", 2), ("editor", "2", 3))
    (editor, editor_units), (tool, tool_units) = index(*lines).resolve(asked)
    assert editor_units == [(2, 2), (3, 3), (1, 0)]
    assert [(each.id, each.fit) for each in editor.table.rows] == [("A", 3), ("B", 2), ("C", 1)]
    assert (tool.table.rows, tool_units) == ([], [(4, 1)])
    assert (editor.rows, tool.rows) == (3, 1)  # a feature without lines is work too


def test_previews_look_at_each_version_alone() -> None:
    asked = request(("editor", "0", 5), ("editor", "2.5", 5))
    apart = index(line(), line("C", version="3.0")).resolve_apart(asked)
    assert [units for _, units in apart] == [[(0, 0)], [(0, 1)]]
    assert [[each.fit for each in table.table.rows] for table, _ in apart] == [[1, 1], [1, 0]]


def test_retired_lines_stay_in_the_table_so_that_their_holds_can_be_returned() -> None:
    resolved = index(line(), line("OLD", retired=True)).resolve(request(("editor", "0", 1)))
    assert [each.retired for each in resolved[0][0].table.rows] == [False, True]


def test_a_retired_line_of_another_model_is_left_out() -> None:
    old = line("A", retired=True, model=Model.METERED)
    assert ids(list(index(old, line()).lines_of("editor"))) == ["L1"]
    assert ids(list(index(old).lines_of("editor"))) == ["A"]


def test_the_interval_asked_for_is_part_of_the_table() -> None:
    found = index(line(borrow_ms=HOUR_MS))
    long = row(found.resolve(request(("editor", "0", 1), interval_s=7_200)))
    short = row(found.resolve(request(("editor", "0", 1), interval_s=60)))
    assert (long.interval_ms, short.interval_ms) == (HOUR_MS, 60_000)


def test_equal_questions_are_resolved_once_and_the_memo_is_bounded() -> None:
    found = index(line())
    first = found.resolve(request(("editor", "0", 1)))[0][0]
    assert first is found.resolve(request(("editor", "0", 7)))[0][0]
    for number in range(TABLES_MAX):
        found.resolve(request(("editor", str(number + 1), 1)))
    again = found.resolve(request(("editor", "0", 1)))[0][0]
    assert first is not again
    assert first.table == again.table


def test_the_wire_of_a_table_is_the_table() -> None:
    lines = (line("A", expires_ms=NOW_MS, undo_ms=5), line("B", starts_ms=NOW_MS))
    resolved = index(*lines).resolve(request(("editor", "1", 1)))[0][0]
    assert msgspec.msgpack.encode(resolved.table) == bytes(resolved.wire)
