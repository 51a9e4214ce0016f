"""A cookie of the pages is one text of ours: not changed, not idle, not over, for one instance."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.base64url import encode
from gateway.core.page_sessions import (
    HEADER,
    IDLE_S,
    RENEWED_S,
    SESSION_S,
    PageSession,
    begin_page_session,
    issue_page_session,
    read_told,
    renewed,
    verify_page_session,
    write_told,
)
from gateway.core.sessions import Session, SessionKey, issue_session, verify_session

SECRET = bytes(range(64))
KEY = SessionKey(SECRET)
NOW_S = 1_767_225_600
BEGUN = Session(
    user="ann",
    instance="DEMO",
    roles=frozenset({"ROLE_READ", "ROLE_ADMIN"}),
    issued_s=NOW_S,
    expires_s=NOW_S + 86_400,
    xsrf="00000000-0000-4000-8000-000000000002",
)
SESSION = begin_page_session(BEGUN, "s1", NOW_S)
COOKIE = issue_page_session(KEY, SESSION)


def verified(text: str | bytes, instance: str = "DEMO", now_s: float = NOW_S) -> PageSession | None:
    return verify_page_session(KEY, text, instance=instance, now_s=now_s)


def test_what_is_issued_is_verified_as_it_was() -> None:
    assert verified(COOKIE) == SESSION
    assert verified(COOKIE.encode()) == SESSION


def test_it_ends_when_it_is_idle_and_at_last_however_often_it_is_used() -> None:
    assert verified(COOKIE, now_s=NOW_S + IDLE_S - 0.001) == SESSION
    assert verified(COOKIE, now_s=NOW_S + IDLE_S) is None
    session, now_s = SESSION, NOW_S
    while now_s < NOW_S + SESSION_S:
        now_s += IDLE_S - 1
        session = renewed(session, now_s) or session
        assert session.expires_s == NOW_S + SESSION_S
        assert session.idle_s <= session.expires_s
    cookie = issue_page_session(KEY, session)
    assert session.idle_s > NOW_S + SESSION_S - RENEWED_S
    assert verified(cookie, now_s=session.idle_s - 1) == session
    assert verified(cookie, now_s=NOW_S + SESSION_S) is None


def test_it_is_renewed_when_that_is_worth_a_cookie_and_stays_the_same_session() -> None:
    assert renewed(SESSION, NOW_S + RENEWED_S - 1) is None
    again = renewed(SESSION, NOW_S + RENEWED_S)
    assert again is not None
    assert again == msgspec.structs.replace(SESSION, idle_s=SESSION.idle_s + RENEWED_S)


def test_it_is_good_for_one_instance_and_one_key() -> None:
    assert verified(COOKIE, instance="OTHER") is None
    assert verified(COOKIE, instance="") is None
    other = SessionKey(bytes(64))
    assert verify_page_session(other, COOKIE, instance="DEMO", now_s=NOW_S) is None


def test_neither_a_token_nor_what_is_told_is_a_cookie_nor_the_other_way_round() -> None:
    token, told = issue_session(KEY, BEGUN), write_told(KEY, SESSION, "done")
    assert verified(token) is None
    assert verified(told) is None
    assert verify_session(KEY, COOKIE, instance="DEMO", now_s=NOW_S) is None
    assert verify_session(KEY, told, instance="DEMO", now_s=NOW_S) is None
    assert read_told(KEY, SESSION, COOKIE) == ""
    assert read_told(KEY, SESSION, token) == ""


def test_a_mac_by_the_key_of_tokens_is_none() -> None:
    signing_input = COOKIE.rpartition(".")[0].encode()
    for mac in (
        KEY.mac(signing_input),
        hmac.digest(SECRET, signing_input, "sha256"),
        hmac.digest(b"", signing_input, "sha256"),
    ):
        assert verified(signing_input + b"." + encode(mac)) is None


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","typ":"page"}',
        b'{"alg":"HS512","typ":"page"}',
        b'{"typ":"page","alg":"HS256"}',
        b'{"alg":"HS256"}',
        b"",
    ],
)
def test_no_other_header_is_taken_with_the_right_mac(header: bytes) -> None:
    assert verified(_sealed(header, _claims())) is None
    assert verified(_sealed(HEADER, _claims())) == SESSION


@pytest.mark.parametrize(
    "claims",
    [
        {"sid": None},
        {"idle": None},
        {"iss": "OTHER"},
        {"idle": "later"},
        {"more": 1},
        {"roles": ["ROLE_READ"]},
    ],
    ids=str,
)
def test_other_claims_than_ours_are_none_also_with_the_right_mac(claims: dict[str, Any]) -> None:
    said = {name: value for name, value in (_claims() | claims).items() if value is not None}
    assert verified(_sealed(HEADER, said)) is None


@given(at=st.integers(0, len(COOKIE) - 1), sign=st.characters(max_codepoint=255))
def test_no_changed_text_is_a_cookie(at: int, sign: str) -> None:
    text = COOKIE[:at] + sign + COOKIE[at + 1 :]
    assert verified(text) == (SESSION if text == COOKIE else None)


@given(st.one_of(st.text(), st.binary()))
def test_no_text_makes_it_raise(text: str | bytes) -> None:
    assert verified(text) is None
    assert read_told(KEY, SESSION, text if isinstance(text, str) else repr(text)) == ""


def test_what_is_told_is_told_to_its_session_only() -> None:
    told = write_told(KEY, SESSION, "<b>\u20ac</b>")
    assert read_told(KEY, SESSION, told) == "<b>\u20ac</b>"
    other = msgspec.structs.replace(SESSION, id="s2")
    assert read_told(KEY, other, told) == ""


def test_a_text_too_long_for_a_cookie_is_not_written() -> None:
    with pytest.raises(ValueError, match="at most"):
        write_told(KEY, SESSION, "x" * 2_048)


def _claims() -> dict[str, Any]:
    return {
        "sub": "ann",
        "iss": "DEMO",
        "iat": NOW_S,
        "exp": NOW_S + SESSION_S,
        "idle": NOW_S + IDLE_S,
        "sid": "s1",
        "roles": "ROLE_ADMIN,ROLE_READ",
        "xsrf": SESSION.xsrf,
    }


def _sealed(header: bytes, claims: dict[str, Any]) -> bytes:
    signing_input = encode(header) + b"." + encode(msgspec.json.encode(claims))
    mac = hmac.digest(KEY.mac(b"page session"), signing_input, "sha256")
    return signing_input + b"." + encode(mac)
