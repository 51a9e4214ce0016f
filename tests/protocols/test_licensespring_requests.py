"""What LicenseSpring clients send, and what is read of it. Source: protocols/licensespring.md."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gateway.core.errors import BadRequest, UserAuthFailed
from gateway.core.floating import Refusal
from gateway.core.floating_asks import Operation
from gateway.core.model import COUNT_MAX
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols import licensespring_requests as requests
from gateway.protocols.licensespring_problem import FloatingRefused
from tests.vectors.loader import ms

CONSUME, BORROW = Operation.CONSUME, Operation.BORROW


def body(**members: Any) -> bytes:
    return json.dumps({"product": "PROD", "user": "alice"} | members).encode()


def refusal(call: Any, *arguments: Any) -> Refusal:
    with pytest.raises(FloatingRefused) as raised:
        call(*arguments)
    return raised.value.refusal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, 7),
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        (None, 1),
        (COUNT_MAX, COUNT_MAX),
        (0, 0),
    ],
)
def test_an_amount_is_a_whole_number_or_its_digits(given: Any, expected: int) -> None:
    assert requests.read_v1(CONSUME, body(consumptions=given)).units == expected


@pytest.mark.parametrize(
    "given",
    [1.0, "1.0", "", " 1", "1 ", "1\n", "0x1", "1e3", "٣", True, [], {}, COUNT_MAX + 1, "9" * 20],
)
def test_any_other_amount_is_a_validation_error(given: Any) -> None:
    assert refusal(requests.read_v1, CONSUME, body(consumptions=given)) is Refusal.VALIDATION


@pytest.mark.parametrize("name", ["allow_overages", "allowOverages", "Allowe_overages"])
@pytest.mark.parametrize(
    ("given", "expected"), [(True, True), ("true", True), ("False", False), (None, None)]
)
def test_each_spelling_of_the_overages_is_read(name: str, given: Any, expected: Any) -> None:
    said = body(**{name: given, "max_overages": "3"})
    read = requests.read_v1(CONSUME, said)
    assert (read.allow_overages, read.max_overages) == (expected, 3)
    for operation in (Operation.REGISTER, Operation.CONSUME_FEATURE):
        ignored = requests.read_v1(operation, body(**{name: given}, feature="pages"))
        assert (ignored.allow_overages, ignored.max_overages) == (None, None)


@pytest.mark.parametrize("given", [-1, "-1", 1.0, "many", True])
def test_overages_are_no_less_than_nothing(given: Any) -> None:
    assert refusal(requests.read_v1, CONSUME, body(max_overages=given)) is Refusal.VALIDATION


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2029-05-06T00:00:00Z", "2029-05-06T00:00:00.000Z"),
        ("2029-05-06T02:00:00+02:00", "2029-05-06T00:00:00.000Z"),
        ("2029-05-06T00:00:00.123456789Z", "2029-05-06T00:00:00.123Z"),
        ("2029-05-06T00:00:00", "2029-05-06T00:00:00.000Z"),
        ("2029-05-06", "2029-05-06T00:00:00.000Z"),
    ],
)
def test_a_moment_is_read_in_every_spelling_that_clients_have(given: str, expected: str) -> None:
    assert requests.read_v1(BORROW, body(borrowed_until=given)).until_ms == ms(expected)


@pytest.mark.parametrize(
    "given", ["1969-12-31", "0002-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
)
def test_a_moment_however_far_is_one(given: str) -> None:
    until_ms = requests.read_v1(BORROW, body(borrowed_until=given)).until_ms
    assert until_ms is not None
    assert (until_ms < 0) == (given[0] != "9")


@pytest.mark.parametrize("given", [None, "", "0001-01-01T00:00:00Z"])
def test_no_moment_and_the_zero_moment_are_none(given: Any) -> None:
    assert requests.read_v1(BORROW, body(borrowed_until=given)).until_ms is None


@pytest.mark.parametrize("given", [7, "soon", "2029-13-01", "9" * 50, [], True])
def test_what_is_no_moment_is_told_as_a_date_that_is_not_valid(given: Any) -> None:
    assert refusal(requests.read_v1, BORROW, body(borrowed_until=given)) is Refusal.BORROW_UNTIL


def test_version_2_has_its_own_names() -> None:
    said = {"Username": "bob", "borrow_until": "2029-05-06T00:00:00Z", "feature": "cad"}
    read = requests.read_v2(Operation.REGISTER_FEATURE, "77", json.dumps(said).encode())
    assert (read.user, read.license_id, read.feature) == ("bob", 77, "cad")
    assert read.until_ms == ms("2029-05-06T00:00:00.000Z")
    assert requests.read_v2(CONSUME, "77", b"").user == ""


@pytest.mark.parametrize("given", ["None", "", "x", "-1", "1.0", "9" * 17, "77 ", "٧"])
def test_a_licence_in_a_path_that_is_no_number_is_not_found(given: str) -> None:
    assert refusal(requests.read_id, given) is Refusal.LICENSE_NOT_FOUND


@pytest.mark.parametrize(
    ("given", "expected"), [(77, 77), ("77", 77), (0, None), (None, None), ("0", None)]
)
def test_an_id_of_version_1_that_is_nothing_is_none(given: Any, expected: int | None) -> None:
    assert requests.read_v1(CONSUME, body(license_id=given)).license_id == expected


@pytest.mark.parametrize("given", ["", "é" * 129, "a" * 257, "a\x00", "a\x85", 7, [], {}, True])
def test_a_user_that_is_none_is_refused(given: Any) -> None:
    expected = Refusal.MISSING if given == "" else Refusal.VALIDATION
    assert refusal(requests.read_v1, Operation.REGISTER, body(user=given)) is expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", Refusal.INVALID_JSON),
        (b"\xff", Refusal.INVALID_JSON),
        (b'{"product": "PROD", "user": "\\ud800"}', Refusal.INVALID_JSON),
        (b'{"product": "PROD", "user": "\\udc00\\ud800"}', Refusal.INVALID_JSON),
        (b'{"product": "PROD", "user": "\xed\xa0\x80"}', Refusal.INVALID_JSON),
        (b"[" * 5_000, Refusal.INVALID_JSON),
        (b"[]", Refusal.VALIDATION),
        (b"null", Refusal.VALIDATION),
        (b"", Refusal.MISSING),
        (b"{}", Refusal.MISSING),
    ],
)
def test_a_body_that_is_no_object_is_refused(content: bytes, expected: Refusal) -> None:
    assert refusal(requests.read_v1, CONSUME, content) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", None),
        (b"PROD", "PROD"),
        (b"product=PROD", "PROD"),
        (b"product=A+B%26", "A B&"),
        (b"A%20B", "A B"),
        (b"A+B", "A B"),
        (b"product=", None),
        (b"other=1", None),
    ],
)
def test_the_filter_of_the_list_may_be_a_bare_key(query: bytes, expected: str | None) -> None:
    assert requests.read_filter(query) == expected


@pytest.mark.parametrize("query", [b"x" * 3_000, b"product=%FF", b"product=a&product=b"])
def test_a_query_that_cannot_be_read_is_refused(query: bytes) -> None:
    with pytest.raises((FloatingRefused, BadRequest)):
        requests.read_filter(query)


def _basic(text: bytes) -> str:
    return "Basic " + base64.b64encode(text).decode()


def test_basic_log_ins_are_read_and_never_shown() -> None:
    found = requests.read_basic(_basic("zoë:a:b".encode()))
    assert (found.user, found.password) == ("zoë", "a:b")
    assert "a:b" not in repr(found)
    assert "K" not in repr(requests.Added("P", "K"))


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic", "Basic !!!", "Bearer x", _basic(b"\xff:x"), _basic(b"a"), _basic(b":b"),
     _basic(b"a:" + b"x" * (PASSWORD_BYTES_MAX + 1))],
)  # fmt: skip
def test_what_is_no_basic_log_in_fails_as_a_wrong_one(header: str | None) -> None:
    with pytest.raises(UserAuthFailed):
        requests.read_basic(header)


def test_a_password_may_have_any_character_and_is_repeated_nowhere() -> None:
    found = requests.read_login(json.dumps({"username": "a", "password": "\x00\n"}).encode())
    assert found.password == "\x00\n"
    with pytest.raises(FloatingRefused) as raised:
        requests.read_login(json.dumps({"username": "a", "password": ["hidden"]}).encode())
    assert "hidden" not in str(raised.value)
