"""The reads of features, member by member as the reference has them.

Source: protocols/cmapi.md 3.4 and Q14.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.errors import BadRequest
from gateway.core.importing import import_features
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model
from gateway.core.periods import DATE_MAX, expires_ms, starts_ms, zone
from gateway.core.provisioning import next_catalogue, read_provisioning
from gateway.protocols.cmapi_clients import client_of, encode_clients
from gateway.protocols.cmapi_features import (
    Feature,
    FeatureClient,
    FeatureTotals,
    Page,
    decode_active_only,
    decode_page,
    encode,
    feature_of,
    next_link,
    served_of,
    summaries_of,
)

BEGAN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000
LINE = Line(
    id="F-11",
    number=11,
    feature="sessions",
    version="1.0",
    model=Model.METERED,
    count=1000,
    capacity=1000,
    undo_ms=3_600_000,
    issuer="gateway",
    starts_ms=BEGAN,
    expires_ms=BEGAN + 365 * DAY_MS,
)
SEATS = replace(LINE, model=Model.CONCURRENT, undo_ms=0, borrow_ms=3_600_000)
WITHOUT_LIMIT = {"count": None, "capacity": UNITS_MAX}


def element(line: Line = LINE, used: int = 42, **instance: Any) -> dict[str, Any]:
    made = feature_of(line, Catalogue(id="I", **instance), used, BEGAN)
    said: dict[str, Any] = json.loads(encode(made))
    return said


def changed(line: Line = LINE, used: int = 42, **changes: Any) -> dict[str, Any]:
    return element(replace(line, **changes), used)


def test_an_element_is_the_documented_one_in_its_order() -> None:
    expected = """
    {
      "id": 11, "featureId": "F-11", "featureName": "sessions", "featureVersion": "1.0",
      "type": "METERED", "featureKind": "NORMAL_FEATURE", "vendor": "", "issuer": "gateway",
      "issued": "2026-01-01", "starts": "2026-01-01", "notice": "", "expiry": "2026-12-31",
      "receivedTime": "2026-01-01T00:00:00.000Z",
      "featureCount": 1000, "used": 42, "sharedUsed": 42,
      "reserved": 0, "assignedReserved": 0, "unassignedReserved": 0,
      "overdraftCount": 0, "overdraftUsedCount": 0, "uncappedOverdraft": false,
      "metered": true, "meteredReusable": false, "meteredUndoInterval": 3600,
      "concurrent": false, "uncounted": false, "borrowInterval": 604800, "renewInterval": 0
    }"""
    assert list(json.loads(expected).items()) == list(element().items())


@pytest.mark.parametrize(
    ("model", "kind", "flags"),
    [
        (Model.METERED, "METERED", (True, False, False)),
        (Model.METERED_REUSABLE, "METERED", (True, True, False)),
        (Model.CONCURRENT, "CONCURRENT", (False, False, True)),
    ],
)
def test_the_model_is_told_by_type_and_flags(
    model: Model, kind: str, flags: tuple[bool, bool, bool]
) -> None:
    said = changed(model=model)
    assert said["type"] == kind
    assert (said["metered"], said["meteredReusable"], said["concurrent"]) == flags


def test_a_line_without_limit_is_uncounted() -> None:
    said = changed(**WITHOUT_LIMIT)
    assert (said["featureCount"], said["uncounted"]) == ("uncounted", True)
    assert (said["overdraftCount"], said["overdraftUsedCount"]) == (0, 0)
    assert said["uncappedOverdraft"] is False


def test_overdraft_is_told_in_units_and_what_is_used_of_it() -> None:
    said = changed(used=1_030, overdraft="5%", capacity=1_050)
    assert (said["featureCount"], said["overdraftCount"]) == (1_000, 50)
    assert (said["used"], said["sharedUsed"], said["overdraftUsedCount"]) == (1_030, 1_030, 30)
    assert said["uncappedOverdraft"] is False


def test_overdraft_without_bound_is_uncapped() -> None:
    said = changed(used=1_007, overdraft="unlimited", capacity=UNITS_MAX)
    assert (said["overdraftCount"], said["overdraftUsedCount"]) == (0, 7)
    assert (said["uncappedOverdraft"], said["uncounted"]) == (True, False)


def test_intervals_are_seconds_of_a_grant_that_asked_for_none() -> None:
    assert (element(SEATS)["borrowInterval"], element(SEATS)["renewInterval"]) == (3_600, 540)
    own = changed(SEATS, borrow_ms=None)
    assert (own["borrowInterval"], own["renewInterval"]) == (604_800, 90_720)
    cut = element(SEATS, borrow_max_ms=60_000)
    assert (cut["borrowInterval"], cut["renewInterval"]) == (60, 9)
    assert changed(SEATS, model=Model.METERED_REUSABLE)["renewInterval"] == 0


def test_dates_are_days_of_the_instance() -> None:
    tz = zone("Asia/Tokyo")
    line = replace(
        LINE,
        starts_ms=starts_ms(datetime(2026, 3, 1, tzinfo=UTC).date(), tz),
        expires_ms=expires_ms(datetime(2026, 3, 31, tzinfo=UTC).date(), tz),
    )
    said = element(line, timezone="Asia/Tokyo")
    assert (said["starts"], said["issued"], said["expiry"]) == (
        "2026-03-01",
        "2026-03-01",
        "2026-03-31",
    )
    said = element(line)
    assert (said["starts"], said["expiry"]) == (
        "2026-02-28T15:00:00.000Z",
        "2026-03-31T15:00:00.000Z",
    )


def test_a_line_without_dates_has_always_been_valid_and_is_permanent() -> None:
    said = changed(starts_ms=None, expires_ms=None)
    assert (said["issued"], said["starts"], said["expiry"]) == ("", "", "permanent")


def test_the_last_moments_that_can_be_written_are() -> None:
    assert changed(expires_ms=expires_ms(DATE_MAX, zone("UTC")))["expiry"] == "9999-12-30"
    late = int(datetime(9999, 12, 31, 11, tzinfo=UTC).timestamp() * 1000)
    line = replace(LINE, expires_ms=late)
    assert element(line, timezone="Pacific/Kiritimati")["expiry"] == "9999-12-31T11:00:00.000Z"
    assert element(line)["expiry"] == "9999-12-31T11:00:00.000Z"


def test_what_is_read_can_be_imported_as_the_same_lines() -> None:
    lines = [
        LINE,
        replace(SEATS, id="F-12", feature="editor", overdraft="3", capacity=1_003),
        replace(LINE, id="F-13", feature="api", undo_ms=0, starts_ms=None, **WITHOUT_LIMIT),
        replace(SEATS, id="F-14", feature="viewer", expires_ms=BEGAN + 5, starts_ms=BEGAN + 1),
    ]
    catalogue = Catalogue(id="I", timezone="Europe/Paris")
    listed = encode([feature_of(line, catalogue, 0, BEGAN) for line in lines])
    made = import_features(listed, instance="I", timezone="Europe/Paris", default=False)
    (declared,) = read_provisioning(made.text, lambda name: b"")
    again = next_catalogue(Catalogue(id="I"), declared).lines
    assert {each.id: replace(each, number=0) for each in lines} == {
        each.id: replace(each, number=0) for each in again
    }


def test_what_a_host_has_is_the_documented_element() -> None:
    host = "STRING:plant-7"
    client = client_of(host, "GW", updated_ms=BEGAN, expires_ms=None)
    made = served_of(LINE, host, 42, client)
    said = json.loads(encode([made]))[0]
    assert list(said) == ["id", "useCount", "usageKind", "reservedCount", "client"]
    assert (said["useCount"], said["usageKind"], said["reservedCount"]) == (42, "METERED", 0)
    assert said["client"] == json.loads(encode_clients([client]))[0]
    other = served_of(SEATS, "STRING:plant-8", 1, client)
    assert other.usage_kind == "CONCURRENT"
    assert other.id != made.id


def test_totals_add_up_the_lines_of_a_name_and_version() -> None:
    found = summaries_of(
        [
            (replace(LINE, overdraft="50", capacity=1_050), 1_020),
            (replace(LINE, id="F-12", count=5, capacity=5), 9),
            (replace(LINE, id="F-13", version="1"), 0),
            (replace(LINE, id="F-14", feature="designer", version="0.00"), 2),
        ]
    )
    assert json.loads(encode(found)) == {
        "sessions": {
            "1.0": {
                "totalCount": 1_005,
                "totalUsed": 1_029,
                "totalOverdraftCount": 50,
                "totalAvailable": 30,  # what is over the capacity of one line is not another's
            },
            "1": {
                "totalCount": 1_000,
                "totalUsed": 0,
                "totalOverdraftCount": 0,
                "totalAvailable": 1_000,
            },
        },
        "designer": {
            "0.00": {
                "totalCount": 1_000,
                "totalUsed": 2,
                "totalOverdraftCount": 0,
                "totalAvailable": 998,
            }
        },
    }


def test_totals_without_limit_are_the_largest_exact_integer() -> None:
    line = replace(LINE, **WITHOUT_LIMIT)
    uncapped = replace(LINE, version="2.0", overdraft="unlimited", capacity=UNITS_MAX)
    found = summaries_of([(line, 7), (LINE, 1), (uncapped, 9)])["sessions"]
    assert found["1.0"] == FeatureTotals(UNITS_MAX, 8, 0, UNITS_MAX)
    assert found["2.0"] == FeatureTotals(1_000, 9, UNITS_MAX, UNITS_MAX - 9)
    assert summaries_of([(line, 7)])["sessions"]["1.0"].total_available == UNITS_MAX - 7


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", False),
        (b"activeOnly=false", False),
        (b"activeOnly=true", True),
        (b"x=1&activeOnly=true&x=2", True),
        (b"activeOnly=true&", True),
        (b"&x&activeOnly=true", True),
        (b"x", False),
    ],
)
def test_active_only_is_false_unless_said(query: bytes, expected: bool) -> None:
    assert decode_active_only(query) is expected


@pytest.mark.parametrize(
    "query",
    [
        b"activeOnly=1",
        b"activeOnly=",
        b"activeOnly",
        b"activeOnly=TRUE",
        b"activeOnly=true&activeOnly=true",
    ],
)
def test_active_only_is_true_or_false_and_once(query: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_active_only(query)
    assert refused.value.arguments == ("activeOnly",)


def test_a_page_has_a_default_and_bounds() -> None:
    assert decode_page(b"") == Page(1_000, 0)
    assert decode_page(b"limit=10000&after=501&x=y") == Page(10_000, 501)


@pytest.mark.parametrize(
    ("query", "member"),
    [
        (b"limit=0", "limit"),
        (b"limit=10001", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1.5", "limit"),
        (b"limit=", "limit"),
        (b"limit", "limit"),
        ("limit=٣".encode(), "query"),
        (b"limit=%D9%A3", "limit"),
        (b"limit=5&limit=5", "limit"),
        (b"after=", "after"),
        (b"after=-1", "after"),
        (b"after=99999999999999999", "after"),
    ],
)
def test_a_page_that_is_none_is_refused(query: bytes, member: str) -> None:
    with pytest.raises(BadRequest) as refused:
        decode_page(query)
    assert refused.value.arguments == (member,)


def test_the_link_is_a_query_alone() -> None:
    assert next_link(Page(2, 7), 501) == '<?limit=2&after=501>; rel="next"'


def test_schemas_tell_the_types_of_the_reference() -> None:
    _, parts = msgspec.json.schema_components([Feature, FeatureClient, FeatureTotals])
    members = parts["Feature"]["properties"]
    assert parts["Feature"]["required"] == list(element())
    count = members.pop("featureCount")["anyOf"]
    assert [each.get("type") for each in count] == ["integer", None]
    assert count[1]["enum"] == ["uncounted"]
    for name, value in element().items():
        if name in members and "enum" not in members[name]:
            expected = {bool: "boolean", int: "integer", str: "string"}[type(value)]
            assert members[name]["type"] == expected, name
    totals = parts["FeatureTotals"]["properties"].values()
    assert {each["type"] for each in totals} == {"integer"}
