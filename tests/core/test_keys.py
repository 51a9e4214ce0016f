"""Keys: what is taken, what is refused and in which words, and how keys are named and described.

The thumbprints are those of RFC 7638 section 3.1 and RFC 8037 appendix A.3; joserfc reads our JWKs.
"""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from joserfc.jwk import import_key

from gateway.core import keys
from gateway.core.base64url import b64url_decode
from gateway.core.errors import InvalidInput

SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()

RFC7638_N = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRX"
    "jBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaS"
    "qzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksIN"
    "HaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    key = keys.generate("RS256")
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@pytest.fixture(scope="module")
def private(rsa_key: rsa.RSAPrivateKey) -> dict[str, keys.PrivateKey]:
    return {
        "RS256": rsa_key,
        "ES256": keys.generate("ES256"),
        "EdDSA": keys.generate("EdDSA"),
    }


def refusal_of(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        keys.load_public(data)
    assert len(caught.value.problems) == 1
    return caught.value.message


def private_refusal_of(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        keys.load_private(data)
    # Neither cause nor context: a traceback would print the library's own words about the file.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.message


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_a_key_survives_writing_and_reading(private: dict[str, keys.PrivateKey], alg: str) -> None:
    key = private[alg]
    public = key.public_key()
    der = keys.public_der(public)
    assert der == keys.public_der(keys.load_public(der))
    assert der == keys.public_der(keys.load_public(keys.public_pem(public)))
    assert der == keys.public_der(keys.load_public(b"\n\n" + keys.public_pem(public) + b"\n"))
    assert der == keys.public_der(keys.load_private(keys.private_pem(key)).public_key())
    assert alg == keys.algorithm_of(key)
    assert alg == keys.algorithm_of(public)


@pytest.mark.parametrize("alg", ["", "rs256", "none", "HS256", "RS512", "ES384"])
def test_no_key_is_made_for_another_algorithm(alg: str) -> None:
    with pytest.raises(InvalidInput, match="expected one of RS256, ES256, EdDSA"):
        keys.generate(alg)


def test_thumbprint_is_that_of_rfc_7638() -> None:
    n = b64url_decode(RFC7638_N)
    assert n is not None
    public = rsa.RSAPublicNumbers(65537, int.from_bytes(n, "big")).public_key()
    assert keys.thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_is_that_of_rfc_8037() -> None:
    x = b64url_decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert x is not None
    public = ed25519.Ed25519PublicKey.from_public_bytes(x)
    assert keys.thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_jwk_is_read_by_another_implementation(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    public = private[alg].public_key()
    described = keys.jwk(public, "k1")
    theirs = import_key(dict(described))
    assert theirs.thumbprint() == keys.thumbprint(public)
    assert (described["use"], described["alg"], described["kid"]) == ("sig", alg, "k1")
    assert not {"d", "p", "q", "k"} & described.keys()


@pytest.mark.parametrize("coordinate", ["x", "y"])
def test_ec_coordinates_keep_their_leading_zeros(coordinate: str) -> None:
    publics = (ec.derive_private_key(n, ec.SECP256R1()).public_key() for n in range(1, 5_000))
    short = next(key for key in publics if getattr(key.public_numbers(), coordinate) < 2**248)
    described = keys.jwk(short, "k")
    assert (len(described["x"]), len(described["y"])) == (43, 43)
    assert import_key(dict(described)).thumbprint() == keys.thumbprint(short)


def test_a_short_rsa_key_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  # the very thing we refuse
    assert "1024 bits" in refusal_of(weak.public_key().public_bytes(DER, SPKI))
    assert "1024 bits" in private_refusal_of(weak.private_bytes(PEM, PKCS8, PLAIN))


def test_an_oversized_rsa_key_is_refused() -> None:
    huge = rsa.RSAPublicNumbers(65537, 2**8200 + 1).public_key()
    assert "8201 bits" in refusal_of(huge.public_bytes(DER, SPKI))


def test_a_tiny_or_a_long_rsa_exponent_is_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    n = rsa_key.public_key().public_numbers().n
    for exponent in (3, 17, 65_535, 2**32 + 1):
        public = rsa.RSAPublicNumbers(exponent, n).public_key()
        assert "exponent" in refusal_of(public.public_bytes(DER, SPKI))


def test_an_even_rsa_exponent_or_modulus_is_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    der = keys.public_der(rsa_key.public_key())
    assert der[-5:] == bytes.fromhex("0203010001")
    refusal_of(der[:-1] + b"\x02")
    even = bytearray(der)
    even[-6] &= 0xFE
    assert "modulus" in refusal_of(bytes(even))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()])
def test_another_curve_is_refused(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    assert "P-256" in refusal_of(key.public_key().public_bytes(DER, SPKI))
    assert "P-256" in private_refusal_of(key.private_bytes(PEM, PKCS8, PLAIN))


def test_another_kind_of_key_is_refused() -> None:
    for key in (x25519.X25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()):
        assert "another kind" in refusal_of(key.public_key().public_bytes(PEM, SPKI))
        assert "another kind" in private_refusal_of(key.private_bytes(PEM, PKCS8, PLAIN))


def test_a_private_key_given_by_mistake_is_named_and_not_shown(
    private: dict[str, keys.PrivateKey],
) -> None:
    locked = serialization.BestAvailableEncryption(b"pw")
    for key in private.values():
        for encoding in (PEM, DER):
            for encryption in (PLAIN, locked):
                message = refusal_of(key.private_bytes(encoding, PKCS8, encryption))
                assert message.startswith("This is a private key")


def test_the_older_rsa_forms_are_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    public = rsa_key.public_key()
    for encoding in (PEM, DER):
        pkcs1 = public.public_bytes(encoding, serialization.PublicFormat.PKCS1)
        assert "PKCS#1" in refusal_of(pkcs1)
    old = rsa_key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)
    assert "PKCS#8" in private_refusal_of(old)


def test_private_key_refusals_name_the_cause_and_hold_no_key_material(
    private: dict[str, keys.PrivateKey],
) -> None:
    for key in private.values():
        pem = keys.private_pem(key)
        locked = key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"pw"))
        middle = len(pem) // 2
        damaged = pem[:middle] + b"!!" + pem[middle + 2 :]
        cases = {
            locked: "encrypted",
            keys.public_pem(key.public_key()): "public key",
            key.private_bytes(DER, PKCS8, PLAIN): "PKCS#8 PEM",
            damaged: "damaged",
            b"": "PKCS#8 PEM",
            pem + b"\n" * keys.KEY_BYTES_MAX: "at most",
        }
        body = b"".join(pem.splitlines()[1:-1]).decode()
        for data, expected in cases.items():
            message = private_refusal_of(data)
            assert expected in message
            assert not any(body[i : i + 12] in message for i in range(len(body) - 12))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 50,
        b"ssh-ed25519 AAAA",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"0" * (keys.KEY_BYTES_MAX + 1),
    ],
)
def test_what_is_no_key_is_refused(data: bytes) -> None:
    assert refusal_of(data)


def test_trailing_bytes_after_a_der_key_are_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    der = keys.public_der(rsa_key.public_key())
    refusal_of(der + b"\x00")
    refusal_of(base64.b64encode(der))
