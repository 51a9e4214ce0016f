"""What is found of a store's node, and what its own words (INFO, CONFIG) come to.

Decided here: which facts are too weak for which `ack` level, and in which words that is told,
together with what to do. Not decided here: what a write shows (strength.py), and whether a store
that is too weak may be used all the same (opening.py). Pure. Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

REDIS_FLOOR: Final = (7, 0)
VALKEY_FLOOR: Final = (7, 2)
WAITAOF_FLOOR: Final = (7, 2)

_LATE: Final = {
    "everysec": "an answer may be up to a second ahead of the disk, also behind WAITAOF",
    "no": "nobody knows when the disk has it, and calls would wait in vain",
}

Facts = Mapping[str, Any]


class Verdict(Enum):
    """What follows from a finding."""

    OK = "ok"
    WARN = "warn"  # it serves; somebody should look at it
    FAIL = "FAIL"  # less than was asked for


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do about it; `where` is a node, "" the one server.

    Of failures: `unfit` where no permission makes the store usable, `passing` where it may mend by
    itself in moments, `noticed` where each call that it matters to fails by itself, so that no
    answer promises too much; `away` where the node did not answer.
    """

    check: str
    verdict: Verdict
    told: str
    mend: str = ""
    where: str = ""
    unfit: bool = False
    passing: bool = False
    noticed: bool = False
    away: bool = False

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return where + (f"{self.told}; {self.mend}" if self.mend else self.told)


def judge(node: str, facts: Facts, ack: str, replicas: int) -> list[Finding]:
    """Judge what a node tells of itself; `replicas` is how many the level asks for."""
    found = _judged(facts, ack, replicas, in_cluster=bool(node))
    return [replace(each, where=node) for each in found]


def judge_replica(where: str, facts: Facts) -> Finding:
    """Judge a replica whose word that all is on its disk is believed, and that may be promoted."""
    if not int(facts.get("aof_enabled", 0)):
        told = "it has no append-only file: it counts for nothing here, and is too weak to promote"
        return Finding("replica", Verdict.WARN, told, "set appendonly yes there", where)
    return replace(_syncs(facts), check="replica", where=where)


def version_of(facts: Facts) -> tuple[int, ...]:
    """Give the version of a server."""
    text = str(facts.get("valkey_version") or facts.get("redis_version", "0"))
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def name_of(facts: Facts) -> str:
    """Give name and version of a server, such as Valkey 9.1.2."""
    kind = "Valkey" if "valkey_version" in facts else "Redis"
    return f"{kind} {'.'.join(map(str, version_of(facts)))}"


def knows_waitaof(facts: Facts) -> bool:
    """Say whether a server knows WAITAOF; both lines have it since their 7.2."""
    return version_of(facts) >= WAITAOF_FLOOR


def _judged(facts: Facts, ack: str, replicas: int, *, in_cluster: bool) -> Iterator[Finding]:
    yield _version(facts)
    if facts.get("server_mode", facts.get("redis_mode")) == "sentinel":
        mend = "write redis.url as redis+sentinel://HOST:PORT/NAME"
        yield Finding("kind", Verdict.FAIL, "this is a sentinel", mend, unfit=True)
        return
    if not in_cluster and int(facts.get("cluster_enabled", 0)):
        mend = "write redis.url as redis+cluster://HOST:PORT"
        yield Finding("kind", Verdict.FAIL, "this is a node of a cluster", mend, unfit=True)
    yield _eviction(facts)
    yield _role(facts)
    yield _append_only_file(facts, ack)
    if ack in ("local", "replica_fsync"):
        yield _syncs(facts)
    if ack == "replica_fsync":
        yield from _waitaof(facts, ack)
    if ack in ("replica", "replica_fsync"):
        yield _replicas(facts, replicas)
        yield from _cut_off(facts, replicas)


def _version(facts: Facts) -> Finding:
    name = name_of(facts)
    if version_of(facts) >= (VALKEY_FLOOR if "valkey_version" in facts else REDIS_FLOOR):
        return Finding("version", Verdict.OK, name)
    mend = "Redis 7.0 or Valkey 7.2 is needed"
    return Finding("version", Verdict.FAIL, f"{name} is too old", mend, unfit=True)


def _eviction(facts: Facts) -> Finding:
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("eviction", Verdict.OK, "nothing is evicted")
    told = f"maxmemory-policy is {policy}: counts could be evicted"
    return Finding("eviction", Verdict.FAIL, told, "set maxmemory-policy noeviction")


def _role(facts: Facts) -> Finding:
    if facts.get("role", "master") == "master":
        return Finding("role", Verdict.OK, "it is a primary")
    told = "it is a replica: counts are written to a primary"
    mend = "write its primary into redis.url, or its sentinels (redis+sentinel://HOST:PORT/NAME)"
    return Finding("role", Verdict.FAIL, told, mend)


def _append_only_file(facts: Facts, ack: str) -> Finding:
    check = "append-only file"
    if int(facts.get("aof_enabled", 0)):
        return Finding(check, Verdict.OK, "there is one")
    if ack == "memory":
        return Finding(check, Verdict.OK, "none, and none is needed")
    told = f'ack = "{ack}" needs an append-only file'
    return Finding(check, Verdict.FAIL, told, "set appendonly yes (CONFIG SET, and in its file)")


def _waitaof(facts: Facts, ack: str) -> Iterator[Finding]:
    """Refuse a server that cannot say what its replicas have on their disks."""
    if not knows_waitaof(facts):
        told = f'{name_of(facts)} knows no WAITAOF: ack = "{ack}" cannot be kept'
        yield Finding("WAITAOF", Verdict.FAIL, told, "take Redis 7.2 or Valkey 7.2")


def _syncs(facts: Facts) -> Finding:
    """Judge whether what a server answered is on its disk. WAITAOF does not make up for less.

    It answers early with `everysec`: what was written within a second of the last sync counts as
    synced (seen with Valkey 9.1.2, a primary and a replica; Redis mended it for itself in 2025).
    """
    policy = facts.get("appendfsync")
    if policy is None:
        told = "appendfsync cannot be read, since CONFIG GET is refused"
        mend = "let this user ask (+config|get), or see to it yourself that it is always"
        return Finding("syncs", Verdict.WARN, told, mend)
    if policy != "always":
        told = f"appendfsync is {policy}: {_LATE.get(policy, 'that is not always')}"
        mend = "set appendfsync always (CONFIG SET appendfsync always; also on the replicas)"
        return Finding("syncs", Verdict.FAIL, told, mend)
    if facts.get("no-appendfsync-on-rewrite") == "yes":
        told = "no-appendfsync-on-rewrite is yes: nothing is synced while the file is rewritten"
        mend = "set no-appendfsync-on-rewrite no (CONFIG SET; also on the replicas)"
        return Finding("syncs", Verdict.FAIL, told, mend)
    return Finding("syncs", Verdict.OK, "appendfsync is always")


def _replicas(facts: Facts, wanted: int) -> Finding:
    known = [value for name, value in facts.items() if re.fullmatch(r"slave\d+", name)]
    online = sum(isinstance(each, Mapping) and each.get("state") == "online" for each in known)
    told = f"replicas connected: {online}"
    if online >= wanted:
        return Finding("replicas", Verdict.OK, told)
    told += f", redis.ack_replicas asks for {wanted}"
    lower = f"redis.ack_replicas = {online}" if online else 'redis.ack = "local" or "written"'
    mend = f"start those that are missing, or add some (REPLICAOF), or set {lower}"
    on_the_way = len(known) >= wanted
    return Finding("replicas", Verdict.FAIL, told, mend, passing=on_the_way, noticed=True)


def _cut_off(facts: Facts, wanted: int) -> Iterator[Finding]:
    """Advise on what a primary does that is cut off from its replicas; no weakness of the level."""
    floor = facts.get("min-replicas-to-write")
    if floor is not None and int(floor) < wanted:
        told = f"min-replicas-to-write is {floor}: a primary cut off from its replicas goes on"
        mend = f"set min-replicas-to-write {wanted}, so that it refuses to count on its own"
        yield Finding("cut off", Verdict.WARN, told, mend)
