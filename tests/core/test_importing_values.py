"""Importing: what each member of an element becomes, in every spelling that servers use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.model import Model
from tests.core.features_answers import METERED, SEATS, catalogue, imported, line_of


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({"metered": True, "meteredReusable": True}, Model.METERED_REUSABLE),
        ({"metered": "TRUE", "meteredReusable": "false"}, Model.METERED),
        ({"metered": 1}, Model.METERED),
        ({"metered": None, "concurrent": True}, Model.CONCURRENT),
        ({"metered": False}, Model.CONCURRENT),
        ({"metered": None, "type": "metered"}, Model.METERED),
        ({"metered": None, "type": "Concurrent"}, Model.CONCURRENT),
        ({"metered": True, "concurrent": False, "type": "CONCURRENT"}, Model.METERED),
        ({"metered": None, "concurrent": False, "type": "METERED"}, Model.METERED),
    ],
)
def test_model_is_what_the_flags_say_and_else_the_type(
    changes: dict[str, Any], model: Model
) -> None:
    line, notes = line_of(METERED, **changes)
    assert (line.model, notes) == (model, ())


def test_flags_that_contradict_each_other_are_told() -> None:
    line, notes = line_of(METERED, concurrent=True)
    assert line.model is Model.METERED
    assert "metered and concurrent are both true" in notes[0]
    line, notes = line_of(METERED, metered=False, concurrent=False, uncounted=True)
    assert (line.model, line.count) == (Model.CONCURRENT, None)
    assert "neither metered nor concurrent, but uncounted" in notes[0]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"featureCount": "250"}, 250),
        ({"featureCount": 250.0}, 250),
        ({"featureCount": 0}, 0),
        ({"featureCount": "Uncounted"}, None),
        ({"featureCount": 0, "uncounted": True}, None),
        ({"featureCount": None, "uncounted": "true"}, None),
    ],
)
def test_count_is_a_number_or_a_word(changes: dict[str, Any], count: int | None) -> None:
    line, notes = line_of(METERED, **changes)
    assert (line.count, notes) == (count, ())


@pytest.mark.parametrize(
    ("changes", "overdraft", "note"),
    [
        ({"overdraftCount": 0}, "0", None),
        ({"overdraftCount": "0%"}, "0", None),
        ({"overdraftCount": "10%"}, "10%", None),
        ({"overdraftCount": "unlimited"}, "unlimited", None),
        ({"uncappedOverdraft": True, "overdraftCount": 7}, "unlimited", None),
        ({"uncappedOverdraft": True, "featureCount": "uncounted"}, "0", None),
        ({"overdraftCount": "100"}, "100", "overdraftCount 100 is carried as a number"),
        ({"overdraftCount": 2**53 - 1}, "unlimited", "is past all bounds; carried as unlimited"),
        ({"overdraftCount": -1}, "0", "taken for 0; add overdraft by hand"),
        ({"overdraftCount": "ten"}, "0", "overdraftCount ten is not a whole number"),
    ],
)
def test_overdraft_comes_in_many_forms(
    changes: dict[str, Any], overdraft: str, note: str | None
) -> None:
    line, notes = line_of(METERED, **changes)
    assert line.overdraft == overdraft
    assert len(notes) == (0 if note is None else 1)
    assert note is None or note in notes[0]


@pytest.mark.parametrize(
    ("spelled", "expires"),
    [
        ("2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        ("20261231", datetime(2027, 1, 1, tzinfo=UTC)),
        ("31-dec-2026", datetime(2027, 1, 1, tzinfo=UTC)),
        ("1-Jan-2027", datetime(2027, 1, 2, tzinfo=UTC)),
        ("2026-12-31T23:59:59.000Z", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2026-12-31T23:59:59+0100", datetime(2026, 12, 31, 22, 59, 59, tzinfo=UTC)),
        ("2026-12-31 12:00:00", datetime(2026, 12, 31, 12, tzinfo=UTC)),
        (1798761599000, datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1798761599000", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Permanent", None),
        ("9999-12-31", None),
        ("9999-12-31T23:59:59.999Z", None),
        ("1-jan-0", None),
        ("01-jan-0000", None),
    ],
)
def test_dates_are_read_in_several_spellings(spelled: object, expires: datetime | None) -> None:
    line, notes = line_of(METERED, expiry=spelled)
    assert line.expires_ms == (None if expires is None else expires.timestamp() * 1000)
    assert notes == ()


def test_days_are_those_of_the_time_zone() -> None:
    made = imported(METERED | {"starts": "2026-01-01"}, timezone="Europe/Paris")
    (line,) = catalogue(made).lines
    assert line.starts_ms == datetime(2025, 12, 31, 23, tzinfo=UTC).timestamp() * 1000


def test_missing_expiry_is_permanent_and_told() -> None:
    for expiry in (None, ""):
        line, notes = line_of(METERED, expiry=expiry)
        assert line.expires_ms is None
        assert "no expiry: carried as permanent" in notes[0]


def test_intervals_are_seconds_and_renewal_a_percentage() -> None:
    line, notes = line_of(METERED, meteredUndoInterval="3600", borrowInterval=604_800)
    assert (line.undo_ms, line.borrow_ms, notes) == (3_600_000, None, ())
    line, notes = line_of(SEATS, borrowInterval=3_601, renewInterval=360)
    assert (line.borrow_ms, line.renew_percent, notes) == (3_601_000, 10, ())
    line, notes = line_of(SEATS, borrowInterval="1w", renewInterval=90_720)
    assert (line.borrow_ms, line.renew_percent, notes) == (604_800_000, 15, ())
    line, notes = line_of(SEATS, renewInterval=302_400)  # of the instance's week
    assert (line.borrow_ms, line.renew_percent, notes) == (None, 50, ())


def test_interval_over_the_usual_maximum_raises_that() -> None:
    declared = catalogue(imported(SEATS | {"borrowInterval": 400 * 86_400}))
    assert declared.lines[0].borrow_ms == declared.borrow_max_ms == 400 * 86_400_000


def test_texts_come_along() -> None:
    line, notes = line_of(
        METERED, vendorString='a="b\\c"', serialNumber=77, issuer="acmé", notice="n", featureKind=""
    )
    assert (line.vendor_string, line.serial_number) == ('a="b\\c"', "77")
    assert (line.issuer, line.notice, notes) == ("acmé", "n", ())


@pytest.mark.parametrize(("number", "version"), [(2, "2"), (2.0, "2.0")])
def test_version_that_came_as_a_whole_number_means_one_version(
    number: object, version: str
) -> None:
    line, notes = line_of(METERED, featureVersion=number)
    assert (line.version, notes) == (version, ())


def test_text_that_came_as_a_fraction_is_not_guessed_at() -> None:
    line, notes = line_of(METERED, serialNumber=77.10)
    assert line.serial_number in (None, "")
    assert "serialNumber 77.1 is not a text" in notes[0]
