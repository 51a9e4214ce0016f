"""Signed payloads and signed answers, and that neither credential passes as the other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import keys
from gateway.core.errors import BadRequest
from gateway.core.jws import parse, sign, verify
from gateway.core.keyring import KeyRing
from gateway.core.model import Key
from gateway.core.tokens import (
    ANSWER_TYP,
    REQUEST_TYP,
    SIGNED_BYTES_MAX,
    SignedPayload,
    Token,
    sign_answer,
    sign_payload,
    verify_payload,
    verify_token,
)

NOW_S = 1_767_225_600.5
INSTANCE = "EXAMPLE00001"
NESTED = b"[" * 5000 + b"]" * 5000

Privates = dict[str, keys.PrivateKey]


@pytest.fixture(scope="module")
def private() -> Privates:
    """Keys by kid: `rs`, `es`, `ed` are the instance's, `rs2` and `stranger` are not (at first)."""
    algs = {"rs": "RS256", "es": "ES256", "ed": "EdDSA", "rs2": "RS256", "stranger": "EdDSA"}
    return {kid: keys.generate(alg) for kid, alg in algs.items()}


def record(private: Privates, kid: str) -> Key:
    key = private[kid]
    return Key(
        kid=kid,
        alg=keys.algorithm_of(key),
        public=keys.public_der(key.public_key()),
        forwarder=kid == "ed",
    )


@pytest.fixture(scope="module")
def ring(private: Privates) -> KeyRing:
    return KeyRing(record(private, kid) for kid in ("rs", "es", "ed"))


def token(key: keys.PrivateKey, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
    """Sign a token that is good but for what is given; None takes a claim away."""
    whole = {"sub": "s", "roles": "ROLE_CAPABILITY", "exp": NOW_S + 60} | claims
    body = {name: value for name, value in whole.items() if value is not None}
    return sign({"alg": "RS256"} | (header or {}), msgspec.json.encode(body), key)


def judge(text: str | bytes, ring: KeyRing, *, require_exp: bool = True) -> Token | None:
    return verify_token(text, ring, now_s=NOW_S, skew_s=60, require_exp=require_exp)


def payload(
    key: keys.PrivateKey, kid: str, header: dict[str, Any] | None = None, **claims: Any
) -> bytes:
    """Sign a payload that is good but for what is given; None takes a member away."""
    whole = {"iat": int(NOW_S), "jti": "j-1", "aud": INSTANCE, "features": []} | claims
    body = {name: value for name, value in whole.items() if value is not None}
    full = {"alg": keys.algorithm_of(key), "kid": kid, "typ": REQUEST_TYP} | (header or {})
    return sign(
        {name: value for name, value in full.items() if value is not None},
        msgspec.json.encode(body),
        key,
    )


def judge_payload(
    body: bytes, ring: KeyRing, *, instance_id: str = INSTANCE, jti_required: bool = True
) -> SignedPayload | None:
    return verify_payload(
        body, ring, instance_id=instance_id, now_s=NOW_S, jti_required=jti_required
    )


@pytest.mark.parametrize("kid", ["rs", "es", "ed"])
def test_a_signed_payload_is_accepted_with_each_algorithm(
    private: Privates, ring: KeyRing, kid: str
) -> None:
    claims = {"iat": int(NOW_S), "jti": "j-1", "aud": INSTANCE, "hostId": {"type": "string"}}
    read = judge_payload(sign_payload(private[kid], kid, claims), ring)
    assert read is not None
    assert (read.claims, read.jti, read.kid) == (claims, "j-1", kid)
    assert json.loads(read.body) == claims
    assert read.forwarder is (kid == "ed")


@pytest.mark.parametrize(
    ("iat", "passes"),
    [
        (int(NOW_S) - 299, True),
        (int(NOW_S) - 300, False),  # half a second past five minutes
        (int(NOW_S) + 60, True),
        (int(NOW_S) + 61, False),
        (NOW_S, False),
        (float(int(NOW_S)), False),
        (True, False),
        (str(int(NOW_S)), False),
        (0, False),
        (10**300, False),
        (-(10**300), False),
        ([], False),
        (None, False),
    ],
)
def test_iat_is_whole_seconds_within_five_minutes(
    private: Privates, ring: KeyRing, iat: object, passes: bool
) -> None:
    key = private["ed"]
    whole = {"iat": iat, "jti": "j", "aud": INSTANCE}
    body = json.dumps({name: value for name, value in whole.items() if value is not None})
    text = sign({"alg": "EdDSA", "kid": "ed", "typ": REQUEST_TYP}, body.encode(), key)
    assert (judge_payload(text, ring) is not None) is passes


@pytest.mark.parametrize(
    "aud", [None, "", "OTHER", INSTANCE.lower(), INSTANCE + " ", [INSTANCE], 5, True]
)
def test_a_payload_for_another_instance_is_refused(
    private: Privates, ring: KeyRing, aud: object
) -> None:
    assert judge_payload(payload(private["ed"], "ed", aud=aud), ring) is None


def test_jti_is_demanded_but_on_a_preview(private: Privates, ring: KeyRing) -> None:
    without = payload(private["ed"], "ed", jti=None)
    assert judge_payload(without, ring) is None
    read = judge_payload(without, ring, jti_required=False)
    assert read is not None
    assert read.jti is None


@pytest.mark.parametrize(
    "jti", ["", " ", "a b", "é", "a\n", "a\0", "\x7f", "a" * 256, 5, True, ["j"]]
)
@pytest.mark.parametrize("jti_required", [True, False])
def test_an_ill_formed_jti_is_a_bad_request_once_the_payload_is_verified(
    private: Privates, ring: KeyRing, jti: object, jti_required: bool
) -> None:
    with pytest.raises(BadRequest) as caught:
        judge_payload(payload(private["ed"], "ed", jti=jti), ring, jti_required=jti_required)
    assert caught.value.arguments == ("jti",)
    # Without a valid credential nobody learns what is wrong inside.
    assert judge_payload(payload(private["stranger"], "ed", jti=jti), ring) is None
    assert judge_payload(payload(private["ed"], "ed", jti=jti, aud="OTHER"), ring) is None
    assert judge_payload(payload(private["ed"], "ed", jti=jti, iat=0), ring) is None


@pytest.mark.parametrize("jti", ["a", "!", "~", "a" * 255])
def test_a_visible_jti_of_up_to_255_characters_is_taken(
    private: Privates, ring: KeyRing, jti: str
) -> None:
    read = judge_payload(payload(private["es"], "es", jti=jti), ring)
    assert read is not None
    assert read.jti == jti


@pytest.mark.parametrize(
    "header",
    [
        {"kid": None},
        {"kid": 5},
        {"kid": "other"},
        {"kid": "es"},
        {"kid": "rs"},
        {"typ": None},
        {"typ": "JWT"},
        {"typ": ANSWER_TYP},
        {"typ": REQUEST_TYP.upper()},
        {"cty": "json"},
        {"x5t": "abc"},
        {"jwk": {}},
        {"crit": []},
    ],
)
def test_a_payload_header_is_exactly_alg_kid_and_typ(
    private: Privates, ring: KeyRing, header: dict[str, Any]
) -> None:
    assert judge_payload(payload(private["ed"], "ed", header), ring) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"5", b"{", b'{"a":1}{}', NESTED, b"\xff"])
def test_a_payload_that_is_no_object_is_refused(
    private: Privates, ring: KeyRing, body: bytes
) -> None:
    header = {"alg": "EdDSA", "kid": "ed", "typ": REQUEST_TYP}
    assert judge_payload(sign(header, body, private["ed"]), ring) is None


def test_of_a_payload_member_given_twice_the_last_counts(private: Privates, ring: KeyRing) -> None:
    body = f'{{"iat":0,"iat":{int(NOW_S)},"jti":"a","jti":"b","aud":"x","aud":"{INSTANCE}"}}'
    header = {"alg": "EdDSA", "kid": "ed", "typ": REQUEST_TYP}
    read = judge_payload(sign(header, body.encode(), private["ed"]), ring)
    assert read is not None
    assert read.jti == "b"


def test_an_oversized_payload_is_refused_unread(ring: KeyRing) -> None:
    assert judge_payload(b"a" * (SIGNED_BYTES_MAX + 1), ring) is None


def test_neither_credential_passes_as_the_other(private: Privates, ring: KeyRing) -> None:
    signed = payload(private["rs"], "rs", roles="ROLE_CAPABILITY", exp=NOW_S + 60)
    assert judge_payload(signed, ring)
    assert judge(signed, ring) is None
    bearer = token(private["rs"], {"kid": "rs"}, iat=int(NOW_S), jti="j", aud=INSTANCE)
    assert judge(bearer, ring)
    assert judge_payload(bearer, ring) is None
    answer = sign_answer(private["rs"], "rs", payload(private["rs"], "rs").split(b".")[1])
    assert judge(answer, ring) is None
    assert judge_payload(answer, ring) is None


@pytest.mark.parametrize("kid", ["rs", "es", "ed"])
def test_an_answer_is_signed_under_its_own_type(private: Privates, kid: str) -> None:
    parsed = parse(sign_answer(private[kid], kid, b'{"features":[]}'), max_bytes=1000)
    assert parsed is not None
    alg = keys.algorithm_of(private[kid])
    assert parsed.header == {"alg": alg, "kid": kid, "typ": "access-response+jws"}
    assert parsed.payload == b'{"features":[]}'
    assert verify(parsed, alg, private[kid].public_key())


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=120) | st.text(max_size=60).map(lambda text: text.encode("utf-16-le")))
def test_nothing_that_arrives_raises(noise: bytes) -> None:
    empty = KeyRing()
    for text in (noise, noise + b"." + noise + b"." + noise):
        assert judge(text, empty) is None
        assert judge_payload(text, empty) is None
        assert judge(text.decode("latin-1"), empty) is None
