"""A batch on the wire: NDJSON or the array of a signed payload to lines, answers to NDJSON.

Decided here: what a line is, how many there may be, which correlation ids name one, and the shape
of an answer. A line that is refused is told as such and refuses no other. Not decided here: what a
request says (cmapi_request.py), how an error looks (problem.py), who may ask. Source: INTERFACE 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from gateway.core.errors import BadRequest, GatewayError, TooLarge
from gateway.core.fingerprint import visible_ascii
from gateway.core.model import AccessRequest
from gateway.protocols import problem
from gateway.protocols.cmapi_request import decode_request

BATCH_BYTES_MAX: Final = 4 * 2**20  # of the body, signed or not
LINES_MAX: Final = 1_000

_LINE: Final = re.compile(rb"[^ \t\r\n][^\n]*")  # from the first byte that is no white space

# An array read as a struct: elements past its fields are skipped, where a list of them would hold
# a hundred megabytes when the body is full of zeros.
_Elements: Final = msgspec.defstruct(
    "_Elements",
    [(f"element_{number}", msgspec.Raw, msgspec.Raw()) for number in range(LINES_MAX + 1)],
    array_like=True,
)
_decode_elements: Final = msgspec.json.Decoder(_Elements).decode


class _Named(msgspec.Struct):
    correlation_id: Any = msgspec.field(default=None, name="correlationId")


_decode_named: Final = msgspec.json.Decoder(_Named).decode


class _Answer(msgspec.Struct, rename="camel"):
    correlation_id: str | None
    status: int
    replayed: bool
    response: msgspec.Raw


_encode: Final = msgspec.json.Encoder().encode


class Refused(msgspec.Struct):
    """A line that is no request of a batch, and why.

    `correlation_id` is None where it is missing or cannot be an id.
    """

    correlation_id: str | None
    error: GatewayError


def split_body(body: bytes) -> list[bytes]:
    """Give the lines of an NDJSON body without the blank ones. Raises TooLarge past LINES_MAX."""
    return _bounded(match[0] for match in islice(_LINE.finditer(body), LINES_MAX + 1))


def split_requests(requests: msgspec.Raw | None) -> list[bytes]:
    """Give the elements of a signed payload's `requests`, JSON text each.

    Raises BadRequest for what is no array, TooLarge past LINES_MAX.
    """
    try:
        elements = _decode_elements(b"null" if requests is None else requests)
    except (ValueError, RecursionError):
        raise BadRequest("requests must be an array", "requests") from None
    texts = map(bytes, msgspec.structs.astuple(elements))
    return _bounded(text for text in texts if text)


class LineReader:
    """Reads the lines of one batch, in order; it knows the correlation ids that it has met."""

    __slots__ = ("_met", "line_bytes_max")

    def __init__(self, line_bytes_max: int) -> None:
        self.line_bytes_max = line_bytes_max
        self._met: set[str] = set()

    def read(self, text: bytes) -> AccessRequest | Refused:
        """Read the next line; a request that is given has a correlation id. Never raises.

        A correlation id names the first line that has it, even one that is refused: answers are
        told apart by it.
        """
        try:
            if len(text) > self.line_bytes_max:
                bound = self.line_bytes_max
                raise TooLarge(f"A line may have {bound} bytes", str(bound))
            request = decode_request(text)
            name = request.correlation_id
            if name is None:
                raise BadRequest("correlationId is required in a batch", "correlationId")
            if name in self._met:
                raise BadRequest("correlationId is that of an earlier line", "correlationId")
        except GatewayError as error:
            name = _correlation_id(text)
            if name is not None:
                self._met.add(name)
            return Refused(name, error)
        self._met.add(name)
        return request


def encode_answer(correlation_id: str | None, response: bytes, *, replayed: bool) -> bytes:
    """Write the answer line of a request that was applied, or had been; `response` is JSON."""
    return _line(correlation_id, 200, replayed, response)


def encode_refusal(correlation_id: str | None, error: GatewayError) -> bytes:
    """Write the answer line of a request that was refused, as it would have been by itself."""
    status, _, body = problem.render(error)
    return _line(correlation_id, status, False, body)


def _line(correlation_id: str | None, status: int, replayed: bool, response: bytes) -> bytes:
    return _encode(_Answer(correlation_id, status, replayed, msgspec.Raw(response))) + b"\n"


def _correlation_id(text: bytes) -> str | None:
    """Find the id in a line that is no request; a longer one than a line may be is only skimmed."""
    try:
        value = _decode_named(text).correlation_id
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, str) and visible_ascii(value) else None


def _bounded(texts: Iterable[bytes]) -> list[bytes]:
    found = list(texts)
    if len(found) > LINES_MAX:
        raise TooLarge(f"A batch may have {LINES_MAX} lines", str(LINES_MAX))
    return found
