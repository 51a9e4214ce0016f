"""Charts: well formed whatever they are of, each value where its number says, no name is markup."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import UNITS_MAX
from gateway.web.ui.charts import COLUMNS_MAX, Series, columns, meter
from tests.web.ui.visitors import XSS, XSS_IN_QUOTES, is_escaped


def parsed(chart: str) -> ElementTree.Element:
    """Read a chart as XML, which is stricter than HTML."""
    found = ElementTree.fromstring(chart).find("svg")  # noqa: S314 - our own
    assert found is not None
    return found


def bars_of(chart: str) -> list[dict[str, float]]:
    """Give the columns of a chart: those that have a title."""
    return [
        {name: float(each.attrib[name]) for name in ("x", "y", "width", "height")}
        for each in parsed(chart).findall("rect")
        if each.find("title") is not None
    ]


@given(
    st.lists(
        st.tuples(st.integers(-UNITS_MAX, UNITS_MAX), st.integers(0, UNITS_MAX)),
        max_size=COLUMNS_MAX,
    ),
    st.one_of(st.none(), st.integers(0, UNITS_MAX)),
)
def test_every_chart_is_well_formed_and_inside_its_frame(
    values: list[tuple[int, int]], bound: int | None
) -> None:
    labels = [f"d{count}" for count, _ in enumerate(values)]
    series = [Series("used", [a for a, _ in values]), Series("denied", [b for _, b in values])]
    chart = columns("Usage", labels, series, None if bound is None else ("capacity", bound))
    frame = parsed(chart)
    wide, high = float(frame.attrib["width"]), float(frame.attrib["height"])
    bars = bars_of(chart)
    assert len(bars) == 2 * len(values)
    for each in bars:
        assert each["height"] >= 0
        assert each["x"] >= 0
        assert each["x"] + each["width"] <= wide
        assert each["y"] >= 0
        assert each["y"] + each["height"] <= high


def test_a_column_is_as_high_as_its_value() -> None:
    bars = bars_of(columns("Usage", ["a", "b", "c"], [Series("used", [0, 50, 100])]))
    assert [each["height"] for each in bars] == [0, bars[2]["height"] / 2, bars[2]["height"]]
    below = bars_of(columns("Usage", ["a", "b"], [Series("used", [-50, 50])]))
    assert below[0]["height"] == below[1]["height"]
    assert below[0]["y"] == below[1]["y"] + below[1]["height"]


def test_each_value_is_told_with_its_label_and_the_chart_has_a_name() -> None:
    chart = columns("Usage of sessions", ["Mon"], [Series("used", [1_234])], ("capacity", 9_000))
    frame = parsed(chart)
    assert (frame.attrib["role"], frame.attrib["aria-label"]) == ("img", "Usage of sessions")
    assert [each.text for each in frame.iter("title")] == ["Mon: 1\u202f234 used"]
    texts = [each.text for each in frame.findall("text")]
    assert "Mon" in texts
    assert "capacity 9\u202f000" in texts


def test_things_are_each_named_and_a_long_name_is_written_over_no_other() -> None:
    names = ["api", "b" * 128, "c", "d", "e", "f", "g"]
    chart = columns("Usage", names, [Series("used", [1] * len(names))], things=True)
    written = [each for each in parsed(chart).findall("text") if each.attrib.get("y") == "194"]
    assert [each.text for each in written] == ["api", "b" * 11 + "\u2026", *names[2:]]
    places = [float(each.attrib["x"]) for each in written]
    assert all(after - before >= 84 for before, after in pairwise(places))
    assert f"{'b' * 128}: 1 used" in [each.text for each in parsed(chart).iter("title")]
    days = columns("Usage", [f"2026-01-{day:02}" for day in range(1, 31)], [Series("x", [1] * 30)])
    assert float(parsed(days).attrib["width"]) < 600


def test_no_name_is_markup() -> None:
    for name in (XSS, XSS_IN_QUOTES, "]]>&'"):
        chart = columns(name, [name], [Series(name, [1])], (name, 2))
        parsed(chart)
        assert is_escaped(chart, XSS, XSS_IN_QUOTES)
        drawn = meter(0.5, name)
        ElementTree.fromstring(drawn)  # noqa: S314 - our own
        assert is_escaped(drawn)


def test_more_than_can_be_read_is_not_drawn() -> None:
    many = COLUMNS_MAX + 1
    with pytest.raises(ValueError, match="cannot be drawn"):
        columns("x", ["d"] * many, [Series("used", [1] * many)])
    with pytest.raises(ValueError, match="cannot be drawn"):
        columns("x", ["d"], [])
    with pytest.raises(ValueError, match="cannot be drawn"):
        columns("x", ["d"], [Series("a", [1])] * 3)
    with pytest.raises(ValueError, match="zip"):
        columns("x", ["d"], [Series("a", [1, 2])])


@pytest.mark.parametrize(
    ("share", "width", "kind"),
    [(0.0, 0, "fill"), (0.5, 50, "fill"), (1.0, 100, "full"), (7.5, 100, "full"), (-1, 0, "fill")],
)
def test_a_meter_is_as_full_as_its_share(share: float, width: float, kind: str) -> None:
    frame = ElementTree.fromstring(meter(share, "5 of 10"))  # noqa: S314 - our own
    assert frame.attrib["aria-label"] == "5 of 10"
    track, filled = frame.findall("rect")
    assert track.attrib["class"] == "track"
    assert (filled.attrib["class"], float(filled.attrib["width"])) == (kind, width)


def test_what_has_no_bound_has_no_meter() -> None:
    assert meter(None, "x") == ""
