"""Batches on the wire: which lines there are, which ids name them, how answers look.

Source: INTERFACE 4.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.core.errors import BadRequest, IdempotencyMismatch, TooLarge, Unavailable
from gateway.core.model import AccessRequest
from gateway.protocols.cmapi_batch import (
    LINES_MAX,
    LineReader,
    Refused,
    encode_answer,
    encode_refusal,
    split_body,
    split_requests,
)
from gateway.protocols.cmapi_request import decode_request

HOST = {"type": "string", "value": "h1"}
LINE_BYTES_MAX = 65_536


def line(correlation_id: Any, **more: Any) -> bytes:
    return json.dumps({"hostId": HOST, "correlationId": correlation_id} | more).encode()


def read(*texts: bytes, bytes_max: int = LINE_BYTES_MAX) -> list[AccessRequest | Refused]:
    reader = LineReader(bytes_max)
    return [reader.read(text) for text in texts]


def refused(text: bytes, bytes_max: int = LINE_BYTES_MAX) -> Refused:
    (found,) = read(text, bytes_max=bytes_max)
    assert isinstance(found, Refused)
    return found


# Lines ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"", []),
        (b"\n", []),
        (b" \t\r\n\n  \n", []),
        (b"{}", [b"{}"]),
        (b"{}\n", [b"{}"]),
        (b"{}\n\n  {} \n", [b"{}", b"{} "]),
        (b"{}\r\n{}\r\n", [b"{}\r", b"{}\r"]),
        (b"a\x0bb\n\x0b", [b"a\x0bb", b"\x0b"]),  # no white space of JSON
    ],
)
def test_lines_end_with_a_line_feed_and_blank_ones_are_none(
    body: bytes, lines: list[bytes]
) -> None:
    assert lines == split_body(body)


def test_a_body_has_at_most_so_many_lines_blank_ones_aside() -> None:
    full = b"\n{}" * LINES_MAX + b"\n" * 5_000
    assert len(split_body(full)) == LINES_MAX
    with pytest.raises(TooLarge) as raised:
        split_body(full + b"x")
    assert raised.value.arguments == (str(LINES_MAX),)


def test_the_elements_of_a_signed_payload_are_lines() -> None:
    assert split_requests(msgspec.Raw(b"[]")) == []
    texts = split_requests(msgspec.Raw(b'[ {"a": [1,\n2]} ,3, null, "x"]'))
    assert texts == [b'{"a": [1,\n2]}', b"3", b"null", b'"x"']


def test_a_signed_payload_has_at_most_so_many_elements() -> None:
    assert len(split_requests(_zeros(LINES_MAX))) == LINES_MAX
    for count in (LINES_MAX + 1, 100_000):
        with pytest.raises(TooLarge):
            split_requests(_zeros(count))


@pytest.mark.parametrize("requests", [None, b"null", b"{}", b'"[]"', b"1", b"[" * 100_000])
def test_requests_that_are_no_array_are_refused(requests: bytes | None) -> None:
    with pytest.raises(BadRequest) as raised:
        split_requests(None if requests is None else msgspec.Raw(requests))
    assert raised.value.arguments == ("requests",)


# One line -------------------------------------------------------------------------------------


def test_a_line_is_read_as_the_same_body_alone() -> None:
    text = line("c-1", features=[{"name": "a"}, {"name": "a", "count": 2}], partial="true")
    assert read(text) == [decode_request(text)]


@pytest.mark.parametrize(
    ("text", "correlation_id", "at"),
    [
        (b"{", None, "body"),
        (b"[]", None, "body"),
        (b"\xff", None, "body"),
        (b"[" * 50_000, None, "body"),
        (b"{}", None, "hostId"),
        (b'{"correlationId": "c-1"}', "c-1", "hostId"),
        (b'{"correlationId": "c-1", "hostId": 1}', "c-1", "hostId"),
        (b'{"correlationId": "c-1", "correlationId": "c-2"}', "c-2", "hostId"),
        (b'{"hostId": {"type": "string", "value": "h1"}}', None, "correlationId"),
        (line(None), None, "correlationId"),
        (line(""), None, "correlationId"),
        (line("a b"), None, "correlationId"),
        (line("é"), None, "correlationId"),
        (line("c" * 256), None, "correlationId"),
        (line(7), None, "correlationId"),
        (line("c-1", features=[{"name": "a", "count": 1.0}]), "c-1", "features[0].count"),
    ],
)
def test_a_line_that_is_no_request_says_what_is_wrong_and_keeps_its_id(
    text: bytes, correlation_id: str | None, at: str
) -> None:
    found = refused(text)
    assert isinstance(found.error, BadRequest)
    assert (correlation_id, (at,)) == (found.correlation_id, found.error.arguments)


def test_a_line_has_a_bound_of_its_own() -> None:
    text = line("c-1").ljust(200)
    (fits,) = read(text, bytes_max=200)
    assert isinstance(fits, AccessRequest)
    found = refused(text, bytes_max=199)
    assert isinstance(found.error, TooLarge)
    assert (found.correlation_id, found.error.arguments) == ("c-1", ("199",))


def test_an_id_names_the_first_line_that_has_it() -> None:
    """Even one that is refused: answers are told apart by it."""
    found = read(line("a"), line("b", hostId=1), line("a"), line("b"), line("a"), line("c"))
    assert [isinstance(each, AccessRequest) for each in found] == [
        True, False, False, False, False, True,
    ]  # fmt: skip
    for each in found[2:5]:
        assert isinstance(each, Refused)
        assert isinstance(each.error, BadRequest)
        assert each.error.arguments == ("correlationId",)
    assert [each.correlation_id for each in found] == ["a", "b", "a", "b", "a", "c"]


def test_ids_of_one_batch_are_none_of_another() -> None:
    for _ in range(2):
        assert isinstance(read(line("a"))[0], AccessRequest)


# Answers --------------------------------------------------------------------------------------


def test_an_answer_line_carries_the_answer_as_it_is() -> None:
    written = encode_answer('"\\', b'{"features":[]}', replayed=True)
    assert written == (
        b'{"correlationId":"\\"\\\\","status":200,"replayed":true,"response":{"features":[]}}\n'
    )


@pytest.mark.parametrize(
    ("error", "status", "key", "arguments"),
    [
        (BadRequest("x", "hostId"), 400, "gateway.badRequest", ["hostId"]),
        (TooLarge("x", "9"), 413, "gateway.tooLarge", ["9"]),
        (IdempotencyMismatch("x"), 422, "gateway.idempotencyMismatch", []),
        (Unavailable("x", "unknown"), 503, "gateway.unavailable", ["unknown"]),
    ],
)
def test_a_refusal_is_told_as_it_would_have_been_alone(
    error: Any, status: int, key: str, arguments: list[str]
) -> None:
    written = encode_refusal(None, error)
    assert written.endswith(b"\n")
    assert json.loads(written) == {
        "correlationId": None,
        "status": status,
        "replayed": False,
        "response": {"key": key, "message": "x", "arguments": arguments},
    }


def _zeros(count: int) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join([b"0"] * count) + b"]")
