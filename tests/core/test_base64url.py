"""base64url: one text for each sequence of bytes, and every other text refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.base64url import b64url_decode, b64url_encode

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

PADDED = ["=", "QQ==", "QQ=", "QUI=", "QUJD=", "QUJDQ==="]
STRAY_BITS = ["QR", "QV", "Q_", "QUJ", "QUL", "QUJDQUJ"]
WRONG_LENGTH = ["Q", "QUJDQ"]
FOREIGN = ["QQ\n", "\nQQ", "Q Q", "QU\tI", "+A", "/w", "+/+/", "Q\0", "QQ.", "é", "QQé", "\ud800"]


@pytest.mark.parametrize("text", PADDED + STRAY_BITS + WRONG_LENGTH + FOREIGN)
def test_lax_base64_is_refused(text: str) -> None:
    assert b64url_decode(text) is None
    assert b64url_decode(text.encode("utf-8", "surrogatepass")) is None


def test_the_example_of_rfc_7515_appendix_c() -> None:
    data = bytes([3, 236, 255, 224, 193])
    assert b64url_encode(data) == "A-z_4ME"
    assert b64url_decode("A-z_4ME") == data


def test_each_byte_has_one_text_and_each_pair_of_bytes_too() -> None:
    texts = [first + second for first in ALPHABET for second in ALPHABET]
    singles = [data for text in texts if (data := b64url_decode(text)) is not None]
    assert sorted(singles) == [bytes([byte]) for byte in range(256)]
    pairs = [data for text in texts if (data := b64url_decode("Q" + text)) is not None]
    assert len(pairs) == len(set(pairs)) == 1024
    assert {len(data) for data in pairs} == {2}


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=200))
def test_decoding_undoes_encoding(data: bytes) -> None:
    text = b64url_encode(data)
    assert b64url_decode(text) == b64url_decode(text.encode()) == data
    assert "=" not in text


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(max_size=40) | st.text(alphabet=ALPHABET + "+/=\n .", max_size=40))
def test_a_text_is_refused_or_is_the_one_that_encoding_writes(text: str) -> None:
    data = b64url_decode(text)
    assert data is None or b64url_encode(data) == text
