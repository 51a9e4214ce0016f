"""The script alone: calls of apply.lua one behind the other, by a client that does nothing else.

Decided here: that a call carries as many requests as the gateway's own calls do when a batch fills
them, each with an id of its own, and that all calls are written out before the clock starts. What
is between this and a batch is what the gateway costs.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Final

import redis

from gateway.cli.benchmarks.loads import Sample, percentile
from gateway.cli.benchmarks.plant import Place, attached, reached
from gateway.cli.benchmarks.processes import cpu_s
from gateway.cli.benchmarks.scene import FEATURES, INSTANCE, CaseFailed
from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.catalogue import CatalogueIndex
from gateway.core.fingerprint import dedupe_id, fingerprint
from gateway.core.model import AccessRequest, Host, Want
from gateway.protocols.cmapi_answer import write_echo
from gateway.store.calls import Frame, Job, decode_reply, encode_call
from gateway.store.frames import Frames, StoreClock
from gateway.store.lanes import CONTEXT_WORK, WORK_MAX
from gateway.store.scripts import Script

TTL_MS: Final = 3_600_000
TIMEOUT_S: Final = 30
CALLS_PER_S_MAX: Final = 400  # written out before the clock starts; a round ends with them

ID_LIKE: Final = "correlation-0123456789"  # of the length of those that are sent

Framed = list[tuple[Job, Frame]]


def asking(host: str, *features: str) -> AccessRequest:
    """Give a request for one more of some features."""
    wants = tuple(Want(name, "1.0", 1) for name in features)
    return AccessRequest(
        host=Host("string", host), wants=wants, incremental=True, correlation_id=ID_LIKE
    )


REQUEST: Final = asking("h1", *FEATURES)


def job(index: CatalogueIndex, request: AccessRequest = REQUEST, ttl_ms: int = TTL_MS) -> Job:
    """Make a job as the gateway makes it of a line of a batch, with an id that nobody has."""
    name = secrets.token_urlsafe(16)
    return Job(
        index,
        index.resolve(request),
        dedupe_id(index.catalogue.id, name),
        ttl_ms,
        fingerprint(request).hex(),
        write_echo(request),
        request.host.canonical,
        INCREMENTAL,
    )


async def drive(place: Place, seconds: float) -> Sample:
    """Call the script of a place's store for some seconds; `requests` are the asks of its calls.

    `cpu_us` is this process's processor time per ask. Raises CaseFailed.
    """
    assert place.data_dir is not None  # noqa: S101 - it has a store
    assert place.store_pid is not None  # noqa: S101
    async with attached(place.data_dir) as store:
        index = await store.catalogues.read(INSTANCE)
        if index is None:
            raise CaseFailed(f"The instance {INSTANCE} is gone")
        partitions, script = store.partitions, store.scripts.apply
    calls = _calls(index, partitions, max(1, int(CALLS_PER_S_MAX * seconds)))
    with reached(place.data_dir) as path:
        return await asyncio.to_thread(_drive, script, calls, path, seconds, place.store_pid)


def _calls(index: CatalogueIndex, partitions: int, count: int) -> list[Framed]:
    size = (WORK_MAX - CONTEXT_WORK) // job(index).work
    clock = StoreClock()
    clock.hear(time.time_ns() // 1_000_000, 0.0)
    frames = Frames(partitions, clock)
    return [frames.give([(job(index), None) for _ in range(size)], 0.0) for _ in range(count)]


def _drive(
    script: Script, calls: list[Framed], path: str, seconds: float, store_pid: int
) -> Sample:
    latencies: list[float] = []
    replies: list[bytes] = []
    with redis.Redis(unix_socket_path=path, socket_timeout=TIMEOUT_S) as client:
        client.script_load(script.text)
        connection: Any = client.connection_pool.get_connection()
        packed = [_packed(connection, script, framed) for framed in calls]
        began_s, own_s, store_s = time.perf_counter(), time.process_time(), cpu_s(store_pid)
        for call in packed:
            sent_s = time.perf_counter()
            if sent_s >= began_s + seconds:
                break
            connection.send_packed_command(call)
            replies.append(connection.read_response())
            latencies.append((time.perf_counter() - sent_s) * 1000)
        took_s = time.perf_counter() - began_s
        own_s, store_s = time.process_time() - own_s, cpu_s(store_pid) - store_s
        client.connection_pool.release(connection)
    asks = sum(_applied(reply, framed) for reply, framed in zip(replies, calls, strict=False))
    latencies.sort()
    return Sample(
        requests=asks,
        seconds=took_s,
        errors=0,
        p50_ms=percentile(latencies, 0.5),
        p99_ms=percentile(latencies, 0.99),
        cpu_us=own_s * 1e6 / asks,
        store_us=store_s * 1e6 / asks,
    )


def _packed(connection: Any, script: Script, framed: Framed) -> Any:
    keys, asks = encode_call(framed)
    return connection.pack_command("EVALSHA", script.sha, len(keys), *keys, asks)


def _applied(reply: bytes, framed: Framed) -> int:
    """Count the asks of a call. Raises CaseFailed unless all of them were applied."""
    _, told = decode_reply(reply, framed)
    if any(each.verdict is not Verdict.DONE for each in told):
        raise CaseFailed("The script did not apply what it was called with")
    return len(told)
