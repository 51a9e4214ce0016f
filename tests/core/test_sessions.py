"""A session token is HS512 as others know it, and no text but one of ours is taken for one."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.jws import parse
from gateway.core.keyring import KeyRing
from gateway.core.keys import generate, public_der
from gateway.core.sessions import (
    SESSION_BYTES_MAX,
    Session,
    SessionKey,
    issue_session,
    verify_session,
)
from gateway.core.tokens import verify_token

SECRET = bytes(range(64))
KEY = SessionKey(SECRET)
NOW_S = 1_767_225_600
XSRF = "00000000-0000-4000-8000-000000000002"
SESSION = Session(
    user="admin",
    instance="EXAMPLE00001",
    roles=frozenset({"ROLE_READ", "ROLE_ADMIN"}),
    issued_s=NOW_S,
    expires_s=NOW_S + 86_400,
    xsrf=XSRF,
)
CLAIMS: dict[str, Any] = {
    "sub": "admin",
    "iss": "EXAMPLE00001",
    "iat": NOW_S,
    "exp": NOW_S + 86_400,
    "roles": "ROLE_ADMIN,ROLE_READ",
    "xsrfToken": XSRF,
}
TEXT = issue_session(KEY, SESSION)


def verified(text: str | bytes, instance: str = "EXAMPLE00001", now_s: float = NOW_S) -> Any:
    return verify_session(KEY, text, instance=instance, now_s=now_s)


def made(
    claims: Any = None, header: bytes = b'{"typ":"JWT","alg":"HS512"}', key: SessionKey = KEY
) -> str:
    """Make a token of any header and claims, with a MAC that is right."""
    payload = msgspec.json.encode(CLAIMS if claims is None else claims)
    signing_input = b".".join(_b64(part) for part in (header, payload))
    return (signing_input + b"." + _b64(key.mac(signing_input))).decode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_a_token_says_what_the_protocol_says() -> None:
    head, payload, _ = (
        part if at == 2 else json.loads(base64.urlsafe_b64decode(part + "=="))
        for at, part in enumerate(TEXT.split("."))
    )
    assert head == {"typ": "JWT", "alg": "HS512"}
    assert list(head) == ["typ", "alg"]
    assert payload == CLAIMS


def test_another_implementation_verifies_ours() -> None:
    options: Any = {"verify_exp": False, "verify_iat": False}
    found = jwt.decode(TEXT, SECRET, algorithms=["HS512"], issuer="EXAMPLE00001", options=options)
    assert found == CLAIMS
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(TEXT, SECRET[::-1], algorithms=["HS512"], options=options)


def test_ours_verifies_what_another_implementation_makes() -> None:
    text = jwt.encode(CLAIMS, SECRET, algorithm="HS512", sort_headers=False)
    assert verified(text) == SESSION
    assert verified(text.encode()) == SESSION
    assert made() == text


@pytest.mark.parametrize("alg", ["HS256", "HS384", "none"])
def test_the_algorithm_is_not_the_tokens_to_choose(alg: str) -> None:
    assert verified(jwt.encode(CLAIMS, "" if alg == "none" else SECRET, algorithm=alg)) is None


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS512","typ":"JWT"}',
        b'{"typ":"JWT", "alg":"HS512"}',
        b'{"typ":"JWT","alg":"HS512","kid":"x"}',
        b'{"typ":"jwt","alg":"HS512"}',
        b'{"typ":"JWT","alg":"none"}',
        b'{"alg":"HS512"}',
        b"{}",
        b"",
    ],
)
def test_only_our_header_is_one_whoever_made_the_mac(header: bytes) -> None:
    assert verified(made()) == SESSION
    assert verified(made(header=header)) is None


def test_every_other_text_of_that_length_is_refused() -> None:
    """Each character changed, which also tries the bits that base64url leaves over."""
    for at, character in enumerate(TEXT):
        other = "A" if character != "A" else "B"
        assert verified(TEXT[:at] + other + TEXT[at + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        TEXT + "=",
        TEXT + "==",
        TEXT + ".",
        "." + TEXT,
        TEXT + "\n",
        " " + TEXT,
        TEXT.replace(".", ".."),
        TEXT.rpartition(".")[0],
        TEXT.rpartition(".")[0] + ".",
        TEXT + "é",
        TEXT + "A" * SESSION_BYTES_MAX,
    ],
)
def test_what_is_not_exactly_a_token_is_refused(text: str) -> None:
    assert verified(text) is None


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=200) | st.lists(st.binary(max_size=40)).map(b".".join))
def test_no_bytes_whatever_raise(text: bytes) -> None:
    assert verified(text) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "EXAMPLE00002"},
        {"iss": ""},
        {"iss": None},
        {"exp": NOW_S},
        {"exp": float(NOW_S + 9.5)},
        {"exp": True},
        {"exp": str(NOW_S + 9)},
        {"exp": None},
        {"iat": NOW_S + 90_000},
        {"iat": None},
        {"sub": None},
        {"sub": 1},
        {"roles": ["ROLE_READ"]},
        {"roles": None},
        {"xsrfToken": None},
        {"nbf": NOW_S},
    ],
)
def test_claims_of_another_shape_are_refused(changes: dict[str, Any]) -> None:
    laid = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    assert verified(made(laid)) is None


def test_a_token_lapses_at_its_exp_and_not_before() -> None:
    assert verified(TEXT, now_s=NOW_S + 86_399.999) == SESSION
    assert verified(TEXT, now_s=NOW_S + 86_400) is None


def test_another_instance_or_another_key_does_not_know_it() -> None:
    assert verified(TEXT, instance="EXAMPLE00002") is None
    assert verified(TEXT, instance="") is None
    assert verified(made(key=SessionKey(bytes(64)))) is None


def test_hmac_and_public_keys_never_meet() -> None:
    """A session token is no JWS of the other table, and a public key is no secret of this one."""
    assert parse(TEXT.encode(), max_bytes=10_000) is None
    assert verify_token(TEXT, KeyRing(), now_s=NOW_S) is None
    public = public_der(generate("RS256").public_key())
    with pytest.raises(ValueError, match="64 bytes"):
        SessionKey(public)
    confused = jwt.encode(CLAIMS, public[:64], algorithm="HS512")
    assert verified(confused) is None


def test_a_key_does_not_tell_its_secret() -> None:
    key = SessionKey(b"s3cret" * 10 + b"s3cr")
    assert "s3cr" not in f"{key!r}{key}"


def test_roles_are_written_in_one_order_and_read_as_words() -> None:
    assert verified(made({**CLAIMS, "roles": "ROLE_READ,,ROLE_ADMINISTRATOR"})).roles == {
        "ROLE_READ",
        "ROLE_ADMINISTRATOR",
    }
    assert verified(made({**CLAIMS, "roles": ""})).roles == frozenset()


def test_a_token_that_nobody_would_take_is_not_made() -> None:
    long = msgspec.structs.replace(SESSION, user="u" * SESSION_BYTES_MAX)
    with pytest.raises(ValueError, match="at most 2048 bytes"):
        issue_session(KEY, long)
