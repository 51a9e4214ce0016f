"""JWS: the vectors of the standards, and agreement with joserfc both ways.

Vectors: RFC 7515 appendix A.2 (RS256) and A.3 (ES256), RFC 8037 appendix A.4 (Ed25519).
"""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws as joserfc_jws
from joserfc.errors import BadSignatureError, SecurityWarning
from joserfc.jwk import import_key

from gateway.core import keys
from gateway.core.jws import b64url_decode, b64url_encode, parse, sign, verify

MAX = 10_000

RFC7515_PAYLOAD = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'

A2_N = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-"
    "yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e"
    "-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco"
    "9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
A2_JWS = (
    b"eyJhbGciOiJSUzI1NiJ9"
    b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    b".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGb"
    b"ds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0Gar"
    b"ZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9F"
    b"s98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
A3_JWS = (
    b"eyJhbGciOiJFUzI1NiJ9"
    b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    b".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
A4_JWS = (
    b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    b".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def raw(text: str) -> bytes:
    data = b64url_decode(text)
    assert data is not None
    return data


def number(text: str) -> int:
    return int.from_bytes(raw(text), "big")


def compact(header: bytes, payload: bytes = b"{}", signature: bytes = b"") -> bytes:
    return ".".join(b64url_encode(part) for part in (header, payload, signature)).encode()


A2_KEY = rsa.RSAPublicNumbers(number("AQAB"), number(A2_N)).public_key()
A3_KEY = ec.EllipticCurvePublicNumbers(
    number("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
    number("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
    ec.SECP256R1(),
).public_key()
A4_PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(
    raw("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
)
A4_KEY = ed25519.Ed25519PublicKey.from_public_bytes(
    raw("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
)


@pytest.fixture(scope="module")
def private() -> dict[str, keys.PrivateKey]:
    return {alg: keys.generate(alg) for alg in keys.ALGORITHMS}


@pytest.mark.parametrize(
    ("text", "key", "payload"),
    [
        (A2_JWS, A2_KEY, RFC7515_PAYLOAD),
        (A3_JWS, A3_KEY, RFC7515_PAYLOAD),
        (A4_JWS, A4_KEY, b"Example of Ed25519 signing"),
    ],
    ids=["RFC 7515 A.2", "RFC 7515 A.3", "RFC 8037 A.4"],
)
def test_the_vectors_of_the_standards_verify(
    text: bytes, key: keys.PublicKey, payload: bytes
) -> None:
    parsed = parse(text, max_bytes=len(text))
    assert parsed is not None
    assert parsed.payload == payload
    assert parsed.signing_input == text.rpartition(b".")[0]
    assert verify(parsed, keys.algorithm_of(key), key)
    assert parse(text, max_bytes=len(text) - 1) is None


def test_signing_with_ed25519_makes_the_very_bytes_of_rfc_8037() -> None:
    assert sign({"alg": "EdDSA"}, b"Example of Ed25519 signing", A4_PRIVATE) == A4_JWS


@pytest.mark.filterwarnings(f"ignore::{SecurityWarning.__module__}.{SecurityWarning.__name__}")
@pytest.mark.parametrize("alg", keys.ALGORITHMS)
def test_joserfc_and_we_accept_each_others_signatures(
    private: dict[str, keys.PrivateKey], alg: str
) -> None:
    key = private[alg]
    theirs = import_key(keys.private_pem(key))
    header = {"alg": alg, "kid": "k1"}
    for size in (0, 1, 2, 3, 1000):
        payload = (bytes(range(256)) * 4)[:size]
        ours = sign(header, payload, key)
        read = joserfc_jws.deserialize_compact(ours, theirs, algorithms=[alg])
        assert (read.payload, read.headers()) == (payload, header)
        made = joserfc_jws.serialize_compact(header, payload, theirs, algorithms=[alg])
        parsed = parse(made.encode(), max_bytes=MAX)
        assert parsed is not None
        assert (parsed.header, parsed.payload) == (header, payload)
        assert verify(parsed, alg, key.public_key())
        forged = compact(json.dumps(header).encode(), payload, b"\x01" * 64)
        with pytest.raises(BadSignatureError):
            joserfc_jws.deserialize_compact(forged, theirs, algorithms=[alg])
