"""What `doctor` asks of the store: what it is, what it keeps, its clocks, the key in it.

Decided here: which checks there are beside the store's own examination, and that none of them
writes anything that stays: neither the layout nor the signing key is made here. Not decided here:
what is strong enough for a level (store/strength.py). Source: INTERFACE 1, RELIABILITY 2, DESIGN 6.
"""

from __future__ import annotations

import re
import time
from typing import Final

from redis.exceptions import RedisError

from gateway.config import Config
from gateway.core.errors import GatewayError, InvalidInput
from gateway.core.keys import algorithm_of
from gateway.service.health import SKEW_S_MAX
from gateway.store.findings import Finding, Verdict
from gateway.store.keys import LAYOUT_VERSION
from gateway.store.opening import EMBEDDED, open_topology
from gateway.store.primaries import read_clocks_s
from gateway.store.server import read_layout
from gateway.store.signing import find_signing_key
from gateway.store.strength import examine
from gateway.store.topology import Client, Topology

SKEW_S_NOTED: Final = 2.0
TOLD_MAX: Final = 200  # characters of what the store says that are repeated

# What to do about an answer that is none, by words of it; what none fits is away.
_MENDS: Final = {
    "authentication required|username-password|password configured": (
        "mend user and password in redis.url"
    ),
    "no permissions": "let this user send it and use the keys gw:* (ACL SETUSER)",
    "certificate": "mend ssl_ca_certs or the host in redis.url, or the server's certificate",
    "loading its data|loading the dataset": "wait until it has loaded its data",
    "cluster support": "write redis.url as redis://HOST:PORT: it is no node of a cluster",
    "they know of none": "mend the name behind the sentinels in redis.url: redis+sentinel://…/NAME",
    "is down, as they see it": "start the primary, or wait for the sentinels to promote a replica",
}


async def check_store(config: Config) -> list[Finding]:
    """Look at the store, its clocks and the signing key. Raises InvalidInput for its address."""
    asked = config.redis
    findings: list[Finding] = []
    try:
        async with open_topology(asked.url, config.data_dir, ack=asked.ack) as (topology, _):
            await topology.refresh()
            strength = await examine(topology, asked.ack, asked.ack_replicas, asked.partitions)
            findings += strength.findings
            if not strength.unfit:
                findings += await _check_clocks(topology, asked.partitions)
                findings.append(await _check_layout(topology.client, asked.partitions))
                findings.append(await _check_signing_key(config, topology.client))
    except InvalidInput:
        raise
    except (RedisError, OSError, GatewayError) as error:
        findings.append(_judge_failure(error))
    return findings


def _judge_failure(error: Exception) -> Finding:
    """Tell why nothing more could be asked, and what to do about it."""
    why = " ".join(str(error).split()).rstrip(".")[:TOLD_MAX] or "it does not answer in time"
    for words, mend in _MENDS.items():
        if re.search(words, why, re.IGNORECASE):
            return Finding("reach", Verdict.FAIL, f"the store refuses: {why}", mend)
    mend = "start it, or mend host and port in redis.url, or the way there"
    return Finding("reach", Verdict.FAIL, f"the store cannot be reached: {why}", mend, away=True)


async def _check_clocks(topology: Topology, partitions: int) -> list[Finding]:
    clocks_s = await read_clocks_s(topology, partitions)
    at_s = time.time()
    return [_judge_clock(node, at_s - clock_s) for node, clock_s in sorted(clocks_s.items())]


def _judge_clock(node: str, skew_s: float) -> Finding:
    told = f"this machine's clock and the store's are {abs(skew_s):.1f} s apart"
    mend = "keep both in step, by NTP"
    if abs(skew_s) > SKEW_S_MAX:
        return Finding("clock", Verdict.FAIL, told, mend, where=node)
    if abs(skew_s) > SKEW_S_NOTED:
        return Finding("clock", Verdict.WARN, told, mend, where=node)
    return Finding("clock", Verdict.OK, told, where=node)


async def _check_layout(client: Client, partitions: int) -> Finding:
    layout, found = await read_layout(client)
    if not layout:
        told = f"not laid out yet; the first start makes {partitions} partitions, for good"
        return Finding("layout", Verdict.OK, told)
    if layout != LAYOUT_VERSION:
        told = f"laid out in version {layout}, this gateway needs {LAYOUT_VERSION}"
        mend = "take the gateway that goes with this store"
        return Finding("layout", Verdict.FAIL, told, mend)
    if found != partitions:
        told = f"installed with {found} partitions, the configuration says {partitions}"
        return Finding("layout", Verdict.FAIL, told, f"set redis.partitions = {found}")
    return Finding("layout", Verdict.OK, f"version {layout}, {found} partitions")


async def _check_signing_key(config: Config, client: Client) -> Finding:
    signing = config.signing
    named = config.path(signing.key_file) if signing.key_file else None
    embedded = config.redis.url == EMBEDDED
    try:
        origin, key = await find_signing_key(client, named, config.data_dir, embedded=embedded)
    except InvalidInput as error:
        mend = "mend or replace it; signing.key_file says where it is"
        return Finding("signing key", Verdict.FAIL, "; ".join(error.problems), mend)
    if key is None:
        return Finding("signing key", Verdict.OK, f"the first start makes it, in {origin}")
    if algorithm_of(key) != signing.alg:
        told = f"the key in {origin} is for {algorithm_of(key)}, signing.alg is {signing.alg}"
        mend = f'set signing.alg = "{algorithm_of(key)}", or take another key'
        return Finding("signing key", Verdict.FAIL, told, mend)
    return Finding("signing key", Verdict.OK, f"{signing.alg}, in {origin}")
