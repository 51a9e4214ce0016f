"""Importing: what a licence server lists becomes a provisioning file, or is told of."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import InvalidInput
from gateway.core.importing import import_features
from gateway.core.model import LINES_MAX, LINES_PER_FEATURE_MAX, Catalogue, Model
from gateway.core.provisioning import next_catalogue
from tests.core.features_answers import (
    METERED,
    SEATS,
    catalogue,
    imported,
    left_out,
    line_of,
    refusal,
)


def test_plain_element_is_a_line_and_needs_no_words() -> None:
    made = imported(METERED, timezone="Europe/Paris")
    declared = catalogue(made)
    assert (declared.id, declared.timezone, declared.default) == ("I", "Europe/Paris", False)
    assert made.notes == ()
    assert (made.elements, made.lines) == (1, 1)
    (line,) = declared.lines
    assert (line.id, line.feature, line.version) == ("F-11", "sessions", "1.0")
    assert (line.model, line.count, line.expires_ms) == (Model.METERED, 1000, None)


def test_default_instance_is_said_to_be_it() -> None:
    assert catalogue(imported(METERED, default=True)).default


def test_same_answer_gives_the_same_file() -> None:
    assert imported(SEATS, METERED) == imported(SEATS, METERED)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"featureName": "a|b"}, "featureName 'a|b' is not 1 to 128 letters"),
        ({"featureName": 7}, "featureName 7 is not 1 to 128 letters"),
        ({"featureName": None}, "it has no featureName"),
        ({"featureVersion": "2024.SP1"}, "featureVersion '2024.SP1' is not numbers joined by"),
        ({"featureVersion": True}, "featureVersion True is not numbers joined by dots"),
        ({"featureVersion": 1.10}, "featureVersion 1.1 is not a text, and as a number it may"),
        ({"featureCount": None}, "it has no featureCount"),
        ({"featureCount": -5}, "featureCount -5 is not a whole number"),
        ({"featureCount": True}, "featureCount True is not a whole number"),
        ({"featureCount": 2**53}, "featureCount 9007199254740992 is not a whole number"),
        ({"metered": False, "concurrent": False}, "neither metered nor concurrent, a kind"),
        ({"metered": None}, "neither metered nor concurrent, a kind that is not known here"),
        ({"metered": False, "type": "NODELOCKED"}, "(type NODELOCKED)"),
        ({"meteredReusable": "maybe"}, "meteredReusable maybe is not true or false"),
        ({"expiry": "12/31/2026"}, "expiry '12/31/2026' is not a date"),
        ({"expiry": "31-foo-2026"}, "is not a date such as"),
        ({"expiry": "31-feb-2026"}, "is not a date such as"),
        ({"expiry": 1798761599}, "expiry 1798761599 is not a date"),
        ({"expiry": "1850-01-01"}, "is not a day from 1900-01-01"),
        ({"starts": "soon"}, "starts soon is not a date"),
        ({"starts": "9999-12-31"}, "is not a date that a line can start on"),
        ({"starts": "2026-06-01", "expiry": "2026-05-01"}, "is not after its start 2026-06-01"),
        ({"starts": "1950-01-01", "expiry": "1960-01-01"}, "is not after its start 1950-01-01"),
    ],
)
def test_what_would_be_a_guess_is_left_out_and_told(changes: dict[str, Any], why: str) -> None:
    notes = left_out(METERED | changes)
    assert "element 11" in notes
    assert "not carried: " in notes
    assert why in notes


def test_two_models_under_one_name_keep_the_first() -> None:
    made = imported(METERED, SEATS | {"featureName": "sessions"})
    assert [line.id for line in catalogue(made).lines] == ["F-11"]
    assert made.notes[0].startswith("element 12 (sessions): not carried: it is concurrent")


def test_lines_of_a_feature_are_bounded() -> None:
    made = imported(*(METERED | {"featureId": f"F{n}"} for n in range(LINES_PER_FEATURE_MAX + 1)))
    assert made.lines == LINES_PER_FEATURE_MAX
    assert "has 64 lines before it" in made.notes[0]


@pytest.mark.parametrize(
    ("element", "changes", "note"),
    [
        (SEATS, {"borrowInterval": 3600, "renewInterval": 1}, "renewInterval 1 s is no whole perc"),
        (SEATS, {"borrowInterval": 60, "renewInterval": 61}, "is no whole percentage of 60 s"),
        (SEATS, {"borrowInterval": -1}, "borrowInterval -1 is not a whole number"),
        (SEATS, {"borrowInterval": 10**12}, "is not seconds, at most 316224000; left out"),
        (SEATS, {"meteredUndoInterval": 60}, "counts of a concurrent line can be returned"),
        (METERED, {"used": 42}, "used 42 is not carried, the line begins at 0; post 42 once"),
        (METERED, {"used": 3, "meteredReusable": True}, "each host that holds it posts its total"),
        (SEATS, {"used": "2"}, "used 2 is not carried: the hosts that hold it ask anew here"),
        (METERED, {"used": "some"}, "used some is not a whole number"),
        (SEATS, {"reserved": 5, "assignedReserved": 3}, "reserved 5 is not carried, reservations"),
        (METERED, {"featureKind": "SUITE"}, "featureKind SUITE is not known here"),
        (METERED, {"vendorString": "x" * 257}, "is not a text of at most 256 bytes"),
        (METERED, {"notice": "a\nb"}, "notice 'a\\nb' is not a text of at most 256 bytes"),
        (METERED, {"vendor": "acme", "issued": "2026"}, "vendor, issued: left out, no answer"),
        (METERED, {"region": "eu", "zone": 1}, "region, zone: not known here and left out"),
        (METERED, {"featureVersion": ""}, "no featureVersion: written as 0"),
        (METERED, {"featureId": "a b"}, "featureId 'a b' is no id or comes twice: its line is L1"),
        (METERED, {"featureId": None}, "no featureId: its line is L1"),
    ],
)
def test_what_is_left_behind_is_told_with_what_to_do(
    element: dict[str, Any], changes: dict[str, Any], note: str
) -> None:
    _, notes = line_of(element, **changes)
    assert len(notes) == 1
    assert notes[0].startswith(f"element {element['id']} ({element['featureName']}): ")
    assert note in notes[0]


def test_what_is_true_of_several_is_told_once() -> None:
    made = imported(METERED | {"vendor": "a"}, SEATS | {"vendor": "b"})
    assert made.notes == (
        "elements 11 (sessions), 12 (editor): vendor: left out, no answer here has it; nothing to"
        " be done",
    )


def test_line_ids_are_unique_and_pass_over_those_that_are_taken() -> None:
    ids = ["L1", "x y", "L1", 7, None]
    made = imported(*(METERED | {"featureId": each} for each in ids))
    assert [line.id for line in catalogue(made).lines] == ["L1", "L2", "L3", "7", "L4"]
    assert tomllib.loads(made.text)["instance"][0]["line"][1]["id"] == "L2"


def test_element_without_an_id_is_named_by_its_place() -> None:
    notes = left_out({"featureName": "x" * 200})
    assert f"element #1 ({'x' * 64}): not carried" in notes
    assert max(map(len, notes.splitlines())) < 400


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is not JSON"),
        (b"<html>", "The file is not JSON"),
        (b"\xff\x00\xff", "The file is not JSON"),
        (b"[" * 100_000, "The file is not JSON"),
        (b'[{"featureName": NaN}]', "The file is not JSON"),
        (b'{"key": "k", "message": "Log in first"}', "an error that a server answered: 'Log in f"),
        (b'{"sessions": {"1.0": {"totalCount": 1}}}', "no array of objects"),
        (b'["sessions"]', "no array of objects"),
        (b"[]", "the server lists no features"),
        (b'[{"hostid": {}}]', "No element of the array has a featureName"),
        (b"[%s]" % b",".join([b"{}"] * (LINES_MAX + 1)), "The array has 10001 elements"),
    ],
)
def test_what_is_no_such_answer_is_one_sentence(data: bytes, sentence: str) -> None:
    (problem,) = refusal(data)
    assert sentence in problem


def test_answer_of_which_nothing_can_be_carried_is_refused_with_the_reasons() -> None:
    first, last = refusal(json.dumps([METERED | {"featureCount": None}]).encode())
    assert "element 11 (sessions): not carried: it has no featureCount" in first
    assert last == "None of the elements can become a line"


def test_instance_and_time_zone_are_checked() -> None:
    data = json.dumps([METERED]).encode()
    assert "'a b' is no instance id" in refusal(data, instance="a b")[0]
    assert "unknown time zone 'Mars/Base'" in refusal(data, timezone="Mars/Base")[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_that_shells_write_are_read(encoding: str) -> None:
    data = json.dumps([METERED]).encode(encoding)
    made = import_features(data, instance="I", timezone="UTC", default=False)
    assert made == imported(METERED)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["true", "0", "10%", "uncounted", "permanent", "2026-12-31", "31-dec-2026"]),
    st.dates().map(str),
    st.datetimes().map(str),
    st.integers(10**11, 10**15),
    st.lists(st.integers(), max_size=2),
    st.just({"a": {}}),
)
NAMES = """
    id featureId featureName featureVersion type featureKind vendor issuer issued starts notice
    expiry receivedTime featureCount used sharedUsed reserved assignedReserved unassignedReserved
    overdraftCount overdraftUsedCount uncappedOverdraft metered meteredReusable concurrent
    meteredUndoInterval uncounted borrowInterval renewInterval vendorString serialNumber
"""
GOOD = st.sampled_from([METERED, SEATS, {}])
ELEMENTS = st.builds(
    lambda base, drawn: base | drawn,
    GOOD,
    st.dictionaries(st.sampled_from(NAMES.split()) | st.text(max_size=5), VALUES, max_size=8),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ELEMENTS, max_size=5), st.sampled_from(["UTC", "Europe/Paris", "Pacific/Apia"]))
def test_any_array_of_elements_is_refused_or_gives_a_file_that_can_be_applied(
    elements: list[dict[str, Any]], timezone: str
) -> None:
    try:
        made = imported(*elements, timezone=timezone)
    except InvalidInput as error:
        problems = error.problems
    else:
        problems = ()
    if problems:
        assert all(problem.isprintable() for problem in problems)
        return
    declared = catalogue(made)
    assert len(declared.lines) == made.lines > 0
    assert all(note.isprintable() for note in made.notes)
    assert next_catalogue(Catalogue(id="I"), declared).lines
    assert made == imported(*elements, timezone=timezone)
