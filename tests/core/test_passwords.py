"""A password is kept as Scrypt with its costs, and nothing but that password verifies."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import passwords
from gateway.core.base64url import b64url_decode, b64url_encode
from gateway.core.errors import InvalidInput
from gateway.core.passwords import (
    COST_N,
    DECOY,
    PASSWORD_BYTES_MAX,
    hash_password,
    verify_password,
)

SALT = bytes(range(16))
PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def kept() -> str:
    return hash_password(PASSWORD, SALT)


def with_part(kept: str, place: int, value: str) -> str:
    parts = kept.split("$")
    parts[place] = value
    return "$".join(parts)


def test_a_hash_is_scrypt_as_another_implementation_computes_it(kept: str) -> None:
    word, n, r, p, salt, digest = kept.split("$")
    assert (word, int(n), int(r), int(p)) == ("scrypt", COST_N, 8, 1)
    assert b64url_decode(salt) == SALT
    expected = hashlib.scrypt(PASSWORD, salt=SALT, n=int(n), r=8, p=1, maxmem=2**26, dklen=32)
    assert b64url_decode(digest) == expected


def test_the_cost_is_no_less_than_is_asked_for() -> None:
    assert COST_N >= 2**14


def test_only_the_password_verifies(kept: str) -> None:
    assert verify_password(kept, PASSWORD)
    for wrong in (b"", PASSWORD[:-1], PASSWORD + b"\0", PASSWORD.upper(), b"x" * 2_000):
        assert not verify_password(kept, wrong)


def test_a_hash_of_lower_or_higher_cost_within_bounds_still_verifies() -> None:
    for n, p in ((2**14, 1), (2**14, 2), (2**16, 1)):
        digest = hashlib.scrypt(PASSWORD, salt=SALT, n=n, r=8, p=p, maxmem=2**28, dklen=32)
        text = f"scrypt${n}$8${p}${b64url_encode(SALT)}${b64url_encode(digest)}"
        assert verify_password(text, PASSWORD)
        assert not verify_password(text, b"another one")


def test_nothing_verifies_against_the_decoy() -> None:
    assert not verify_password(DECOY, PASSWORD)
    assert DECOY.startswith(f"scrypt${COST_N}$8$1$")


def test_what_stands_for_no_user_refuses_even_a_password_that_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Agreeing:
        def __init__(self, **costs: object) -> None:
            pass

        def verify(self, password: bytes, digest: bytes) -> None:
            pass

    monkeypatch.setattr(passwords, "Scrypt", Agreeing)
    for text in (DECOY, "", "nonsense"):
        assert not verify_password(text, PASSWORD)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "argon2id"),
        (1, "16"),
        (1, "32767"),
        (1, str(2**18)),
        (1, "032768"),
        (1, "9" * 50),
        (2, "9"),
        (3, "0"),
        (3, "5"),
        (4, ""),
        (4, "A" * 90),
        (5, "A" * 42),
        (5, "A" * 44),
        (5, "B" * 43),
        (5, ""),
    ],
)
def test_a_text_that_is_no_hash_within_bounds_costs_what_the_decoy_costs(
    kept: str, place: int, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = passwords.Scrypt

    def watched(**costs: int) -> object:
        asked.append((costs["n"], costs["r"], costs["p"], costs["length"]))
        return real(**costs)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "Scrypt", watched)
    assert not verify_password(with_part(kept, place, value), PASSWORD)
    assert asked == [(COST_N, 8, 1, 32)]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.text(max_size=120))
def test_no_text_whatever_raises_or_verifies(text: str) -> None:
    assert not verify_password(text, PASSWORD)


@pytest.mark.parametrize("password", [b"", b"sevenby", b"x" * (PASSWORD_BYTES_MAX + 1)])
def test_a_password_out_of_bounds_is_not_taken(password: bytes) -> None:
    with pytest.raises(InvalidInput, match="8 to 1024 bytes"):
        hash_password(password, SALT)


def test_a_password_that_could_not_be_sent_is_not_taken_and_not_told() -> None:
    with pytest.raises(InvalidInput) as refused:
        hash_password(b"\xffsecret-part", SALT)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_password_with_a_nul_is_not_taken() -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        hash_password(b"correct\0horse", SALT)


def test_a_salt_of_another_length_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        hash_password(PASSWORD, b"short")


def test_two_salts_give_two_hashes(kept: str) -> None:
    assert hash_password(PASSWORD, bytes(16)) != kept
