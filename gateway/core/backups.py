"""What a backup is made of: its frames, in the order in which they stand in the file.

Decided here: the frames and their members. A header; for each instance one Begin, its Parts and
one End; then Ids. Parts carry what the store has under a name, as it is there, so that a field
which a later release adds is carried too. Not decided here: how frames are bytes
(protocols/backup_file.py), what is read at one moment (store/snapshots.py). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

FORMAT: Final = 1
PART_FIELDS_MAX: Final = 1_000  # of one frame
PART_BYTES_MAX: Final = 1 << 20  # of one frame, but for its last field
PARKED_PREFIX: Final = "restored-"  # of the ids of batches that a restore makes of open units

MOMENT_MS_MAX: Final = 253_402_300_799_999  # the year 9999 ends
_Moment = Annotated[int, msgspec.Meta(ge=0, le=MOMENT_MS_MAX)]

_NAME: Final = r"[A-Za-z0-9._-]{1,64}"
HASHES: Final = re.compile(
    r"cat|ledger|used|holds|undo|(?:days|month):[0-9]{6}"
    rf"|(?:open|sealed|blocked|refused|aside|sync):{_NAME}"
)
SCORED: Final = re.compile(r"lapse|seen")


class Header(msgspec.Struct, frozen=True, array_like=True, tag="header"):
    """What the file is of. `at_ms` is the store's time when it was begun; `meta` has the gateway's
    own keys and the default instance (store/own.py), and is empty unless the backup is of the
    `whole` store.
    """

    gateway: str
    layout: int
    partitions: int
    at_ms: _Moment
    whole: bool
    meta: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Header(at_ms={self.at_ms}, whole={self.whole})"  # keys are for no log


class Begin(msgspec.Struct, frozen=True, array_like=True, tag="begin"):
    """What follows, until its End, is one instance as it stood at `at_ms` of its server."""

    instance: str
    at_ms: _Moment


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """Some of a hash, field and value, or of a sorted set, member and score as text."""

    name: str
    pairs: list[tuple[bytes, bytes]]


class Entries(msgspec.Struct, frozen=True, array_like=True, tag="entries"):
    """Some of the record of decisions, ascending: id, and names and values by turns."""

    entries: list[tuple[str, list[bytes]]]


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The instance is complete."""

    instance: str


class KnownId(msgspec.Struct, frozen=True, array_like=True):
    """An idempotency id with what became of it (`d`), or why (`e`); forgotten at `until_ms`."""

    instance: str
    kind: str
    name: str
    until_ms: _Moment
    value: bytes


class Ids(msgspec.Struct, frozen=True, array_like=True, tag="ids"):
    """Some idempotency ids, of any instances of the file."""

    ids: list[KnownId]


Frame = Header | Begin | Part | Entries | End | Ids


class Totals(msgspec.Struct, frozen=True):
    """What the file's last line says of all before it."""

    format: int
    frames: int
    instances: int
    ids: int
    sha256: str


def is_part(name: str) -> bool:
    """Say whether an instance can have something under this name."""
    return bool(HASHES.fullmatch(name) or SCORED.fullmatch(name))


def text_fields(pairs: Mapping[bytes, bytes]) -> dict[str, int]:
    """Read a ledger: all its fields are integers."""
    return {name.decode(): int(value) for name, value in pairs.items()}
