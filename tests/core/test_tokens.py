"""Capability tokens: what is taken and made; PyJWT stands for the clients of others."""

from __future__ import annotations

from typing import Any

import jwt
import msgspec
import pytest

from gateway.core import keys
from gateway.core.errors import InvalidInput
from gateway.core.jws import sign
from gateway.core.keyring import KeyRing
from gateway.core.model import Key
from gateway.core.tokens import (
    REQUEST_TYP,
    TOKEN_BYTES_MAX,
    Token,
    mint_token,
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


def test_a_minted_token_is_accepted_by_us_and_by_pyjwt(private: Privates, ring: KeyRing) -> None:
    for kid in (None, "rs"):
        text = mint_token(private["rs"], sub="plant-7", now_s=NOW_S, ttl_s=3600, kid=kid)
        read = judge(text, ring)
        assert read == Token("plant-7", int(NOW_S) + 3600.0, frozenset({"ROLE_CAPABILITY"}), "rs")
        assert read.capable
        assert judge(text.encode(), ring) == read
        pem = keys.public_pem(private["rs"].public_key())
        theirs = jwt.decode(text, pem, ["RS256"], options={"verify_exp": False})
        assert theirs["roles"] == "ROLE_CAPABILITY"
        assert theirs["exp"] - theirs["iat"] == 3600


def test_a_token_of_pyjwt_is_accepted(private: Privates, ring: KeyRing) -> None:
    pem = keys.private_pem(private["rs"])
    claims = {"sub": "usage", "roles": "ROLE_CAPABILITY", "exp": int(NOW_S) + 1}
    for headers in (None, {"kid": "rs"}, {"typ": "jwt"}, {"x5t": "abc", "cty": "x"}):
        read = judge(jwt.encode(claims, pem, "RS256", headers=headers), ring)
        assert read is not None
        assert (read.sub, read.kid, read.capable) == ("usage", "rs", True)


def test_only_an_rsa_key_mints_a_token(private: Privates) -> None:
    for kid in ("es", "ed"):
        with pytest.raises(InvalidInput, match="RS256"):
            mint_token(private[kid], sub="s", now_s=NOW_S, ttl_s=60)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("ROLE_CAPABILITY", {"ROLE_CAPABILITY"}),
        (" ROLE_READ , ROLE_CAPABILITY,", {"ROLE_READ", "ROLE_CAPABILITY"}),
        (["ROLE_READ", " ROLE_CAPABILITY "], {"ROLE_READ", "ROLE_CAPABILITY"}),
        ("ROLE_CAPABILITY_NOT", {"ROLE_CAPABILITY_NOT"}),
        ("role_capability", {"role_capability"}),
        (["ROLE_READ,ROLE_CAPABILITY"], {"ROLE_READ,ROLE_CAPABILITY"}),
        ("", set()),
        ([], set()),
        (None, set()),
        (5, set()),
        (True, set()),
        ({"ROLE_CAPABILITY": True}, set()),
        (["ROLE_CAPABILITY", 5], set()),
        ([["ROLE_CAPABILITY"]], set()),
    ],
)
def test_roles_are_a_comma_string_or_an_array_of_strings(
    private: Privates, ring: KeyRing, roles: object, expected: set[str]
) -> None:
    read = judge(token(private["rs"], roles=roles), ring)
    assert read is not None
    assert read.roles == expected
    assert read.capable == ("ROLE_CAPABILITY" in expected)


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({"exp": NOW_S - 59}, True),
        ({"exp": NOW_S - 60}, False),
        ({"exp": 1e300}, True),
        ({"nbf": NOW_S + 60}, True),
        ({"nbf": NOW_S + 61}, False),
        ({"nbf": 0, "iat": NOW_S + 1e6}, True),
        ({"exp": 0}, False),
        ({"exp": -1e300}, False),
        ({"exp": None}, False),
    ],
)
def test_a_token_holds_from_nbf_to_exp_with_a_minute_of_skew(
    private: Privates, ring: KeyRing, claims: dict[str, Any], passes: bool
) -> None:
    assert (judge(token(private["rs"], **claims), ring) is not None) is passes


def test_exp_may_be_missing_only_where_the_instance_says_so(
    private: Privates, ring: KeyRing
) -> None:
    endless = token(private["rs"], exp=None)
    assert judge(endless, ring) is None
    read = judge(endless, ring, require_exp=False)
    assert read is not None
    assert read.exp_s is None
    assert judge(token(private["rs"], exp=NOW_S - 61), ring, require_exp=False) is None


@pytest.mark.parametrize(
    "value", [b"true", b"false", b"null", b'"1"', b"[]", b"NaN", b"Infinity", b"1e999", b"9" * 400]
)
@pytest.mark.parametrize("name", [b"exp", b"nbf", b"iat"])
def test_a_moment_that_is_no_number_is_refused(
    private: Privates, ring: KeyRing, name: bytes, value: bytes
) -> None:
    exp = b"" if name == b"exp" else b'"exp":1e300,'
    body = b'{"roles":"ROLE_CAPABILITY",' + exp + b'"' + name + b'":' + value + b"}"
    assert judge(sign({"alg": "RS256"}, body, private["rs"]), ring, require_exp=False) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'"x"', b"{", NESTED, b'{"exp":1e300,"x":' + NESTED + b"}", b"\xff",
     b'{"exp":1e300,"sub":5}', b'{"exp":1e300,"sub":"\\ud800"}', b'{"exp":1e300,"sub":"\xff"}'],
)  # fmt: skip
def test_a_signed_text_that_is_no_claims_object_is_refused(
    private: Privates, ring: KeyRing, body: bytes
) -> None:
    assert judge(sign({"alg": "RS256"}, body, private["rs"]), ring) is None


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "other"},
        {"kid": ""},
        {"kid": None},
        {"kid": 5},
        {"kid": ["rs"]},
        {"kid": "es"},
        {"kid": "ed"},
        {"kid": "RS"},
        {"typ": REQUEST_TYP},
        {"typ": "at+jwt"},
        {"typ": ""},
        {"typ": None},
        {"typ": 5},
        {"crit": ["exp"]},
        {"jwk": {}},
        {"b64": False},
    ],
)
def test_a_token_with_another_header_is_refused(
    private: Privates, ring: KeyRing, header: dict[str, Any]
) -> None:
    assert judge(token(private["rs"], header), ring) is None


def test_a_kid_means_that_key_only(private: Privates) -> None:
    both = KeyRing(record(private, kid) for kid in ("rs", "rs2"))
    for kid in ("rs", "rs2"):
        unnamed, named = (
            judge(token(private[kid]), both),
            judge(token(private[kid], {"kid": kid}), both),
        )
        assert unnamed == named
        assert named is not None
        assert named.kid == kid
    assert judge(token(private["rs"], {"kid": "rs2"}), both) is None
    assert judge(token(private["rs2"]), KeyRing([record(private, "rs")])) is None


def test_a_token_is_rs256_whatever_its_header_says(private: Privates, ring: KeyRing) -> None:
    for kid in ("es", "ed"):
        key = private[kid]
        for header in (
            {"alg": keys.algorithm_of(key)},
            {"alg": keys.algorithm_of(key), "kid": kid},
        ):
            assert judge(sign(header, b'{"exp":1e300}', key), ring) is None
    hmac_secret = "k" * 64
    forged = jwt.encode({"exp": NOW_S + 60}, hmac_secret, "HS256", headers={"kid": "rs"})
    assert judge(forged, ring) is None
    assert judge(jwt.encode({"exp": NOW_S + 60}, "", "none"), ring) is None


def test_a_forwarder_is_known_by_its_key(private: Privates) -> None:
    plain = record(private, "rs")
    below = KeyRing([msgspec.structs.replace(plain, forwarder=True)])
    read, other = judge(token(private["rs"]), below), judge(token(private["rs"]), KeyRing([plain]))
    assert read is not None
    assert other is not None
    assert (read.forwarder, other.forwarder) == (True, False)


def test_texts_that_are_no_token_are_refused(private: Privates, ring: KeyRing) -> None:
    good = token(private["rs"]).decode()
    assert judge(good, ring)
    around = [good + foreign for foreign in (" ", "\n", "\0", "=", "é", "." + good)]
    around += [foreign + good for foreign in (" ", "Bearer ", "\ud800")]
    for text in ("", " ", "..", "\0", "a" * (TOKEN_BYTES_MAX + 1), *around):
        assert judge(text, ring) is None
        assert judge(text.encode("utf-8", "surrogatepass"), ring) is None
    assert judge(token(private["rs"], sub="x" * TOKEN_BYTES_MAX), ring) is None
