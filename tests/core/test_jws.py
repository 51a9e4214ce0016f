"""JWS: every way to be malformed, forged, swapped or rewritten; none passes and none raises."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import keys
from gateway.core.jws import HEADER_BYTES_MAX, b64url_decode, b64url_encode, parse, sign, verify
from gateway.core.keyring import stand_in

MAX = 10_000
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def raw(text: str) -> bytes:
    data = b64url_decode(text)
    assert data is not None
    return data


def compact(header: bytes, payload: bytes = b"{}", signature: bytes = b"") -> bytes:
    return ".".join(b64url_encode(part) for part in (header, payload, signature)).encode()


def accepted(text: bytes, key: keys.PublicKey) -> bool:
    parsed = parse(text, max_bytes=MAX)
    return parsed is not None and verify(parsed, keys.algorithm_of(key), key)


@pytest.fixture(scope="module")
def private() -> dict[str, keys.PrivateKey]:
    return {alg: keys.generate(alg) for alg in keys.ALGORITHMS}


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_no_changed_byte_of_a_valid_jws_passes(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    text = sign({"alg": alg, "kid": "k1"}, b'{"iat":1767225600}', private[alg])
    public = private[alg].public_key()
    assert accepted(text, public)
    for place in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[place] ^= 1 << bit
            assert not accepted(bytes(changed), public), (place, bit)
        assert not accepted(text[:place] + text[place + 1 :], public), place
        assert not accepted(text[:place], public), place


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_each_other_last_character_of_a_part_is_refused(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    text = sign({"alg": alg}, b"payload", private[alg]).decode()
    public = private[alg].public_key()
    ends = [place - 1 for place, sign_ in enumerate(text) if sign_ == "."] + [len(text) - 1]
    for end in ends:
        for other in (chr(code) for code in range(256)):
            if other != text[end]:
                assert not accepted((text[:end] + other + text[end + 1 :]).encode(), public)


def test_an_ecdsa_signature_has_a_twin_so_it_is_never_an_id(
    private: dict[str, keys.PrivateKey],
) -> None:
    text = sign({"alg": "ES256"}, b"payload", private["ES256"])
    signing_input, _, signature = text.rpartition(b".")
    r_and_s = raw(signature.decode())
    s = int.from_bytes(r_and_s[32:], "big")
    twin = r_and_s[:32] + (P256_ORDER - s).to_bytes(32, "big")
    twin_text = signing_input + b"." + b64url_encode(twin).encode()
    assert twin_text != text
    assert accepted(twin_text, private["ES256"].public_key())


def test_ecdsa_numbers_out_of_range_and_other_encodings_are_refused(
    private: dict[str, keys.PrivateKey],
) -> None:
    key = private["ES256"]
    text = sign({"alg": "ES256"}, b"payload", key)
    signing_input, _, part = text.rpartition(b".")
    good = raw(part.decode())
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    pairs = [(0, 0), (0, s), (r, 0), (P256_ORDER, s), (r, P256_ORDER), (1, 1), (s, r)]
    forged = [a.to_bytes(32, "big") + b.to_bytes(32, "big") for a, b in pairs]
    forged += [b"", good[:-1], good + b"\0", b"\0" + good, b"\xff" * 64]
    forged += [encode_dss_signature(r, s)]  # as most libraries write it, but not JWS
    for signature in forged:
        other = signing_input + b"." + b64url_encode(signature).encode()
        assert not accepted(other, key.public_key())


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_signatures_of_any_other_length_are_refused(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    signing_input = sign({"alg": alg}, b"payload", private[alg]).rpartition(b".")[0]
    for size in (0, 1, 32, 63, 64, 65, 128, 255, 256, 257, 512):
        forged = signing_input + b"." + b64url_encode(b"\x01" * size).encode()
        assert not accepted(forged, private[alg].public_key())


def test_a_key_verifies_only_its_own_algorithm(private: dict[str, keys.PrivateKey]) -> None:
    for alg, key in private.items():
        parsed = parse(sign({"alg": alg}, b"payload", key), max_bytes=MAX)
        assert parsed is not None
        for other_alg in (*keys.ALGORITHMS, "none", "HS256", ""):
            for other in private.values():
                expected = other_alg == alg and other is key
                assert verify(parsed, other_alg, other.public_key()) is expected


def test_the_alg_of_the_header_cannot_be_swapped(private: dict[str, keys.PrivateKey]) -> None:
    for alg, key in private.items():
        _, payload, signature = sign({"alg": alg}, b"payload", key).split(b".")
        for other in keys.ALGORITHMS:
            if other != alg:
                header = b64url_encode(json.dumps({"alg": other}).encode()).encode()
                swapped = b".".join((header, payload, signature))
                assert not any(accepted(swapped, each.public_key()) for each in private.values())


def test_a_true_signature_under_the_name_of_another_algorithm_is_refused(
    private: dict[str, keys.PrivateKey],
) -> None:
    key = private["EdDSA"]
    assert isinstance(key, ed25519.Ed25519PrivateKey)
    for alg in keys.ALGORITHMS:
        signing_input = compact(json.dumps({"alg": alg}).encode()).rpartition(b".")[0]
        text = signing_input + b"." + b64url_encode(key.sign(signing_input)).encode()
        assert accepted(text, key.public_key()) is (alg == "EdDSA")


@pytest.mark.parametrize("parts", [0, 1, 2, 4, 5, 6])
def test_a_jws_has_exactly_three_parts(parts: int) -> None:
    header, payload, _ = compact(b'{"alg":"RS256"}').split(b".")
    assert parse(b".".join([header, payload, b"AA"]), max_bytes=MAX) is not None
    for other in (payload, b""):
        text = b".".join([header, *[other] * 5][:parts])
        assert parse(text, max_bytes=MAX) is None


def test_an_hmac_made_with_the_public_key_is_refused(private: dict[str, keys.PrivateKey]) -> None:
    for key in private.values():
        public = key.public_key()
        for secret in (keys.public_pem(public), keys.public_der(public)):
            signing_input = compact(b'{"alg":"HS256"}', b"payload").rpartition(b".")[0]
            mac = hmac.digest(secret, signing_input, "sha256")
            assert parse(signing_input + b"." + b64url_encode(mac).encode(), max_bytes=MAX) is None


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS256", "rs256", "RS512"])
def test_an_algorithm_that_is_not_ours_is_refused(alg: str) -> None:
    header = json.dumps({"alg": alg}).encode()
    assert parse(compact(header), max_bytes=MAX) is None
    assert parse(compact(header, signature=b"\1" * 64), max_bytes=MAX) is None


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "b64"])
def test_a_header_that_brings_its_own_key_or_extension_is_refused(
    private: dict[str, keys.PrivateKey], name: str
) -> None:
    key = private["EdDSA"]
    for value in (keys.jwk(key.public_key(), "k"), None, [], ["exp"], False, ""):
        text = sign({"alg": "EdDSA", name: value}, b"payload", key)
        assert parse(text, max_bytes=MAX) is None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"RS256"',
        b'{"alg":null}',
        b'{"alg":["RS256"]}',
        b'{"alg":{"RS256":1}}',
        b'{"alg":"RS256","alg":"RS256"}',
        b'{"alg":"RS256","alg":"none"}',
        b'{"alg":"none","\\u0061lg":"RS256"}',
        b'{"alg":"RS256","kid":"a","kid":"a"}',
        b'{"alg":"RS256","x":{"y":1,"y":2}}',
        b'{"alg":"RS256"}{}',
        b'{"alg":"RS256",}',
        b"{'alg':'RS256'}",
        b'\xef\xbb\xbf{"alg":"RS256"}',
        '{"alg":"RS256"}'.encode("utf-16"),
        b'{"alg":"RS256","kid":"\xff"}',
        b'{"alg":"RS256","kid":"\xed\xa0\x80"}',
        b'{"alg":"RS256","kid":"\\ud800"}',
        b'{"alg":"RS256\\u0000"}',
        b'{"alg":"RS256","x":NaN}',
        b'{"alg":"RS256","x":1e999}',
        b'{"alg":"RS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"alg":"RS256","x":"' + b"a" * HEADER_BYTES_MAX + b'"}',
        b"\x00",
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    assert parse(compact(header), max_bytes=100_000) is None


def test_the_header_is_read_only_and_the_same_for_the_same_bytes() -> None:
    first = parse(compact(b'{"alg":"RS256"}'), max_bytes=MAX)
    second = parse(compact(b'{"alg":"RS256"}'), max_bytes=MAX)
    assert first is not None
    assert second is not None
    assert first.header == second.header == {"alg": "RS256"}
    header: Any = first.header
    with pytest.raises(TypeError):
        header["alg"] = "none"


def variants(text: bytes) -> Iterator[bytes]:
    header, payload, signature = text.split(b".")
    for foreign in (b"=", b"==", b"\n", b"\r\n", b" ", b"\t", b"\0", b"+", b"/", b"\xc3\xa9", b"."):
        yield text + foreign
        yield foreign + text
        yield b".".join((header + foreign, payload, signature))
        yield b".".join((header, payload[:4] + foreign + payload[4:], signature))
        yield b".".join((header, payload, foreign + signature))
    yield b".".join((header, payload))
    yield b".".join((header, payload, signature, b""))
    yield b".".join((header, b"", payload, signature))
    yield b".".join((b"", header, payload, signature))
    yield b".".join((header, payload, signature.replace(b"-", b"+").replace(b"_", b"/")))
    yield json.dumps(
        {"protected": header.decode(), "payload": payload.decode(), "signature": signature.decode()}
    ).encode()
    yield b""
    yield b"."
    yield b".."
    yield b"..."


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_every_other_writing_of_a_valid_jws_is_refused(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    # The signature must hold a character that the standard alphabet writes in another way.
    texts = (sign({"alg": alg}, bytes([byte]), private[alg]) for byte in range(256))
    text = next(text for text in texts if {*b"-_"} & {*text.rpartition(b".")[2]})
    assert accepted(text, private[alg].public_key())
    for variant in variants(text):
        assert variant != text
        assert not accepted(variant, private[alg].public_key()), variant


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "jwk"]) | st.text(max_size=4),
    st.sampled_from([*keys.ALGORITHMS, "none", "HS256"]) | JSON_LIKE,
    max_size=5,
).map(lambda header: json.dumps(header).encode())
TEXTS = st.binary(max_size=80) | st.builds(
    compact, HEADERS | st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=300)
)


@settings(deadline=None)  # a busy machine is no failure
@given(TEXTS)
def test_parse_and_verify_never_raise_and_never_accept_noise(text: bytes) -> None:
    parsed = parse(text, max_bytes=MAX)
    if parsed is not None:
        for alg in (*keys.ALGORITHMS, "none"):
            for key in keys.ALGORITHMS:
                assert verify(parsed, alg, stand_in(key).public) is False


def test_signing_demands_that_the_header_fits_the_key(
    private: dict[str, keys.PrivateKey],
) -> None:
    for alg, key in private.items():
        for other in ({}, {"alg": "none"}, {"alg": None}, {"alg": alg.lower()}):
            with pytest.raises(ValueError, match=f"expected {alg}"):
                sign(dict(other), b"payload", key)


def test_signing_adds_nothing_to_the_header(private: dict[str, keys.PrivateKey]) -> None:
    header = {"typ": "x", "alg": "ES256", "kid": "é"}
    text = sign(header, b"payload", private["ES256"])
    assert raw(text.partition(b".")[0].decode()) == '{"typ":"x","alg":"ES256","kid":"é"}'.encode()
