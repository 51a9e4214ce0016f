"""How rows and marks are spelt in the store's hashes.

Decided here: the fields of open, blocked and refused, a second time beside the Lua files. Not
decided here: what is read when (outbox.py, asides.py). Pure. Source: DESIGN 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.core.ports import Mark
from gateway.core.usage import BATCH_ROWS_MAX, Row

decode_rows: Final = msgspec.msgpack.Decoder(tuple[Row, ...]).decode
_encode_mark: Final = msgspec.json.Encoder().encode
_decode_mark: Final = msgspec.json.Decoder(Mark).decode


def row_of(field: bytes, units: bytes) -> Row:
    """Read a row from a field of open or blocked, and its value."""
    # A host's value may hold a bar, a line's id does not.
    line, hour, *host = field.decode().split("|", 2)
    return Row(line, int(hour), host[0] if host else "", int(units))


def mark_of(field: bytes, text: bytes) -> Mark:
    """Read a mark from a field of refused, and its value."""
    line, _, host = field.decode().partition("|")
    return msgspec.structs.replace(_decode_mark(text), line=line, host=host)


def spelt(mark: Mark) -> tuple[str, str]:
    """Write a mark as a field of refused, and its value."""
    return f"{mark.line}|{mark.host}", _encode_mark(mark).decode()


def portions(fields: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Cut a list into what one script call may move; at least one portion, the last marked."""
    for start in range(0, max(1, len(fields)), BATCH_ROWS_MAX):
        end = start + BATCH_ROWS_MAX
        yield fields[start:end], end >= len(fields)
