"""Forms as browsers send them, and as nobody should: read as they are, or refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, GatewayError, UnsupportedMediaType
from gateway.web.ui.forms import MEMBERS_MAX, PARTS, URLENCODED, read_form, read_query

BOUNDARY = f"{PARTS}; boundary=x"
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='\\%"'),
    min_size=1,
    max_size=9,
)


def parts(*found: str) -> bytes:
    return "".join(f"--x\r\n{each}\r\n" for each in found).encode() + b"--x--\r\n"


def part(name: str, text: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n{text}'


def test_all_of_a_repeated_member_are_kept_and_the_last_is_the_text() -> None:
    form = read_form(URLENCODED, b"a=1&b=%C3%A4+%26&a=2&c=")
    assert (form.text("a"), list(form.all("a"))) == ("2", ["1", "2"])
    assert (form.text("b"), form.text("c"), form.text("d")) == ("\u00e4 &", "", "")
    assert list(form.all("d")) == []
    assert read_query(b"a=1&a=2&b=") == {"a": "2", "b": ""}


@given(st.dictionaries(NAME, TEXT, max_size=5), st.binary(max_size=300))
def test_what_another_implementation_writes_is_read_as_it_was(
    texts: dict[str, str], data: bytes
) -> None:
    request = httpx.Request("POST", "http://x/", data=texts, files={"a file": ("f.toml", data)})
    form = read_form(request.headers["content-type"], request.read())
    assert {name: form.text(name) for name in texts} == texts
    assert form.files == ({"a file": data} if data else {})
    if texts:
        urlencoded = httpx.Request("POST", "http://x/", data=texts)
        found = read_form(urlencoded.headers["content-type"], urlencoded.read())
        assert {name: found.text(name) for name in texts} == texts


@given(st.binary(max_size=200))
def test_nothing_that_is_sent_makes_it_fail_otherwise(body: bytes) -> None:
    for kind in (URLENCODED, BOUNDARY, f"{PARTS}; boundary={'y' * 70}", PARTS, "text/plain", ""):
        for sent in (body, b"--x" + body + b"\r\n--x--", b"--x\r\n" + body + b"\r\n--x--"):
            try:
                read_form(kind, sent)
            except GatewayError:
                continue


def test_a_file_keeps_each_byte_and_one_that_nobody_chose_is_not_there() -> None:
    data = b"\r\n--y\r\n\0\xff\r\r\n\n"
    head = part("file", "", '; filename="a.toml"').encode()
    body = b"--x\r\n" + head + data + b"\r\n--x--\r\n"
    assert read_form(BOUNDARY, body).files == {"file": data}
    empty = parts(part("file", "", '; filename=""'), part("xsrf", "y"))
    form = read_form(BOUNDARY, empty)
    assert (dict(form.files), form.text("xsrf"), form.text("file")) == ({}, "y", "")


def test_a_file_is_no_text_whatever_its_name() -> None:
    form = read_form(BOUNDARY, parts(part("xsrf", "right", '; filename="x"')))
    assert form.text("xsrf") == ""


def test_names_are_read_as_browsers_write_them() -> None:
    body = parts(part("a%22b", "1"), 'content-disposition:form-data;name="c"\r\nX: y\r\n\r\n2')
    form = read_form(f'{PARTS}; charset=utf-8; boundary="x"', body)
    assert (form.text('a"b'), form.text("c")) == ("1", "2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n",
        parts("no head"),
        parts("Content-Disposition: form-data\r\n\r\nno name"),
        parts('Content-Disposition: attachment; name="a"\r\n\r\nno member'),
        parts(part("a" * 5_000, "1")),
        parts(part("a", "\0")),
        parts(part("a\0", "1")),
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--',
        b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--',
        b'--x\nContent-Disposition: form-data; name="a"\n\n1\n--x--',
        parts(part("a", "1")).removesuffix(b"--\r\n"),
        parts(*(part("a", "") for _ in range(MEMBERS_MAX + 1))),
    ],
    ids=range(14),
)
def test_parts_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read_form(BOUNDARY, body)


def test_as_many_members_as_may_be_are_read() -> None:
    body = parts(*(part("a", str(each)) for each in range(MEMBERS_MAX)))
    assert len(read_form(BOUNDARY, body).all("a")) == MEMBERS_MAX
    pairs = b"&".join(b"a=1" for _ in range(MEMBERS_MAX))
    assert len(read_form(URLENCODED, pairs).all("a")) == MEMBERS_MAX
    with pytest.raises(BadRequest, match=str(MEMBERS_MAX)):
        read_form(URLENCODED, pairs + b"&a=1")


@pytest.mark.parametrize(
    "kind",
    [
        PARTS,
        f"{PARTS}; boundary=",
        f"{PARTS}; boundary={'y' * 71}",
        f'{PARTS}; boundary="a\r\nb"',
        f"{PARTS}; boundary=\u00e4",
        f"{PARTS}; xboundary=x",
    ],
)
def test_a_boundary_that_is_none_is_refused(kind: str) -> None:
    with pytest.raises(BadRequest):
        read_form(kind, parts(part("a", "1")))


def test_parts_in_parts_are_a_text() -> None:
    """Nothing is read by its own Content-Type, nor decoded by its transfer encoding."""
    inner = "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--"
    body = parts(f'Content-Disposition: form-data; name="a"\r\n{inner}')
    assert read_form(BOUNDARY, body).text("a") == "--y\r\n\r\n--y--"
    coded = (
        'Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name="a"\r\n\r\nAA=='
    )
    assert read_form(BOUNDARY, parts(coded)).text("a") == "AA=="


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/json", "multipart/mixed; boundary=x"]
)
def test_another_kind_of_body_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_form(kind, b"a=1")


@pytest.mark.parametrize("query", [b"a=%ff", b"a=%00", b"a=\xc3\xa4", b"%ff=1"])
def test_a_query_that_is_no_text_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest):
        read_query(query)
