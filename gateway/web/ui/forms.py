"""What a browser sends of a form: urlencoded, or in parts where a file is among it.

Decided here: how many members a form may have, and that of a repeated one all are kept; that parts
are read as browsers write them, and no other way: flat, not encoded, each with a name. Not decided
here: how large a form may be (the body's bound), and what its members mean. Pure.
Source: HTML (form submission), RFC 7578.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from gateway.core.errors import BadRequest, UnsupportedMediaType

MEMBERS_MAX: Final = 500
URLENCODED: Final = "application/x-www-form-urlencoded"
PARTS: Final = "multipart/form-data"
HEAD_BYTES_MAX: Final = 4_096  # of a part

_BOUNDARY: Final = re.compile(
    r';\s*boundary=("?)([0-9A-Za-z\'()+_,./:=?-]{1,70})\1\s*(?:;|\Z)', re.I
)
_DISPOSITION: Final = re.compile(rb"content-disposition:\s*form-data\s*(;.*)", re.I)
_MEMBER: Final = re.compile(rb';\s*(name|filename)="([^"]*)"', re.I)


@dataclass(frozen=True, slots=True)
class Form:
    """The members of a form, texts and files apart. A file that nobody chose is not there."""

    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Give the last text of a name; empty when there is none."""
        return self.texts.get(name, ("",))[-1]

    def all(self, name: str) -> Sequence[str]:
        """Give all texts of a name, as ticked boxes have them."""
        return self.texts.get(name, ())


def read_form(content_type: str, body: bytes) -> Form:
    """Read a form. Raises BadRequest, UnsupportedMediaType."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == PARTS:
        return _read_parts(content_type, body)
    if media_type != URLENCODED:
        raise UnsupportedMediaType(f"Content-Type must be {URLENCODED} or {PARTS}", "content-type")
    return Form(_read_pairs(body, "The form"))


def read_query(query: bytes) -> dict[str, str]:
    """Read a query; of a repeated member the last counts. Raises BadRequest."""
    return {name: values[-1] for name, values in _read_pairs(query, "The query").items()}


def _read_pairs(text: bytes, what: str) -> dict[str, list[str]]:
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MEMBERS_MAX,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise BadRequest(
            f"{what} is not UTF-8, percent-encoded, of at most {MEMBERS_MAX} members"
        ) from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(_written(value, what))
    return found


def _read_parts(content_type: str, body: bytes) -> Form:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise BadRequest("The form's Content-Type names no boundary that can be read")
    delimiter = b"\r\n--" + boundary[2].encode()
    _, *parts = (b"\r\n" + body).split(delimiter, MEMBERS_MAX + 2)
    if len(parts) > MEMBERS_MAX + 1:
        raise BadRequest(f"The form has over {MEMBERS_MAX} members")
    if not parts or parts.pop()[:2] != b"--":
        raise BadRequest("The form's parts do not end")
    texts: dict[str, list[str]] = {}
    files: dict[str, bytes] = {}
    for part in parts:
        name, is_file, data = _read_part(part)
        if is_file:
            if data:
                files[name] = data
            continue
        texts.setdefault(name, []).append(_written(_decoded(data), "The form"))
    return Form(texts, files)


def _read_part(part: bytes) -> tuple[str, bool, bytes]:
    """Give name, whether it is a file, and content of what stands between two boundaries."""
    head, blank, data = part.partition(b"\r\n\r\n")
    if not blank or not head.startswith(b"\r\n") or len(head) > HEAD_BYTES_MAX:
        raise BadRequest("The form's parts cannot be read")
    for line in head.split(b"\r\n"):
        found = _DISPOSITION.fullmatch(line)
        if found is not None:
            members = {key.lower(): value for key, value in _MEMBER.findall(found[1])}
            if b"name" in members:
                # As browsers write what would end the name: HTML's form-data encoding.
                name = _decoded(members[b"name"]).replace("%22", '"')
                return _written(name, "The form"), b"filename" in members, data
    raise BadRequest("A part of the form has no name")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise BadRequest("The form is not UTF-8") from None


def _written(text: str, what: str) -> str:
    if "\0" in text:
        raise BadRequest(f"{what} holds a NUL")
    return text
