"""What an access request is and means: each row of SEMANTICS 2, its valid and its invalid side."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.core.model import COUNT_MAX, AccessRequest, Host, Want
from gateway.protocols.cmapi_request import (
    ECHO_MAX,
    HOST_TYPES,
    decode_request,
    normalise,
)

HOST = {"type": "string", "value": "plant-7"}


def request_of(**members: Any) -> AccessRequest:
    """Decode a request of HOST and these members; `_` in a name stands for the hyphen."""
    return decode_request(body_of(**members))


def body_of(**members: Any) -> bytes:
    named = {name.replace("_", "-"): value for name, value in members.items()}
    return json.dumps({"hostId": HOST, **named}).encode()


def features(*entries: Any) -> dict[str, Any]:
    return {"features": list(entries)}


def feature(**members: Any) -> dict[str, Any]:
    return features({"name": "a", **members})


# --- the example of the reference, and what absence means ---


def test_the_documented_post_of_usage_is_read() -> None:
    body = b"""{
      "hostId": {"type": "string", "value": "plant-7-gateway"},
      "incremental": false, "partial": true, "borrow-interval": "0d",
      "features": [
        {"name": "sessions", "version": "1.0", "count": 42},
        {"name": "users", "version": "1.0", "count": 7}
      ],
      "selectorsDictionary": {"region": "EU"},
      "vendorDictionary": {"site": "Lyon", "batch": 118},
      "correlationId": "c-0001"
    }"""

    assert decode_request(body) == AccessRequest(
        host=Host("string", "plant-7-gateway"),
        wants=(Want("sessions", "1.0", 42), Want("users", "1.0", 7)),
        incremental=False,
        partial=True,
        interval_s=0,
        selectors={"region": "EU"},
        vendor={"site": "Lyon", "batch": 118},
        correlation_id="c-0001",
    )


def test_only_the_host_is_required() -> None:
    assert request_of() == AccessRequest(host=Host("string", "plant-7"))
    assert request_of(**feature()).wants == (Want("a", "0", 1),)


def test_null_is_absent() -> None:
    members = ["features", "incremental", "partial", "borrow_interval"]
    members += ["selectorsDictionary", "vendorDictionary", "correlationId"]

    assert request_of(**dict.fromkeys(members)) == request_of()
    assert request_of(**feature(version=None, count=None)) == request_of(**feature())


def test_unknown_members_are_ignored_at_every_level() -> None:
    body = b"""{"hostId": {"type": "user", "value": "u", "more": [1.5]}, "requestorId": {"x": null},
                "features": [{"name": "a", "colour": "red"}], "iat": 1, "jti": "j", "aud": []}"""

    assert decode_request(body) == AccessRequest(host=Host("user", "u"), wants=(Want("a", "0", 1),))


def test_of_a_member_given_twice_the_last_counts() -> None:
    host = '"hostId": {"type": "user", "value": "u"}'
    twice = f'{{{host}, "partial": 7, "features": [{{"name": "a", "count": "x", "count": 5}}],'
    twice += '"partial": true}'

    assert decode_request(twice.encode()).partial is True
    assert decode_request(twice.encode()).wants == (Want("a", "0", 5),)


def test_a_last_null_makes_a_member_absent() -> None:
    body = b'{"hostId": {"type": "user", "value": "u"}, "partial": true, "partial": null}'

    assert decode_request(body).partial is False


# --- valid side ---

LONG_KEY = "k" * 256
VALID: list[tuple[dict[str, Any], str, Any]] = [
    ({"incremental": True}, "incremental", True),
    ({"incremental": "true"}, "incremental", True),
    ({"partial": "false"}, "partial", False),
    ({"borrow_interval": "0"}, "interval_s", 0),
    ({"borrow_interval": "90"}, "interval_s", 90),
    ({"borrow_interval": "90s"}, "interval_s", 90),
    ({"borrow_interval": "30m"}, "interval_s", 1_800),
    ({"borrow_interval": "10h"}, "interval_s", 36_000),
    ({"borrow_interval": "1d"}, "interval_s", 86_400),
    ({"borrow_interval": "1w"}, "interval_s", 604_800),
    ({"borrow_interval": "3660d"}, "interval_s", 3_660 * 86_400),
    ({"borrow_interval": "0" * 50 + "7"}, "interval_s", 7),
    (feature(name="Az09._-:/ x"), "wants", (Want("Az09._-:/ x", "0", 1),)),
    (feature(name="n" * 128), "wants", (Want("n" * 128, "0", 1),)),
    (feature(version="01.2.3"), "wants", (Want("a", "01.2.3", 1),)),
    (feature(version="9" * 32), "wants", (Want("a", "9" * 32, 1),)),
    (feature(count=0), "wants", (Want("a", "0", 0),)),
    (feature(count=COUNT_MAX), "wants", (Want("a", "0", COUNT_MAX),)),
    ({"incremental": True, **feature(count=-COUNT_MAX)}, "wants", (Want("a", "0", -COUNT_MAX),)),
    ({"selectorsDictionary": {"": ""}}, "selectors", {"": ""}),
    ({"selectorsDictionary": {LONG_KEY: "v" * 256}}, "selectors", {LONG_KEY: "v" * 256}),
    ({"vendorDictionary": {"é" * 128: "é" * 128}}, "vendor", {"é" * 128: "é" * 128}),
    (
        {"vendorDictionary": {"n": -(2**63), "m": 2**63 - 1}},
        "vendor",
        {"n": -(2**63), "m": 2**63 - 1},
    ),
    ({"vendorDictionary": {"n": "1", "m": 1}}, "vendor", {"n": "1", "m": 1}),
    ({"correlationId": "!~"}, "correlation_id", "!~"),
    ({"correlationId": "x" * 255}, "correlation_id", "x" * 255),
    ({"hostId": {"type": "user", "value": "é" * 128}}, "host", Host("user", "é" * 128)),
    ({"hostId": {"type": "user", "value": " \u00a0\u2028"}}, "host", Host("user", " \u00a0\u2028")),
]


@pytest.mark.parametrize(("members", "member", "expected"), VALID)
def test_a_valid_member_is_read(members: dict[str, Any], member: str, expected: Any) -> None:
    assert getattr(request_of(**members), member) == expected


@pytest.mark.parametrize("type_", sorted(HOST_TYPES))
def test_every_host_type_is_known_in_any_case_and_kept_as_sent(type_: str) -> None:
    for spelled in (type_, type_.lower(), type_.capitalize()):
        assert request_of(hostId={"type": spelled, "value": "x"}).host == Host(spelled, "x")


def test_as_many_entries_as_allowed_are_read() -> None:
    names = [f"f{n}" for n in range(64)]

    assert len(request_of(**features(*({"name": name} for name in names))).wants) == 64
    assert len(request_of(selectorsDictionary=dict.fromkeys(names, "x")).selectors) == 64
    assert len(request_of(vendorDictionary=dict.fromkeys(names, 1)).vendor) == 64


# --- invalid side ---


def dictionary(member: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {member: {"k": value}}


# fmt: off
NO_FLAG = ["True", "FALSE", "1", "", "yes", 0, 1, 1.0, [], {}]
NO_DICTIONARY = [[], "", "x", 1, False, {f"k{n}": "v" for n in range(65)},
                 {"k" * 257: "v"}, {"é" * 129: "v"}]
INVALID: list[tuple[str, Callable[[Any], dict[str, Any]], list[Any]]] = [
    ("hostId", lambda value: {"hostId": value}, [None, "user", [], 1, True]),
    ("hostId.type", lambda value: {"hostId": {"type": value, "value": "x"}},
     [None, "", "any", "user ", "ſtring", 1, ["user"]]),
    ("hostId.value", lambda value: {"hostId": {"type": "user", "value": value}},
     [None, "", 1, ["x"], "x" * 257, "é" * 129, "a\n", "\0", "a\x1fb", "\x7f", "\x80", "\x9f"]),
    ("features", lambda value: {"features": value}, [{}, "a", 1, False, [{"name": "a"}] * 65]),
    ("features[1]", lambda value: features({"name": "a"}, value), [None, "a", 1, []]),
    ("features[0].name", lambda value: feature(name=value),
     [None, "", 1, "n" * 129, "a\n", "é", "a,b", "a\tb", "a\\b", "٣", {}]),
    ("features[0].version", lambda value: feature(version=value),
     ["", "1.", ".1", "1..2", "v1", "1\n", "٣", 1, 1.0, [], "9" * 33]),
    ("features[0].count", lambda value: feature(count=value),
     [1.0, 1.5, 1e30, True, False, "1", "", [], {},
      COUNT_MAX + 1, -COUNT_MAX - 1, 2**63, 2**64, 10**400]),
    ("features[1].count", lambda value: features({"name": "a"}, {"name": "b", "count": value}),
     [1.0]),
    ("incremental", lambda value: {"incremental": value}, NO_FLAG),
    ("partial", lambda value: {"partial": value}, NO_FLAG),
    ("borrow-interval", lambda value: {"borrow_interval": value},
     ["", "d", "1D", "1y", "-1", "+1", "1.5h", " 1", "1 d", "1d\n", "٣d", "1dd",
      "3661d", "316224001", "9" * 5_000, 0, 1, True, []]),
    ("selectorsDictionary", lambda value: {"selectorsDictionary": value}, NO_DICTIONARY),
    ("selectorsDictionary.k", dictionary("selectorsDictionary"),
     [None, 1, True, 1.0, [], {}, "v" * 257, "é" * 129]),
    ("vendorDictionary", lambda value: {"vendorDictionary": value}, NO_DICTIONARY),
    ("vendorDictionary.k", dictionary("vendorDictionary"),
     [None, True, 1.0, [], {}, "v" * 257, 2**63, -(2**63) - 1, 10**400]),
    ("correlationId", lambda value: {"correlationId": value},
     ["", " ", "a b", "a\n", "é", "\x7f", "x" * 256, 1, True, [], {}]),
]
# fmt: on


@pytest.mark.parametrize(
    ("member", "members"),
    [(member, members(value)) for member, members, values in INVALID for value in values],
)
def test_an_invalid_member_is_refused_by_name(member: str, members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        request_of(**members)

    assert refused.value.arguments == (member,)
    assert refused.value.message.startswith(f"{member} ")


def test_the_documented_refusal_has_the_documented_words() -> None:
    with pytest.raises(BadRequest, match=r"^features\[0\]\.count must be an integer$"):
        request_of(**feature(count=1.5))


@pytest.mark.parametrize(
    "members",
    [
        feature(name="S" * 5_000),
        feature(version="S" * 5_000),
        feature(count="S" * 5_000),
        {"borrow_interval": "S" * 5_000},
        {"hostId": {"type": "S" * 5_000, "value": "x"}},
        {"hostId": {"type": "user", "value": "S" * 5_000}},
        {"correlationId": "S" * 5_000},
        {"selectorsDictionary": {"S" * 100: 1}},
        {"vendorDictionary": {"S" * 64: None}},
        {"vendorDictionary": {"S" * 5_000: "x"}},
    ],
)
def test_a_refusal_repeats_next_to_nothing(members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        request_of(**members)

    assert refused.value.message.count("S") <= ECHO_MAX
    assert len(refused.value.message) < 250


# --- signs and sums ---


def test_the_same_name_and_version_is_summed_where_it_first_stood() -> None:
    request = request_of(
        **features(
            {"name": "a", "version": "1", "count": 1},
            {"name": "b", "version": "1", "count": 10},
            {"name": "a", "version": "1.0", "count": 2},
            {"name": "a", "version": "2", "count": 100},
            {"name": "a", "version": "01.0.0", "count": 3},
        )
    )

    assert request.wants == (Want("a", "1", 6), Want("b", "1", 10), Want("a", "2", 100))


def test_a_sum_over_the_bound_is_refused() -> None:
    half = {"name": "a", "count": COUNT_MAX // 2}
    assert request_of(**features(half, half)).wants == (Want("a", "0", COUNT_MAX),)

    with pytest.raises(BadRequest, match=r"^features\[2\]\.count must be from"):
        request_of(**features(half, half, {"name": "a", "version": "0.0"}))
    back = {"name": "a", "count": -COUNT_MAX}
    with pytest.raises(BadRequest, match=r"^features\[1\]\.count must be from"):
        request_of(incremental=True, **features(back, back))


def test_negative_counts_need_incremental() -> None:
    negative = features({"name": "a", "count": 1}, {"name": "b", "count": -1})

    with pytest.raises(BadRequest, match=r"^features\[1\]\.count must not be negative") as refused:
        request_of(incremental=False, **negative)
    assert refused.value.arguments == ("features[1].count",)


@pytest.mark.parametrize("other", ["a", "b"])
def test_mixed_signs_are_refused_even_where_a_sum_would_hide_them(other: str) -> None:
    mixed = features({"name": "a", "count": 5}, {"name": other, "count": -1})

    with pytest.raises(BadRequest, match="must not mix positive and negative counts"):
        request_of(incremental=True, **mixed)


def test_zero_goes_with_either_sign() -> None:
    request = request_of(
        incremental=True, **features({"name": "a", "count": -2}, {"name": "b", "count": 0})
    )

    assert request.wants == (Want("a", "0", -2), Want("b", "0", 0))


def test_one_name_in_several_versions_is_granted_but_not_returned() -> None:
    def versions(count: int) -> dict[str, Any]:
        return features(
            {"name": "a", "version": "1", "count": count},
            {"name": "a", "version": "2", "count": count},
        )

    assert len(request_of(incremental=True, **versions(1)).wants) == 2
    assert len(request_of(incremental=True, **versions(0)).wants) == 2
    with pytest.raises(BadRequest, match="several versions of a name"):
        request_of(incremental=True, **versions(-1))


def test_spellings_of_one_version_are_returned_together() -> None:
    request = request_of(
        incremental=True,
        **features(
            {"name": "a", "version": "1", "count": -1},
            {"name": "a", "version": "1.0", "count": -2},
        ),
    )

    assert request.wants == (Want("a", "1", -3),)


# --- already decoded objects: payloads of signed requests ---


def test_a_decoded_object_means_what_its_bytes_mean() -> None:
    body = body_of(partial=True, **feature(count=3), iat=1, jti="j", aud="DEMO")

    assert normalise(json.loads(body)) == decode_request(body)


@pytest.mark.parametrize(
    "members",
    [
        {"hostId": {"type": "user", "value": "\ud800"}},
        {"selectorsDictionary": {"k": "\udc00"}},
        {"vendorDictionary": {"\udc00": 1}},
        {"correlationId": "\udc00"},
        feature(name="\udc00"),
    ],
)
def test_half_a_surrogate_pair_from_a_laxer_decoder_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        normalise({"hostId": HOST, **members})

    refused.value.message.encode()  # and can be answered
