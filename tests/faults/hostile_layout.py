"""Whether what is in a store is what its layout allows: every key, its type, its lifetime.

Decided here: the shapes of keys, spelt as patterns of their own, so that a key which the layout's
own functions would make of a hostile name is found all the same: an instance or an upstream must be
one that there is. Source: gateway/store/keys.py, which a test holds this table to.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final
from zlib import crc32

PARTITIONS: Final = 256

# Behind `gw:{pNNN}:`: the key, its type, whether it lapses.
_OF_PARTITIONS: Final = (
    (r"instances", "set", False),
    (r"due", "zset", False),
    (r"dirty", "set", False),
    (r"lease", "string", True),
    (r"pulse", "string", True),
    (r"[dels]:[A-Za-z0-9_-]{22}", "string", True),  # digests: no name from outside
    (r"l:[A-Za-z0-9_-]{22}:u", "zset", True),
)
# Behind `gw:{pNNN}:i:<instance>:`, of an instance that there is.
_OF_INSTANCES: Final = (
    (r"cat|used|holds|undo|ledger", "hash", False),
    (r"lapse|seen", "zset", False),
    (r"record", "stream", False),
    (r"(days|month):20[0-9]{2}(0[1-9]|1[0-2])", "hash", False),
    (r"(open|sealed|blocked|refused|aside|sync):(<upstreams>)", "hash", False),
)
_KEY: Final = re.compile(r"gw:\{p([0-9]{3})\}:(?:i:([A-Za-z0-9._-]{1,64}):)?(.+)", re.DOTALL)


def foreign(client: Any, instances: Collection[str], upstreams: Collection[str] = ()) -> list[str]:
    """Name each key of a store that is not as the layout has it, and in what."""
    keys = [key.decode("utf-8", "backslashreplace") for key in client.scan_iter(count=1_000)]
    found = []
    for key in keys:
        row = shape(key, instances, upstreams)
        if row is None:
            found.append(f"{key!r} is no key of the layout")
            continue
        kind, lapses = row
        actual = client.type(key).decode()
        if actual not in (kind, "none"):  # one that lapses may be gone by now
            found.append(f"{key!r} is a {actual}, not a {kind}")
        if client.ttl(key) == -1 and lapses:
            found.append(f"{key!r} never lapses")
    return found


def shape(
    key: str, instances: Collection[str], upstreams: Collection[str] = ()
) -> tuple[str, bool] | None:
    """Give the type of a key and whether it lapses; None: the layout has no such key."""
    if key == "gw:meta":
        return "hash", False
    if key == "gw:{gw:meta}:pulse":
        return "string", True
    found = _KEY.fullmatch(key)
    if found is None or int(found[1]) >= PARTITIONS:
        return None
    partition, instance, rest = int(found[1]), found[2], found[3]
    rows = _OF_PARTITIONS
    if instance is not None:
        if instance not in instances or crc32(instance.encode()) % PARTITIONS != partition:
            return None
        rows = _OF_INSTANCES
    names = "|".join(map(re.escape, upstreams)) or "(?!)"
    for pattern, kind, lapses in rows:
        if re.fullmatch(pattern.replace("<upstreams>", names), rest):
            return kind, lapses
    return None


def strange_fields(client: Any, instance: str, lines: Collection[str]) -> list[str]:
    """Name each field of an instance's counters that is of no line that there is, nor of none: so
    are denials counted of what no line serves.
    """
    prefix = f"gw:{{p{crc32(instance.encode()) % PARTITIONS:03d}}}:i:{instance}:"
    found = []
    for key in client.scan_iter(match=f"{prefix}*"):
        if re.fullmatch(r"used|undo|(days|month):[0-9]{6}", key.decode().removeprefix(prefix)):
            fields = [field.decode().split("|")[0] for field in client.hkeys(key)]
            found += [f"{key!r} has {field!r}" for field in set(fields) - {*lines, ""}]
    return found
