"""Every key in the store: its name, its type, its hash tag, its lifetime.

The hash tag is a partition, not a tenant: `gw:{p017}:…`, p = crc32(instance) % P, with P fixed at
installation. So all keys of one instance share a slot, a script may touch them together, and a
forwarder enumerates P known keys instead of scanning. `gw:meta` is the one key without a tag.
Nothing but this file spells a key. Source: DESIGN 4.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from zlib import crc32

from gateway.core.base64url import b64url_encode

LAYOUT_VERSION: Final = 1
PULSE_MS: Final = 1  # it need only be written
PARTITIONS_DEFAULT: Final = 256
PARTITIONS_MAX: Final = 999

# HASH: layout, partitions, default (instance id behind `~`), signing_key, session_key. Kept for
# ever.
META: Final = "gw:meta"

STAGED: Final = "r"  # the room of what a restore brings, until it is swapped in; else the room is i
KNOWN_IDS: Final = "gw:{p*}:[de]:*"  # all idempotency ids, as a pattern

_KNOWN_ID: Final = re.compile(r"gw:\{p(\d{3})\}:([de]):(.+)")


def partition_of(instance: str, partitions: int) -> int:
    """Give the partition of an instance, 0 to partitions - 1."""
    return crc32(instance.encode()) % partitions


def tag(partition: int) -> str:
    """Give the hash tag, braces included, of a partition."""
    return f"{{p{partition:03d}}}"


class InstanceKeys:
    """The keys of one instance, spelt once and kept."""

    __slots__ = (
        "cat",
        "dirty",
        "due",
        "holds",
        "instance",
        "instances",
        "lapse",
        "lease",
        "ledger",
        "partition",
        "prefix",
        "record",
        "seen",
        "tag",
        "undo",
        "used",
    )

    def __init__(self, instance: str, partitions: int, room: str = "i") -> None:
        self.instance = instance
        self.partition = partition_of(instance, partitions)
        self.tag = tag(self.partition)
        self.prefix = prefix = f"gw:{self.tag}:{room}:{instance}:"
        # HASH version, blob, cut (expiries still to be cut into holds); while it is being restored
        # no blob, but closed_blob and closed_version
        self.cat = prefix + "cat"
        # HASH <line>|<period> -> units; elsewhere|<line>|<period> -> units that another server took
        self.used = prefix + "used"
        # HASH host -> packed {line, count, lapse, model, since, borrowed}…; the last may be absent,
        # and both are in what was last written by an earlier release
        self.holds = prefix + "holds"
        # ZSET by moment: a host by its next lapse; u|<line>|<host> when its undo is forgotten;
        # p|<line>|<period> when a past period's used and elsewhere are.
        self.lapse = prefix + "lapse"
        self.seen = prefix + "seen"  # ZSET host by last request
        self.undo = prefix + "undo"  # HASH <line>|<host> -> packed consumptions, oldest first
        # HASH seq, last_ms, since_ms, folds (calls that folded days), folded (the last month that
        # they folded to, yyyymm), epoch (of the last restore), epoch_seq|<epoch>, epoch_cat|<epoch>
        # (how far an earlier one went), epoch_gone (1: a restore forgot units that had gone);
        # acked|<line>, days|<line>;
        # base, open, sealed, forwarded, parked, dead|<line>|<upstream>
        self.ledger = prefix + "ledger"
        self.record = prefix + "record"  # STREAM of people's decisions
        partition_keys = PartitionKeys(self.partition)
        self.instances = partition_keys.instances
        self.due = partition_keys.due
        self.dirty = partition_keys.dirty
        self.lease = partition_keys.lease

    def days(self, month: int) -> str:
        """HASH of one month, yyyymm: <line>|<yyyymmdd>|u units, b given back, p peak, h held at
        last, d:<code> denials."""
        return f"{self.prefix}days:{month}"

    def month(self, month: int) -> str:
        """HASH of one month, yyyymm, whose days were folded: <line>|<yyyymm>|u b p h d:<code>, as
        in days."""
        return f"{self.prefix}month:{month}"

    def open(self, upstream: str) -> str:
        """HASH <line>|<hour>[|<host>] -> units: what waits to go to this upstream."""
        return f"{self.prefix}open:{upstream}"

    def sealed(self, upstream: str) -> str:
        """HASH id, rows, body, first_sent_ms, first_attempt, at_ms, attempts: the batch under way;
        halves, id.<n>, rows.<n>, body.<n>: the halves that wait behind it."""
        return f"{self.prefix}sealed:{upstream}"

    def blocked(self, upstream: str) -> str:
        """HASH <line>|<hour>[|<host>] -> units: what this upstream refuses to take for now."""
        return f"{self.prefix}blocked:{upstream}"

    def refused(self, upstream: str) -> str:
        """HASH <line>|[<host>] -> why and until when it is refused, as JSON."""
        return f"{self.prefix}refused:{upstream}"

    def aside(self, upstream: str) -> str:
        """HASH <id>|facts, <id>|rows, <id>|body: batches taken out of the lane for a decision."""
        return f"{self.prefix}aside:{upstream}"

    def sync(self, upstream: str) -> str:
        """HASH <line> -> what this upstream last said of it, as JSON; |enabled, |hours, |minutes,
        |asked, |answered, |begun_ms: when it is asked, and was last (syncs.py)."""
        return f"{self.prefix}sync:{upstream}"

    def part(self, name: str) -> str:
        """Give the key of a part of the instance by its name, such as `holds` or `open:parent`."""
        return self.prefix + name

    def outcome(self, dedupe_id: str) -> str:
        """STRING with PX: fingerprint, outcome, echo and catalogue version of an idempotency id;
        seq and instance, which an earlier release did not write."""
        return f"gw:{self.tag}:d:{dedupe_id}"

    def explained(self, dedupe_id: str) -> str:
        """STRING with PX: why an idempotency id came to what it came to."""
        return f"gw:{self.tag}:e:{dedupe_id}"

    def logins(self, user: str) -> str:
        """STRING with PX: how many log-ins of this name failed."""
        return f"gw:{self.tag}:l:" + _digest(f"{self.instance}\x1f{user}")

    def ended_session(self, session_id: str) -> str:
        """STRING with PX: that a session at the pages was ended by logging out."""
        return f"gw:{self.tag}:s:" + _digest(f"{self.instance}\x1f{session_id}")

    def block(self, upstreams: list[str], months: list[int]) -> list[str]:
        """Give the keys of one context of a call, in the order of apply.lua's header."""
        return [
            self.cat,
            self.used,
            self.holds,
            self.lapse,
            self.seen,
            self.undo,
            self.ledger,
            self.due,
            self.dirty,
            *(self.open(name) for name in upstreams),
            *(self.days(month) for month in months),
        ]


def address_logins(address: str, partitions: int) -> str:
    """STRING with PX: how many log-ins from this address failed, at any instance; hence in the
    address's own partition."""
    return f"gw:{tag(partition_of(address, partitions))}:l:{_digest(address)}"


def logins_under_way(logins: str) -> str:
    """ZSET with PX, id of an attempt by when it lapses: the log-ins under way beside a count of
    those that failed.
    """
    return f"{logins}:u"


def read_known_id(key: str) -> tuple[int, str, str]:
    """Give the partition, the kind (`d` or `e`) and the name of an idempotency id's key."""
    found = _KNOWN_ID.fullmatch(key)
    assert found is not None, key  # noqa: S101  keys that match KNOWN_IDS are ours
    return int(found[1]), found[2], found[3]


def nothing(partition: int) -> str:
    """Give a key that never exists: who is asked for it tells whether the slot is on its way."""
    return f"gw:{tag(partition)}:nothing"


def pulse(key: str) -> str:
    """STRING with PX, of PULSE_MS, in the slot of a key: a write for a wait to wait for."""
    tagged = re.search(r"\{(.+?)\}", key)
    return f"gw:{{{tagged[1] if tagged else key}}}:pulse"


def _digest(name: str) -> str:
    """Give 22 characters for a name from outside: it chooses neither length nor characters."""
    return b64url_encode(hashlib.sha256(name.encode()).digest()[:16])


class PartitionKeys:
    """The keys that the instances of a partition share."""

    __slots__ = ("dirty", "due", "instances", "lease")

    def __init__(self, partition: int) -> None:
        prefix = f"gw:{tag(partition)}:"
        self.instances = prefix + "instances"  # SET
        self.due = prefix + "due"  # ZSET instance by its next lapse
        self.dirty = prefix + "dirty"  # SET instances with something to forward
        self.lease = prefix + "lease"  # STRING uuid:token, PX: the one forwarder
