"""How intervals are spelled, which one wins, when a grant lapses and when to renew it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.intervals import (
    INTERVAL_S_MAX,
    effective_interval_ms,
    lapse_at_ms,
    parse_duration_ms,
    parse_interval_s,
    renew_interval_s,
    server_renew_interval_s,
)
from gateway.core.model import Catalogue, Line, Model

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_795_348_800_250  # a quarter of a second past a whole one

CATALOGUE = Catalogue(id="DEMO", borrow_ms=7 * DAY_MS, borrow_max_ms=365 * DAY_MS)
REUSABLE = [Model.CONCURRENT, Model.METERED_REUSABLE]

untimed = settings(deadline=None)  # a busy machine is no failure


def line(
    model: Model = Model.CONCURRENT, borrow_ms: int | None = None, renew_percent: int = 15
) -> Line:
    return Line(
        id="L1",
        feature="editor",
        version="1.0",
        model=model,
        count=3,
        capacity=3,
        borrow_ms=borrow_ms,
        renew_percent=renew_percent,
    )


@pytest.mark.parametrize(
    ("text", "interval_s"),
    [
        ("0", 0),
        ("0d", 0),
        ("90", 90),
        ("90s", 90),
        ("30m", 1_800),
        ("10h", 36_000),
        ("1d", 86_400),
        ("1w", 604_800),
        ("3660d", INTERVAL_S_MAX),
        (str(INTERVAL_S_MAX), INTERVAL_S_MAX),
        ("007h", 25_200),
        ("0" * 5_000 + "1h", 3_600),
    ],
)
def test_interval_is_digits_and_at_most_one_letter(text: str, interval_s: int) -> None:
    assert parse_interval_s(text) == interval_s
    assert parse_duration_ms(text) == interval_s * 1_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "1 d",
        " 1d",
        "1d ",
        "1d\n",
        "1\n",
        "1D",
        "1y",
        "25mo",
        "200ms",
        "1h30m",
        "-1d",
        "+1d",
        "1.5h",
        "1e3",
        "1_000",
        "0x10",
        "٣d",  # an Arabic-Indic digit
        "1ſ",  # a letter that is an s when case is ignored
        "²",
        "1d\0",
    ],
)
def test_malformed_interval_is_refused(text: str) -> None:
    assert parse_interval_s(text) is None
    assert parse_duration_ms(text) is None


@pytest.mark.parametrize(
    "text",
    ["3661d", f"{INTERVAL_S_MAX + 1}", "523w", "999999999w", "9" * 100_000, "1" * 5_000 + "s"],
)
def test_interval_over_3660_days_is_refused_however_long_its_digits(text: str) -> None:
    assert parse_interval_s(text) is None


@untimed
@given(st.integers(0, INTERVAL_S_MAX), st.sampled_from(["", "s"]))
def test_every_allowed_number_of_seconds_reads_back(interval_s: int, unit: str) -> None:
    assert parse_interval_s(f"{interval_s}{unit}") == interval_s


@untimed
@given(st.text(max_size=12))
def test_any_text_reads_as_a_bounded_number_or_nothing(text: str) -> None:
    interval_s = parse_interval_s(text)
    assert interval_s is None or 0 <= interval_s <= INTERVAL_S_MAX


@pytest.mark.parametrize("model", REUSABLE)
@pytest.mark.parametrize(
    ("borrow_ms", "asked_s", "interval_ms"),
    [
        (None, 3_600, HOUR_MS),  # the request's
        (None, 30 * 86_400, 7 * DAY_MS),  # the instance's default
        (2 * HOUR_MS, 3_600, HOUR_MS),
        (2 * HOUR_MS, 86_400, 2 * HOUR_MS),  # the line's
        (30 * DAY_MS, 20 * 86_400, 20 * DAY_MS),  # the line's hides the default, though longer
        (999 * DAY_MS, 999 * 86_400, 365 * DAY_MS),  # the instance's maximum
    ],
)
def test_lowest_interval_wins(
    model: Model, borrow_ms: int | None, asked_s: int, interval_ms: int
) -> None:
    assert effective_interval_ms(line(model, borrow_ms), CATALOGUE, asked_s) == interval_ms


@pytest.mark.parametrize(("borrow_ms", "interval_ms"), [(None, 7 * DAY_MS), (HOUR_MS, HOUR_MS)])
def test_asking_for_zero_is_no_preference_for_seats(
    borrow_ms: int | None, interval_ms: int
) -> None:
    assert effective_interval_ms(line(Model.CONCURRENT, borrow_ms), CATALOGUE, 0) == interval_ms


def test_maximum_cuts_the_default_too() -> None:
    strict = Catalogue(id="DEMO", borrow_ms=7 * DAY_MS, borrow_max_ms=DAY_MS)
    assert effective_interval_ms(line(), strict, 0) == DAY_MS


def test_metered_reusable_grant_asked_without_interval_lapses_at_expiry_only() -> None:
    interval_ms = effective_interval_ms(line(Model.METERED_REUSABLE, HOUR_MS), CATALOGUE, 0)
    assert interval_ms is None
    assert lapse_at_ms(NOW_MS, interval_ms, NOW_MS + 7) == NOW_MS + 7
    assert lapse_at_ms(NOW_MS, interval_ms, None) is None


@pytest.mark.parametrize("asked_s", [0, 60])
def test_metered_grant_has_no_interval(asked_s: int) -> None:
    assert effective_interval_ms(line(Model.METERED, HOUR_MS), CATALOGUE, asked_s) is None


@pytest.mark.parametrize(
    ("now_ms", "lapses_ms"),
    [(10_000, 70_000), (10_001, 71_000), (10_999, 71_000), (11_000, 71_000)],
)
def test_lapse_is_rounded_up_to_a_whole_second(now_ms: int, lapses_ms: int) -> None:
    assert lapse_at_ms(now_ms, 60_000, None) == lapses_ms


@pytest.mark.parametrize(
    ("expires_ms", "lapses_ms"),
    [(70_500, 70_500), (71_000, 71_000), (71_001, 71_000), (10_002, 10_002)],
)
def test_lapse_is_never_past_the_expiry(expires_ms: int, lapses_ms: int) -> None:
    assert lapse_at_ms(10_001, 60_000, expires_ms) == lapses_ms


@untimed
@given(st.integers(0, 2**42), st.integers(1, INTERVAL_S_MAX * 1_000))
def test_lapse_is_less_than_a_second_later_than_the_interval_says(
    now_ms: int, interval_ms: int
) -> None:
    lapses_ms = lapse_at_ms(now_ms, interval_ms, None)
    assert lapses_ms is not None
    assert lapses_ms % 1_000 == 0
    assert 0 <= lapses_ms - (now_ms + interval_ms) < 1_000


@pytest.mark.parametrize(
    ("asked_s", "percent", "renew_s"),
    [
        (0, 15, 90_720),
        (1_800, 15, 270),
        (7, 15, 1),  # 1.05 s
        (6, 15, 0),  # 0.9 s
        (1_800, 0, 0),
        (1_800, 100, 1_800),
    ],
)
def test_renewal_is_advised_after_the_lines_percentage_rounded_down(
    asked_s: int, percent: int, renew_s: int
) -> None:
    assert renew_interval_s(line(renew_percent=percent), CATALOGUE, asked_s) == renew_s


@pytest.mark.parametrize("model", [Model.METERED, Model.METERED_REUSABLE])
@pytest.mark.parametrize("asked_s", [0, 1_800])
def test_no_renewal_is_advised_for_metered(model: Model, asked_s: int) -> None:
    assert renew_interval_s(line(model), CATALOGUE, asked_s) == 0


@pytest.mark.parametrize(
    ("borrow_ms", "renew_s"), [(7 * DAY_MS, 90_720), (HOUR_MS, 540), (1_999, 0), (6_667, 1)]
)
def test_server_advises_15_percent_of_the_instances_default(borrow_ms: int, renew_s: int) -> None:
    assert server_renew_interval_s(Catalogue(id="DEMO", borrow_ms=borrow_ms)) == renew_s
