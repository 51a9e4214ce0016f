"""A primary's replicas in their own words, asked where the level rests on their disks.

Decided here: that they are asked at the addresses the primary names, with its user, password and
TLS, all at once and briefly; and that one that cannot be asked is worth a look and no failure: it
may be on a network of the servers' own. Not decided here: what their words come to (findings.py).
Source: RELIABILITY 2 and 5.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import RedisError

from gateway.store.addresses import HostPort
from gateway.store.facts import read_facts
from gateway.store.findings import Facts, Finding, Verdict, judge_replica
from gateway.store.server import client_over

ASKED_MAX: Final = 16  # replicas of one primary
ASKED_S_MAX: Final = 0.8  # until one has answered; as long as a probe waits

# What leads to the primary, and is not said of its replicas.
_WAY: Final = frozenset({"host", "port", "path", "locate"})


async def examine_replicas(primary: Redis, facts: Facts) -> list[Finding]:
    """Ask those that a primary's facts say are in sync whether they sync at each write."""
    places = list(_places(facts))[:ASKED_MAX]
    return await asyncio.gather(*(_examine(primary, place) for place in places))


def _places(facts: Facts) -> Iterator[HostPort]:
    for name, told in facts.items():
        if (
            re.fullmatch(r"slave\d+", name)
            and isinstance(told, Mapping)
            and told.get("state") == "online"
        ):
            yield str(told["ip"]), int(told["port"])


async def _examine(primary: Redis, place: HostPort) -> Finding:
    where = f"{place[0]}:{place[1]}"
    client = _client_beside(primary, place)
    try:
        async with asyncio.timeout(ASKED_S_MAX):
            return judge_replica(where, await read_facts(client))
    except (RedisError, OSError) as error:  # and the time-out
        why = str(error) or "it does not answer in time"
        told = f"this replica cannot be asked whether it syncs at each write: {why[:200]}"
        mend = "see to it yourself that it has appendonly yes and appendfsync always"
        return Finding("replica", Verdict.WARN, told, mend, where)
    finally:
        with suppress(RedisError, OSError):
            await client.aclose()


def _client_beside(primary: Redis, place: HostPort) -> Redis:
    """Make a client of another server, which is reached as this one is but for the address."""
    pool = primary.connection_pool
    options: dict[str, Any] = {
        name: value for name, value in pool.connection_kwargs.items() if name not in _WAY
    }
    kind = SSLConnection if issubclass(pool.connection_class, SSLConnection) else Connection
    host, port = place
    return client_over({**options, "connection_class": kind, "host": host, "port": port})
