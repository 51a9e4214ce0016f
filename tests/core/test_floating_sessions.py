"""A LicenseSpring token is HS256 as others know it, and no text but one of ours is taken for one.

Source: protocols/licensespring.md 1 and 10, RFC 7515.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import jwt
import msgspec
import pytest

from gateway.core.floating_sessions import HEADER, issue_floating, role_of, verify_floating
from gateway.core.sessions import (
    SESSION_BYTES_MAX,
    Session,
    SessionKey,
    issue_session,
    verify_session,
)

SECRET = bytes(range(64))
KEY = SessionKey(SECRET)
# Worked out here, from what the module says of it.
DERIVED = hmac.digest(SECRET, b"licensespring session", hashlib.sha512)
NOW_S = 1_767_225_600
SESSION = Session("ann", "FLOATING", frozenset({"ROLE_READ", "ROLE_ADMIN"}), NOW_S, NOW_S + 60, "")
CLAIMS: dict[str, Any] = {
    "role": "admin",
    "username": "ann",
    "iss": "FLOATING",
    "iat": NOW_S,
    "exp": NOW_S + 60,
    "roles": "ROLE_ADMIN,ROLE_READ",
}
TEXT = issue_floating(KEY, SESSION)


def verified(text: str | bytes, instance: str = "FLOATING", now_s: float = NOW_S) -> Session | None:
    return verify_floating(KEY, text, instance=instance, now_s=now_s)


def made(claims: Any, header: bytes = HEADER, key: bytes = DERIVED) -> str:
    """Make a token of any header and claims, with a MAC that is right for a key."""
    signing_input = b".".join(_b64(part) for part in (header, msgspec.json.encode(claims)))
    return (signing_input + b"." + _b64(hmac.digest(key, signing_input, "sha256"))).decode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_others_read_it_as_the_protocol_says() -> None:
    options: Any = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(TEXT, DERIVED, algorithms=["HS256"], options=options) == CLAIMS
    assert jwt.get_unverified_header(TEXT) == {"alg": "HS256", "typ": "JWT"}
    assert made(CLAIMS) == TEXT


def test_it_is_worth_its_session_at_its_own_instance_until_it_is_over() -> None:
    assert verified(TEXT) == verified(TEXT.encode()) == SESSION
    assert verified(TEXT, now_s=NOW_S + 59.9) == SESSION
    assert verified(TEXT, now_s=NOW_S + 60) is None
    assert verified(TEXT, instance="OTHER") is None
    assert verified(TEXT, instance="") is None


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","typ":"JWT"}',
        b'{"alg":"HS512","typ":"JWT"}',
        b'{"typ":"JWT","alg":"HS256"}',
        b'{"alg":"HS256","typ":"JWT","kid":"x"}',
    ],
)
def test_another_header_is_refused_with_a_mac_and_without(header: bytes) -> None:
    text = made(CLAIMS, header)
    assert verified(text) is None
    assert verified(text.rpartition(".")[0] + ".") is None


@pytest.mark.parametrize("key", [SECRET, b"", b"licensespring session", bytes(64)])
def test_another_key_is_refused(key: bytes) -> None:
    assert verified(made(CLAIMS, key=key)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"iat": NOW_S + 61},
        {"exp": "never"},
        {"exp": NOW_S + 60.5},
        {"iss": None},
        {"roles": ["ROLE_ADMIN"]},
        {"admin": True},
    ],
)
def test_other_claims_are_refused(change: dict[str, Any]) -> None:
    assert verified(made(CLAIMS | change)) is None


@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_can_be_missing(name: str) -> None:
    assert verified(made({each: CLAIMS[each] for each in CLAIMS if each != name})) is None


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b.c", "é" * 9, f"{TEXT}.", f".{TEXT}", f"{TEXT}=", f"{TEXT}\n",
     TEXT.rpartition(".")[0] + ".", TEXT + "A" * SESSION_BYTES_MAX],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    assert verified(text) is None


def test_no_character_can_be_another() -> None:
    for at, character in enumerate(TEXT):
        other = "A" if character != "A" else "B"
        assert verified(TEXT[:at] + other + TEXT[at + 1 :]) is None, at


def test_the_claim_role_gives_nobody_more_than_the_roles_do() -> None:
    found = verified(made(CLAIMS | {"role": "admin", "roles": "ROLE_READ"}))
    assert found is not None
    assert found.roles == {"ROLE_READ"}
    assert [role_of(each) for each in (["ROLE_ADMIN", "X"], ["ROLE_READ"], [])] == [
        *("admin", "user", "user"),
    ]


def test_neither_kind_of_token_is_the_other() -> None:
    assert verified(issue_session(KEY, SESSION)) is None
    assert verify_session(KEY, TEXT, instance="FLOATING", now_s=NOW_S) is None


def test_a_token_that_no_verifier_would_take_is_not_made() -> None:
    roles = frozenset(f"ROLE_{at:0200}" for at in range(SESSION_BYTES_MAX // 200))
    with pytest.raises(ValueError, match=str(SESSION_BYTES_MAX)):
        issue_floating(KEY, Session("ann", "FLOATING", roles, NOW_S, NOW_S + 60, ""))
