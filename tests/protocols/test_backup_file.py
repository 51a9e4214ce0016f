"""The file of a backup: what was written is read, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.backups import Begin, End, Entries, Frame, Header, Ids, KnownId, Part
from gateway.protocols import backup_file
from gateway.protocols.backup_file import BadBackup, Writer, read_frames

HEADER = Header("1.0", 1, 256, 1_900_000_000_000, True, {"signing_key": "PEM"})
FRAMES: list[Frame] = [
    HEADER,
    Begin("DEMO", 5),
    Part("ledger", [(b"seq", b"7"), (b"\xff|", b"")]),
    Entries([("1-0", [b"who", b"ann"])]),
    End("DEMO"),
    Ids([KnownId("DEMO", "d", "x" * 22, 9, b"\x00\xff")]),
]


def written(frames: list[Frame]) -> bytes:
    writer = Writer()
    return writer.begin() + b"".join(map(writer.frame, frames)) + writer.end()


def read(file: bytes) -> list[Frame]:
    return list(read_frames(io.BytesIO(file)))


FILE = written(FRAMES)


def test_what_was_written_is_read() -> None:
    assert read(FILE) == FRAMES


def test_its_last_line_is_checked_without_us() -> None:
    """`head -n -1 FILE | sha256sum` gives what the last line says."""
    before, _, last = FILE.removesuffix(b"\n").rpartition(b"\n")
    assert hashlib.sha256(before + b"\n").hexdigest().encode() in last
    assert b'"instances":1,"ids":1' in last


def test_every_file_that_is_cut_off_is_refused() -> None:
    for length in range(len(FILE)):
        with pytest.raises(BadBackup):
            read(FILE[:length])
    with pytest.raises(BadBackup, match="cut off"):
        read(FILE[: len(FILE) // 2])


def test_every_flipped_bit_and_every_byte_more_is_refused() -> None:
    for place in range(len(FILE)):
        for bit in range(8):
            changed = bytearray(FILE)
            changed[place] ^= 1 << bit
            with pytest.raises(BadBackup):
                read(bytes(changed))
    for more in (b"\n", b"x", FILE):
        with pytest.raises(BadBackup):
            read(FILE + more)


def test_another_format_is_named_and_a_foreign_file_is_none() -> None:
    with pytest.raises(BadBackup, match="in format 2, this gateway reads format 1"):
        read(FILE.replace(b"backup 1\n", b"backup 2\n", 1))
    for foreign in (b"", b"REDIS0011", b"{}", b"cmapi-gateway backup 01\n", b"a" * 10_000):
        with pytest.raises(BadBackup, match="no backup of a gateway"):
            read(foreign)


def test_a_frame_without_end_is_not_waited_for() -> None:
    """A length beyond the bound is refused, not collected."""
    packed = zlib.compress((backup_file.FRAME_BYTES_MAX + 1).to_bytes(4, "big") + bytes(100))
    with pytest.raises(BadBackup, match="changed or damaged"):
        read(b"cmapi-gateway backup 1\n" + packed)


def test_keys_are_for_no_log() -> None:
    assert "PEM" not in repr(HEADER)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=9_000), st.binary(max_size=9)), max_size=60))
def test_frames_of_any_size_come_through_in_chunks(pairs: list[tuple[bytes, bytes]]) -> None:
    frames: list[Frame] = [HEADER, *(Part("holds", [pair]) for pair in pairs)]
    assert read(written(frames)) == frames


def test_a_file_larger_than_a_chunk_is_read_whole() -> None:
    noise = hashlib.shake_256(b"seed").digest(3 * backup_file.CHUNK_BYTES)
    frames: list[Frame] = [HEADER, Part("holds", [(b"h", noise)]), Part("used", [(b"u", noise)])]
    assert read(written(frames)) == frames
