"""The file of a backup: frames <-> bytes.

Decided here: a first line that names the format, frames of msgpack with their lengths before them,
all of it through zlib, and a last line of JSON with counts and the SHA-256 of everything before it,
so that `head -n -1 FILE | sha256sum` checks a file without us. What is cut off, changed or of
another kind is BadBackup, in one sentence. A checksum is no signature: whoever can write the file
can write this line. Not decided here: what frames mean (core/backups.py). Pure.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from gateway.core.backups import FORMAT, Begin, Frame, Header, Ids, Totals
from gateway.core.errors import InvalidInput

FRAME_BYTES_MAX: Final = 1 << 28  # of one frame: half a store's largest value
CHUNK_BYTES: Final = 1 << 18
TRAILER_BYTES_MAX: Final = 1_000
FIRST_BYTES_MAX: Final = 64

_FIRST: Final = re.compile(rb"cmapi-gateway backup ([1-9][0-9]{0,8})\n\Z")
_LENGTH: Final = 4
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Frame).decode


class BadBackup(InvalidInput):
    """The file is no backup, or not whole as it was written; nothing was changed."""


class Source(Protocol):
    """What bytes are read from, such as a file."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class Writer:
    """Makes the bytes of a backup: those of `begin`, of each frame, and of `end`, in this order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._packer = zlib.compressobj()
        self.frames = self.instances = self.ids = 0

    def begin(self) -> bytes:
        """Give the first line."""
        return self._counted(b"cmapi-gateway backup %d\n" % FORMAT)

    def frame(self, frame: Frame) -> bytes:
        """Give what is ready to be written after this frame; it may be nothing yet."""
        self.frames += 1
        self.instances += isinstance(frame, Begin)
        self.ids += len(frame.ids) if isinstance(frame, Ids) else 0
        packed = _encode(frame)
        return self._counted(self._packer.compress(len(packed).to_bytes(_LENGTH, "big") + packed))

    def end(self) -> bytes:
        """Give all that is left, the last line included."""
        rest = self._counted(self._packer.flush() + b"\n")
        return rest + _last_line(self.totals)

    @property
    def totals(self) -> Totals:
        """Say what was written."""
        return Totals(FORMAT, self.frames, self.instances, self.ids, self._digest.hexdigest())

    def _counted(self, some: bytes) -> bytes:
        self._digest.update(some)
        return some


def read_frames(source: Source) -> Iterator[Frame]:
    """Give the frames of a backup, the header first, and hold its last line against them.

    Raises BadBackup, at the end at the latest: until the last frame was given, nothing that was
    read is known to be what was written.
    """
    digest = hashlib.sha256()
    first = source.readline(FIRST_BYTES_MAX)
    _check_format(first)
    digest.update(first)
    unpacker, held = zlib.decompressobj(), bytearray()
    frames = instances = ids = 0
    chunk = b""
    while not unpacker.eof:
        chunk = source.read(CHUNK_BYTES)
        if not chunk:
            raise BadBackup("The backup is cut off: its end is missing")
        given = chunk
        while given and not unpacker.eof:
            try:
                held += unpacker.decompress(given, CHUNK_BYTES)
            except zlib.error:
                raise _changed() from None
            given = unpacker.unconsumed_tail
            for frame in _frames(held):
                if (frames == 0) is not isinstance(frame, Header):
                    raise _changed()
                frames += 1
                instances += isinstance(frame, Begin)
                ids += len(frame.ids) if isinstance(frame, Ids) else 0
                yield frame
        digest.update(chunk[: len(chunk) - len(unpacker.unused_data)])
    tail = unpacker.unused_data + source.read(TRAILER_BYTES_MAX)
    digest.update(tail[:1])
    told = Totals(FORMAT, frames, instances, ids, digest.hexdigest())
    if held or not frames or tail != b"\n" + _last_line(told):
        if not tail.endswith(b"}\n"):
            raise BadBackup("The backup is cut off: its last line is missing")
        raise _changed()


def _check_format(first: bytes) -> None:
    named = _FIRST.match(first)
    if named is None:
        raise BadBackup("This is no backup of a gateway: its first line is another")
    if int(named[1]) != FORMAT:
        raise BadBackup(
            f"The backup is in format {int(named[1])}, this gateway reads format {FORMAT}: take the"
            " release that made it"
        )


def _frames(held: bytearray) -> Iterator[Frame]:
    """Take the whole frames off the beginning of what was unpacked."""
    at = 0
    while len(held) - at >= _LENGTH:
        length = int.from_bytes(held[at : at + _LENGTH], "big")
        if length > FRAME_BYTES_MAX:
            raise _changed()
        if len(held) - at < _LENGTH + length:
            break
        try:
            yield _decode(held[at + _LENGTH : at + _LENGTH + length])
        except msgspec.MsgspecError:
            raise _changed() from None
        at += _LENGTH + length
    del held[:at]


def _last_line(totals: Totals) -> bytes:
    return msgspec.json.encode(totals) + b"\n"


def _changed() -> BadBackup:
    return BadBackup("The backup was changed or damaged since it was written: it does not add up")
