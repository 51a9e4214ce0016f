"""What a store was found to be, held against the `ack` level that is asked of it.

Decided here: that every primary with keys of ours is looked at: its own words first, then those of
its replicas where their disks matter, and a probe, which is a write and the level's wait behind it,
as every call has them. Not decided here: what the words come to (findings.py), and whether a store
that is too weak may be used all the same (opening.py). Source: RELIABILITY 2 and 3.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import AskError, ClusterDownError, RedisError, TryAgainError

from gateway.store.durability import NO_WAIT, Wait, wait_for
from gateway.store.facts import NOT_KNOWN, Memory, fullest, read_facts
from gateway.store.findings import Facts, Finding, Verdict, judge, knows_waitaof, name_of
from gateway.store.keys import PULSE_MS, pulse
from gateway.store.primaries import key_by_node
from gateway.store.replicas import examine_replicas
from gateway.store.topology import Topology

PROBE_MS: Final = 800  # what calls wait for the level at most; below the socket's time-out
TOLD_MAX: Final = 200  # characters of what the store says that are repeated

# Where these fail, a probe would be refused or wait in vain, and tell nothing new.
_VAIN: Final = frozenset({"version", "kind", "role", "syncs", "WAITAOF", "replicas"})
# What to do about a probe that was refused, by a word of the refusal.
_MENDS: Final = {
    "NOREPLICAS": "bring its replicas back, or lower min-replicas-to-write",
    "maxmemory": "it is full: raise maxmemory, or remove what else is kept in it",
    "MISCONF": "make room on its disk, and see its log",
    "permission": "let this user write the keys gw:* (ACL SETUSER) and send what was refused",
}
# What tells of the cluster, whose slots are on their way or not all served, and not of the node.
_ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError)


@dataclass(frozen=True)
class Strength:
    """All findings; `wait` is what has to follow each call so that the level is kept.

    `nodes` are the primaries that were looked at, whether they answered or not; `memory` is that
    of the fullest.
    """

    version: str
    wait: Wait
    nodes: tuple[str, ...]
    findings: tuple[Finding, ...]
    memory: Memory = NOT_KNOWN

    @property
    def weak(self) -> tuple[str, ...]:
        """What is too weak, in sentences; of a node that did not answer nothing is known."""
        return tuple(str(each) for each in self._failures if not each.away)

    @property
    def unfit(self) -> tuple[str, ...]:
        """What of it nobody may allow."""
        return tuple(str(each) for each in self._failures if each.unfit)

    @property
    def unready(self) -> tuple[str, ...]:
        """What of `weak` speaks against sending requests here.

        What calls notice by themselves is none of it while other nodes are without it: of a cluster
        one shard without its replicas would else take all of it out of the balancer.
        """
        noticed_at = {each.where for each in self._failures if each.noticed or each.away}
        spared = noticed_at != set(self.nodes)
        failures = (each for each in self._failures if not each.away)
        return tuple(str(each) for each in failures if not (each.noticed and spared))

    @property
    def away(self) -> tuple[str, ...]:
        """Which nodes did not answer, and why."""
        return tuple(str(each) for each in self._failures if each.away)

    @property
    def passing(self) -> bool:
        """Whether it is too weak only in what may mend by itself in moments."""
        return bool(self._failures) and all(each.passing for each in self._failures)

    @property
    def _failures(self) -> list[Finding]:
        return [each for each in self.findings if each.verdict is Verdict.FAIL]


async def examine(topology: Topology, ack: str, replicas: int, partitions: int) -> Strength:
    """Look at every primary that has keys of ours, against a level of `redis.ack`.

    Raises RedisError or OSError when none can be reached, or says how it is set up: one that still
    reads its data does not.
    """
    keys = key_by_node(topology, partitions)
    clients = {node: topology.client_of(key) for node, key in keys.items()}
    facts, errors = await _ask_all(clients)
    if not facts:
        raise next(iter(errors.values()))
    wait = wait_for(ack, replicas)
    if ack == "local" and not all(map(knows_waitaof, facts.values())):
        wait = NO_WAIT  # they sync at each write then, or are too weak
    found = {node: judge(node, each, ack, replicas) for node, each in facts.items()}

    async def try_out(node: str) -> None:
        trials = []
        if ack == "replica_fsync":
            trials.append(examine_replicas(clients[node], facts[node]))
        if not _in_vain(found[node]):
            trials.append(_probe(node, clients[node], keys[node], wait))
        for findings in await asyncio.gather(*trials):
            found[node] += findings

    await asyncio.gather(*map(try_out, facts))
    found |= {node: [_away(node, error)] for node, error in errors.items()}
    return Strength(
        version=", ".join(sorted(set(map(name_of, facts.values())))),
        wait=wait,
        nodes=tuple(sorted(found)),
        findings=tuple(finding for node in sorted(found) for finding in found[node]),
        memory=fullest(facts.values()),
    )


async def _probe(node: str, client: Redis, key: str, wait: Wait) -> list[Finding]:
    """Write beside a key and wait as calls do; tell how long it took."""
    began_s = time.perf_counter()
    pipeline = client.pipeline(transaction=False)
    pipeline.set(pulse(key), 1, px=PULSE_MS)
    for command in wait.commands(PROBE_MS):
        pipeline.execute_command(*command)
    try:
        replies = await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError) as error:
        return [_away(node, error)]
    took_ms = (time.perf_counter() - began_s) * 1000
    asked = " ".join(map(str, wait.command))
    refused = next((each for each in replies if isinstance(each, RedisError)), None)
    if isinstance(refused, _ELSEWHERE):
        return [_away(node, refused)]
    if refused is not None:
        told = f"a probe was refused: {str(refused)[:TOLD_MAX].rstrip('.')}"
        mend = _mend(refused)
    elif asked and not wait.reached(replies[-1]):
        told = f"{asked} was not reached within {PROBE_MS} ms ({replies[-1]})"
        mend = "look at the replicas and the disks"
        if wait.ahead:
            mend = "set appendonly yes and appendfsync always on the replicas"
    else:
        told = f"written, and {asked} reached," if asked else "written"
        return [Finding("durability", Verdict.OK, f"{told} in {took_ms:.1f} ms", where=node)]
    return [Finding("durability", Verdict.FAIL, told, mend, node, passing=True, noticed=True)]


def _mend(refused: RedisError) -> str:
    """Say what to do about a refusal, which redis-py gives with or without its first word."""
    for word, mend in _MENDS.items():
        if word in str(refused):
            return mend
    return "see to what the store says, and that this user may write the keys gw:*"


def _in_vain(found: list[Finding]) -> bool:
    return any(each.verdict is Verdict.FAIL and each.check in _VAIN for each in found)


def _away(node: str, error: Exception) -> Finding:
    told = f"it cannot be reached: {str(error)[:TOLD_MAX] or 'it does not answer in time'}"
    mend = "start it, or mend the way there"
    return Finding("reach", Verdict.FAIL, told, mend, node, away=True)


async def _ask_all(
    clients: Mapping[str, Redis],
) -> tuple[dict[str, Facts], dict[str, Exception]]:
    """Ask all nodes for their facts; give those of each, or why there are none."""
    facts: dict[str, Facts] = {}
    errors: dict[str, Exception] = {}

    async def ask(node: str, client: Redis) -> None:
        try:
            facts[node] = await read_facts(client)
        except (RedisError, OSError) as error:
            errors[node] = error

    await asyncio.gather(*(ask(*each) for each in clients.items()))
    return facts, errors
