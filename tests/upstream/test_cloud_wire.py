"""The wire to the LicenseSpring cloud: what is signed, what is said, what is understood."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

from gateway.core.keys import private_pem
from gateway.core.model import UNITS_MAX, Reset
from gateway.core.ports import Answer
from gateway.core.usage import Batch, Choice, Row, choose_line
from gateway.upstream.licensespring import (
    LicensespringUpstream,
    call_of,
    encode,
    identity,
)
from gateway.upstream.licensespring_answers import (
    REFUSING,
    STOPPING,
    judge_refusal,
    problem_of,
    read_added,
    read_licence,
)
from gateway.upstream.licensespring_signing import (
    authorization,
    http_date,
    is_signed,
    read_http_date,
)
from tests.upstream.cloud_house import KEY, LINES, line, signing_key

UPSTREAM = LicensespringUpstream(
    name="cloud", url="https://cloud.example/", hardware_id="gateway-1", interval_s=3_600
)
LINE = {each.id: each for each in LINES}
SHARED = "kw4qSnpSwXzgiv5yxYpZZmFEd9QAeiKTQ6OuyMja"
DATE = "Tue, 07 Jun 2011 20:51:35 GMT"
LICENCE: dict[str, Any] = {
    "id": 77,
    "license_type": "consumption",
    "is_floating": False,
    "validity_period": None,
    "max_consumptions": 100,
    "total_consumptions": 29,
    "allow_unlimited_consumptions": False,
    "allow_negative_consumptions": False,
    "allow_overages": False,
    "max_overages": 0,
    "reset_consumption": True,
    "consumption_period": "monthly",
    "product_features": [
        {
            "id": 901,
            "code": "pages",
            "feature_type": "consumption",
            "max_consumption": 50,
            "total_consumptions": 11,
        }
    ],
}


def test_the_published_vector_is_what_we_sign() -> None:
    header = authorization("the-key", SHARED, DATE)
    assert header == (
        'algorithm="hmac-sha256",headers="date",'
        'signature="UDysfR6MndUZReo07Y9r+vErn8vSxrnQ5ulit18iJ/Q=",apiKey="the-key"'
    )


def test_a_date_is_written_as_it_is_read() -> None:
    assert read_http_date(DATE) == 1_307_479_895_000
    assert http_date(1_307_479_895_999) == DATE
    assert read_http_date("") is None
    assert read_http_date("Tue, 99 Jun 2011 20:51:35 GMT") is None


def test_a_signature_made_elsewhere_verifies_over_the_very_bytes() -> None:
    """The signature is made by another implementation: joserfc's RS256 over the same bytes."""
    key = signing_key()
    algorithm = JWSRegistry(algorithms=["RS256"]).get_alg("RS256")
    body = b'{"id":77,"name":"\xc3\xa9<&>"}'
    raw = algorithm.sign(body, RSAKey.import_key(private_pem(key)))
    signature = base64.b64encode(raw).decode()
    public = key.public_key()
    assert isinstance(public, RSAPublicKey)
    assert is_signed(body, signature, public)
    for wrong in ("", "x", "=" * 3_000, base64.b64encode(raw[:-1] + b"\0").decode()):
        assert not is_signed(body, wrong, public)
    assert not is_signed(body + b" ", signature, public)


def test_a_batch_says_line_feature_and_units_but_never_the_key() -> None:
    rows = (Row("L2", 1, "", 4), Row("L2", 2, "", 1))
    body = encode(Choice("", rows), LINE)
    assert json.loads(body) == {"line": "L2", "feature": "pages", "consumptions": 5}
    who = identity(UPSTREAM, LINE["L2"])
    assert who is not None
    assert KEY not in repr(who) + who.tag
    batch = Batch("b", "cloud", "D", rows, body)
    name, sent = call_of(batch, who, "7")
    assert name == "add_feature_consumption"
    assert json.loads(sent) == {
        "product": "PROD",
        "hardware_id": "gateway-1",
        "license_key": KEY,
        "consumptions": 5,
        "event": ["offline_floating_consumptions_sync"],
        "feature": "pages",
    }
    assert UPSTREAM.address(name) == "https://cloud.example/api/v4/add_feature_consumption"


@pytest.mark.parametrize(
    ("overages", "said"),
    [("0", (False, 0)), ("7", (True, 7)), ("unlimited", (True, 0)), (None, (None, None))],
)
def test_overages_go_along_only_when_a_client_changed_them(
    overages: str | None, said: tuple[Any, Any]
) -> None:
    who = identity(UPSTREAM, LINE["L1"])
    assert who is not None
    batch = Batch("b", "cloud", "D", (Row("L1", 1, "", 4),), b"")
    name, body = call_of(batch, who, overages)
    told = json.loads(body)
    assert name == "add_consumption"
    assert (told.get("allow_overages"), told.get("max_overages")) == said


def test_a_line_without_key_or_product_stands_for_no_licence() -> None:
    assert identity(UPSTREAM, line("L", "f", licensespring=None)) is None


def test_one_line_at_a_time_is_chosen_the_oldest_first_with_all_its_hosts() -> None:
    rows = [Row("L1", 9, "H:a", 3), Row("L2", 8, "H:b", -2), Row("L1", 2, "H:b", 4)]
    assert {row.line for row in choose_line(rows, LINE).rows} == {"L1"}
    assert [count.units for count in choose_line(rows, LINE).counts] == [7]
    assert choose_line(rows[:2], LINE).counts[0].units == -2
    assert choose_line(rows[:2], LINE, carried={("L2", "")}).counts[0].units == 3
    assert choose_line(rows, LINE, count_max=5).counts[0].units == 5
    assert choose_line([Row("gone", 1, "", 1)], LINE).rows == ()


def test_a_licence_is_read_with_its_features() -> None:
    found = read_licence(json.dumps(LICENCE).encode())
    assert found is not None
    main, pages = found.of(""), found.of("pages")
    assert main is not None
    assert pages is not None
    assert (main.total, main.limits.count, main.limits.reset) == (29, 100, Reset.MONTHLY)
    assert (pages.total, pages.limits.count, pages.limits.reset) == (11, 50, Reset.NONE)
    assert main.limits.seats is None
    assert found.of("cad") is None


@pytest.mark.parametrize(
    ("members", "count", "overdraft"),
    [
        ({}, 100, "0"),
        ({"max_overages": 9}, 100, "0"),
        ({"allow_overages": True, "max_overages": 9}, 100, "9"),
        ({"allow_overages": True}, 100, "unlimited"),
        ({"allow_unlimited_consumptions": True}, None, "0"),
        ({"max_consumptions": 2**64 - 1}, None, "0"),
        ({"max_consumptions": UNITS_MAX}, UNITS_MAX, "0"),
        ({"max_consumptions": "12", "allow_overages": "true", "max_overages": "3"}, 12, "3"),
    ],
)
def test_flags_become_count_and_overdraft(
    members: dict[str, Any], count: int | None, overdraft: str
) -> None:
    found = read_added(json.dumps(LICENCE | members).encode())
    assert found is not None
    assert (found.limits.count, found.limits.overdraft) == (count, overdraft)


@pytest.mark.parametrize(
    ("validity", "expires_ms"),
    [
        (None, None),
        ("2026-03-01T10:00:00Z", 1_772_359_200_000),
        ("2026-03-01T10:00:00", 1_772_359_200_000),
        ("2026-03-01", 1_772_409_600_000),  # at the midnight that ends it
    ],
)
def test_an_expiry_is_read_in_utc(validity: str | None, expires_ms: int | None) -> None:
    found = read_licence(json.dumps(LICENCE | {"validity_period": validity}).encode())
    assert found is not None
    assert found.itself.limits.expires_ms == expires_ms


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[]", b"null", b"<html>", b"\xff", b"[" * 5_000),
        json.dumps({"id": 77}).encode(),
        json.dumps(LICENCE | {"total_consumptions": None}).encode(),
        json.dumps(LICENCE | {"total_consumptions": 1.5}).encode(),
        json.dumps(LICENCE | {"total_consumptions": UNITS_MAX + 1}).encode(),
        json.dumps(LICENCE | {"total_consumptions": str(-UNITS_MAX - 1)}).encode(),
        json.dumps(LICENCE | {"consumption_period": "fortnightly"}).encode(),
        json.dumps(LICENCE | {"validity_period": "soon"}).encode(),
    ],
)
def test_what_does_not_say_a_total_is_no_answer_to_an_add(body: bytes) -> None:
    assert read_added(body) is None


def refusal(code: str, status: int = 400) -> Answer:
    body = json.dumps({"status": status, "code": code, "message": "m"}).encode()
    return judge_refusal(status, {}, body).answer


def test_codes_mean_what_the_page_says() -> None:
    assert {refusal(code) for code in STOPPING} == {Answer.STOPPED}
    assert {refusal(code) for code in REFUSING} == {Answer.REFUSED}
    assert refusal("device_not_found") is Answer.NOT_APPLIED
    for code in ("license_not_active", "unsupported_product_feature", "validation_error", "new"):
        assert refusal(code) is Answer.INVALID
    assert refusal("not_found", 404) is Answer.STOPPED
    assert refusal("internal_error", 500) is Answer.UNKNOWN
    assert judge_refusal(429, {"retry-after": "7"}, b"<html>").retry_after_s == 7
    assert judge_refusal(302, {}, b"").answer is Answer.STOPPED
    assert judge_refusal(400, {}, b"<html>").answer is Answer.INVALID


def test_a_message_reaches_a_terminal_without_what_it_would_obey() -> None:
    code, said = problem_of(json.dumps({"code": "a\x1b[2J", "message": "b\x1b[2Jc"}).encode())
    assert (code, said) == ("", "b[2Jc")
