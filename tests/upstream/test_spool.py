"""A spool file and a receipt as values: what they say, and that no byte of them can be changed."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey

from gateway.core.errors import InvalidInput
from gateway.core.jws import sign
from gateway.core.keys import generate, public_pem, thumbprint
from gateway.core.model import UNITS_MAX, Line, Model
from gateway.core.ports import Answer, Verdict
from gateway.core.usage import Batch, Choice, Row
from gateway.upstream import spool
from gateway.upstream.cloudevents import encode as encode_cloudevents
from gateway.upstream.spool import (
    SPOOL_TYP,
    TRAILER_BYTES_MAX,
    SpoolUpstream,
    Trailer,
    check_trailer,
    encode,
    file_name,
    open_file,
    read_file_name,
    read_receipt,
    read_trailer,
    route,
    trailer,
)

LINES = {
    "L1": Line(
        id="L1",
        feature="sessions",
        version="1.0",
        model=Model.METERED,
        count=None,
        capacity=UNITS_MAX,
    )
}
ROWS = (Row("L1", 495_000, "", 42), Row("L1", 495_001, "string:h\n1", -2))
BODY = encode(Choice(rows=ROWS), "DEMO", "b1", LINES)
BATCH = Batch("b1", "usb", "DEMO", ROWS, BODY)
PRIVATE = generate("EdDSA")
PUBLIC = PRIVATE.public_key()
TRAILER = trailer(7, BATCH, PRIVATE)


def test_a_body_has_the_events_of_the_batch_one_a_line() -> None:
    lines = BODY.split(b"\n")
    assert lines.pop() == b""
    expected = json.loads(encode_cloudevents(Choice(rows=ROWS), "DEMO", "b1", LINES))
    assert expected == [json.loads(line) for line in lines]
    assert [event["id"] for event in expected] == ["b1/0", "b1/1"]


def test_a_spool_takes_each_row_by_itself_and_never_forgets_an_id() -> None:
    class Nobody:
        async def send(self, batch: Batch) -> Verdict:
            return Verdict(Answer.UNKNOWN)

    sender = Nobody()
    made = route(SpoolUpstream(name="usb", directory=Path("s"), interval_s=60), sender)
    assert (made.name, made.sender, made.interval_s, made.by_row) == ("usb", sender, 60, True)
    assert made.rows_max == 2_000
    assert made.horizon_ms > 50 * 365 * 86_400_000
    assert made.encode(Choice(rows=ROWS), "DEMO", "b1", LINES) == BODY


def test_names_of_files_are_read_back_and_sort_by_number() -> None:
    assert file_name(12, "b1") == "00000012-b1.ndjson"
    assert read_file_name("00000012-b1.ndjson") == (12, "b1")
    assert read_file_name("123456789-b-1.ndjson") == (123456789, "b-1")


@pytest.mark.parametrize(
    "name",
    [
        "12-b1.ndjson",
        "000000012-b1.ndjson",
        "00000000-b1.ndjson",
        "00000012-.ndjson",
        "00000012-b1.ndjson.draft",
        ".00000012-b1.ndjson.draft",
        "00000012-b/1.ndjson",
        "00000012-b1.ndjson\n",
        "٠٠٠٠٠٠١٢-b1.ndjson",
        "receipt.ndjson",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert read_file_name(name) is None


def test_a_trailer_says_what_the_batch_is_in_the_order_of_its_members() -> None:
    said = json.loads(TRAILER.line)
    assert list(said) == ["number", "batch", "instance", "upstream", "rows", "sha256", "signature"]
    assert said.pop("signature")
    assert said == {
        "number": 7,
        "batch": "b1",
        "instance": "DEMO",
        "upstream": "usb",
        "rows": 2,
        "sha256": hashlib.sha256(BODY).hexdigest(),
    }
    assert read_trailer(TRAILER.line) == TRAILER


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_trailer_is_signed_by_whichever_key_the_gateway_has(alg: str) -> None:
    private = generate(alg)
    made = read_trailer(trailer(7, BATCH, private).line)
    assert check_trailer(made, private.public_key())
    assert check_trailer(made, PUBLIC, private.public_key())
    assert not check_trailer(made, PUBLIC)
    assert not check_trailer(made)


def test_another_implementation_verifies_checksum_and_signature() -> None:
    body, _, last = (BODY + TRAILER.line).removesuffix(b"\n").rpartition(b"\n")
    said = json.loads(last)
    signature = said.pop("signature")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # the name EdDSA alone is what it minds
        key = OKPKey.import_key(public_pem(PUBLIC))
        found = jws.deserialize_compact(signature, key, algorithms=["EdDSA"])
    assert found.headers() == {"alg": "EdDSA", "typ": SPOOL_TYP, "kid": thumbprint(PUBLIC)}
    assert json.dumps(said, sort_keys=True, separators=(",", ":")).encode() == found.payload
    assert said["sha256"] == hashlib.sha256(body + b"\n").hexdigest()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("number", 8),
        ("batch", "b2"),
        ("instance", "DEMO2"),
        ("upstream", "usb2"),
        ("rows", 3),
        ("sha256", "0" * 64),
        ("signature", ""),
        ("signature", "é"),
        ("signature", TRAILER.signature + "A"),
    ],
)
def test_a_trailer_that_says_anything_else_is_not_ours(member: str, value: object) -> None:
    assert check_trailer(TRAILER, PUBLIC)
    changed = msgspec.structs.replace(TRAILER, **{member: value})
    assert not check_trailer(changed, PUBLIC)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "access-response+jws", "kid": thumbprint(PUBLIC)},
        {"typ": SPOOL_TYP, "kid": "k1"},
        {"typ": SPOOL_TYP},
        {"typ": SPOOL_TYP, "kid": thumbprint(PUBLIC), "cty": "json"},
    ],
)
def test_what_our_key_signed_for_another_purpose_is_no_trailer(header: dict[str, str]) -> None:
    signature = sign({"alg": "EdDSA"} | header, TRAILER.statement, PRIVATE).decode()
    assert not check_trailer(msgspec.structs.replace(TRAILER, signature=signature), PUBLIC)


@given(st.integers(0, len(BODY + TRAILER.line) - 1), st.integers(1, 255))
def test_no_byte_of_a_file_can_be_changed_unnoticed(at: int, flip: int) -> None:
    data = bytearray(BODY + TRAILER.line)
    data[at] ^= flip
    try:
        body, last = open_file(bytes(data))
    except InvalidInput:
        return
    # Only white space after the trailer reads the same.
    assert not check_trailer(last, PUBLIC) or (body, last) == (BODY, TRAILER)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "in the middle"),
        (BODY, "Not the last line"),
        ((BODY + TRAILER.line)[:-1], "in the middle"),
        (TRAILER.line, "checksum"),
        (BODY[1:] + TRAILER.line, "checksum"),
        (BODY + b"\n" + TRAILER.line, "checksum"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(data: bytes, why: str) -> None:
    assert open_file(BODY + TRAILER.line) == (BODY, TRAILER)
    with pytest.raises(InvalidInput, match=why):
        open_file(data)


def test_a_file_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_BYTES_MAX", len(BODY))
    with pytest.raises(InvalidInput, match="Larger than"):
        open_file(BODY + TRAILER.line)


def test_a_body_that_is_no_whole_lines_gets_no_trailer() -> None:
    for body in (b"", BODY[:-1]):
        with pytest.raises(ValueError, match="line feed"):
            trailer(7, msgspec.structs.replace(BATCH, body=body), PRIVATE)


def test_an_id_that_is_no_file_name_gets_no_trailer() -> None:
    with pytest.raises(ValueError, match="batch"):
        trailer(7, msgspec.structs.replace(BATCH, id="../b1"), PRIVATE)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 0},
        {"number": 10**15},
        {"number": "7"},
        {"number": 7.5},
        {"rows": 0},
        {"batch": "b/1"},
        {"instance": ""},
        {"upstream": "x" * 65},
        {"sha256": "0" * 63},
        {"sha256": "0" * 64 + "\n"},
        {"sha256": "G" * 64},
        {"signature": None},
        {"more": 1},
    ],
)
def test_a_trailer_is_read_strictly(change: dict[str, object]) -> None:
    line = json.dumps(json.loads(TRAILER.line) | change).encode()
    with pytest.raises(InvalidInput, match="Not the last line of a spool file"):
        read_trailer(line)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 4_000, BODY])
def test_a_line_that_is_no_trailer_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_trailer(line)


def test_a_line_over_the_bound_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Too long"):
        read_trailer(b" " * TRAILER_BYTES_MAX + TRAILER.line)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_receipt_or_refused_in_words(text: bytes) -> None:
    problems: tuple[str, ...] = ()
    try:
        found = read_receipt(text)
    except InvalidInput as error:
        found, problems = [], error.problems
    assert found == []
    assert bool(text.strip()) == bool(problems)
    assert all(problem.startswith("line ") for problem in problems)


def named(number: int, batch_id: str) -> Trailer:
    return trailer(number, msgspec.structs.replace(BATCH, id=batch_id), PRIVATE)


def test_a_receipt_is_the_last_lines_of_files_each_batch_once() -> None:
    first, second = named(1, "a"), named(2, "b")
    text = b"\r\n\n" + second.line + first.line.replace(b"\n", b"\r\n") + b"  \n" + second.line[:-1]
    assert read_receipt(text) == [second, first]
    assert read_receipt(b"") == []


def test_all_that_is_wrong_with_a_receipt_is_told_at_once() -> None:
    text = named(1, "a").line + b"nonsense\n\n" + named(2, "a").line + BODY[:20] + b"\n"
    with pytest.raises(InvalidInput) as refused:
        read_receipt(text)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "line 2",
        "line 4",
        "line 5",
    ]
    assert refused.value.problems[1] == "line 4: batch a reads otherwise on line 1"


def test_of_very_many_problems_the_first_are_told() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_receipt(b"nonsense\n" * 250)
    assert len(refused.value.problems) == 101
    assert refused.value.problems[-1] == "and 150 more"


def test_a_receipt_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="at most 100000 lines"):
        read_receipt(b"\n" * 100_001)
    monkeypatch.setattr(spool, "RECEIPT_BYTES_MAX", 10)
    with pytest.raises(InvalidInput, match="at most 10 bytes"):
        read_receipt(b" " * 11)
