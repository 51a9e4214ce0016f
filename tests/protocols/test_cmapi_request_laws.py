"""Whatever bytes come, they are a request or refused; whatever the spelling, the meaning is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.fingerprint import fingerprint
from gateway.core.model import COUNT_MAX, AccessRequest
from gateway.protocols.cmapi_request import decode_preview, decode_request
from gateway.protocols.problem import render

untimed = settings(deadline=None)  # a busy machine is no failure

HOST = {"type": "string", "value": "plant-7"}


def request_of(**members: Any) -> AccessRequest:
    named = {name.replace("_", "-"): value for name, value in members.items()}
    return decode_request(json.dumps({"hostId": HOST, **named}).encode())


HOSTED = b'{"hostId": {"type": "user", "value": "u"}, '


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"true",
        b"{",
        b"{}x",
        b"{} {}",
        b"{'a': 1}",
        b'\xef\xbb\xbf{"hostId": 1}',
        '{"hostId": 1}'.encode("utf-16"),
        HOSTED + b'"x": NaN}',
        HOSTED + b'"x": Infinity}',
        HOSTED + b'"x": -Infinity}',
        HOSTED + b'"x": 1e999}',
        HOSTED + b'"x": 01}',
        HOSTED + b'"x": ' + b"9" * 5_000 + b"}",
        HOSTED + b'"x": "\xff"}',
        HOSTED + b'"x": "\xed\xa0\x80"}',
        HOSTED + b'"x": "\\ud800"}',
        HOSTED + b'"x": "\\udc00"}',
        HOSTED + b'"x": "\n"}',
        HOSTED + b'"x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        HOSTED + b'"x": ' + b'{"a":' * 12_000 + b"1" + b"}" * 12_000 + b"}",
        b"[" * 65_000,
    ],
    ids=lambda body: repr(body[:60]),
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    for decode in (decode_request, decode_preview):
        with pytest.raises(BadRequest) as refused:
            decode(body)
        assert refused.value.arguments == ("body",)
        assert len(refused.value.message) < 150


NAMES = ["hostId", "features", "incremental", "partial", "borrow-interval", "correlationId"]
NAMES += ["selectorsDictionary", "vendorDictionary", "type", "value", "name", "version", "count"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["user", "true", "1.0", "1d", "a"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=20,
)


def mostly(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is valid, and once in a while anything."""
    return st.integers(0, 19).flatmap(lambda draw: valid if draw else JSON)


NEARLY = st.fixed_dictionaries(
    {"hostId": st.just(HOST)},
    optional={
        "features": st.lists(
            st.fixed_dictionaries(
                {"name": mostly(st.sampled_from(["a", "b"]))},
                optional={
                    "version": mostly(st.sampled_from(["0", "1", "1.0"])),
                    "count": mostly(st.integers(-2, 3) | st.just(COUNT_MAX)),
                },
            ),
            max_size=4,
        ),
        "incremental": mostly(st.booleans()),
        "partial": mostly(st.booleans()),
        "borrow-interval": mostly(st.from_regex(r"[0-9]{1,4}[smhdw]?", fullmatch=True)),
        "selectorsDictionary": mostly(st.dictionaries(st.text(max_size=3), st.text(max_size=3))),
        "vendorDictionary": mostly(st.dictionaries(st.text(max_size=3), st.integers())),
        "correlationId": mostly(st.just("c-1")),
    },
)


def decoded_or_refused(
    body: bytes, decode: Callable[[bytes], AccessRequest] = decode_request
) -> AccessRequest | None:
    """Give the request, or None for a refusal that can be answered; anything else is a failure."""
    try:
        request = decode(body)
    except BadRequest as error:
        refusal = error
    else:
        assert len(fingerprint(request)) == 16
        return request
    assert len(refusal.message) < 250
    assert render(refusal)[0] == 400
    return None


@untimed
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body: bytes) -> None:
    for text in (body, HOSTED + body + b"}"):
        decoded_or_refused(text)
        decoded_or_refused(text, decode_preview)


@untimed
@given(JSON)
def test_any_json_is_a_request_or_refused(value: object) -> None:
    body = json.dumps(value).encode()

    decoded_or_refused(body)
    decoded_or_refused(body, decode_preview)


@untimed
@given(NEARLY)
def test_what_is_nearly_a_request_is_one_within_bounds_or_refused(value: dict[str, Any]) -> None:
    request = decoded_or_refused(json.dumps(value).encode())

    if request is None:
        return
    counts = [want.count for want in request.wants]
    assert all(abs(count) <= COUNT_MAX for count in counts)
    assert all(count >= 0 for count in counts) or all(count <= 0 for count in counts)
    assert request.incremental or all(count >= 0 for count in counts)


SPELLINGS: dict[str, list[str | None]] = {
    "0": ["0", "0.0", None],
    "1": ["1", "1.0", "01"],
    "1.2": ["1.2", "1.2.0", "01.02"],
}
UNITS = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(sorted(SPELLINGS))),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    min_size=1,
)


@untimed
@given(UNITS, st.data())
def test_spelling_order_and_splitting_do_not_change_the_fingerprint(
    units: dict[tuple[str, str], list[int]], data: st.DataObject
) -> None:
    whole = [
        {"name": name, "version": version, "count": sum(parts)}
        for (name, version), parts in units.items()
    ]
    split = [
        {"name": name, "version": data.draw(st.sampled_from(SPELLINGS[version])), "count": part}
        for (name, version), parts in units.items()
        for part in parts
    ]
    one = request_of(borrow_interval="3600", partial=True, features=whole)
    other = request_of(
        hostId={"type": data.draw(st.sampled_from(["STRING", "String"])), "value": "plant-7"},
        borrow_interval=data.draw(st.sampled_from(["1h", "60m", "3600s", "0060m"])),
        partial="true",
        features=data.draw(st.permutations(split)),
    )

    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize("spelled", [None, "0", "0d", "00w"])
def test_no_interval_is_an_interval_of_zero(spelled: str | None) -> None:
    assert fingerprint(request_of()) == fingerprint(request_of(borrow_interval=spelled))
