"""A server that the user runs: reached by every kind of address, refused when it is too weak."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import BusyLoadingError

from gateway.core.calls import INCREMENTAL, Verdict
from gateway.core.errors import GatewayError
from gateway.core.model import AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.store import opening
from gateway.store.bundled import SOCKET_FILE, launch
from gateway.store.calls import Job
from gateway.store.opening import open_store
from gateway.store.server import StoreUnfit
from gateway.store.strength import examine
from gateway.store.topology import OneServer
from tests.store.redis_server import DURABLE, redis_server
from tests.stores.programs import lasting_port
from tests.system.processes import eventually


async def count_once(url: str, data_dir: Path, **more: str) -> None:
    """Apply a request twice under one id, over a store at `url`."""
    line = Line(
        id="L1", feature="f", version="1.0", model=Model.METERED, count=9, capacity=9, undo_ms=1000
    )
    async with open_store(url, data_dir, partitions=8, **more) as store:  # type: ignore[arg-type]
        await store.catalogues.put(Catalogue(id="DEMO", lines=(line,)))
        index = await store.catalogues.read("DEMO")
        assert index is not None
        request = AccessRequest(host=Host("string", "h"), wants=(Want("f", "0", 7),))
        job = Job(index, index.resolve(request), "x", 60_000, "f", "", "STRING:h", INCREMENTAL)
        first, second = await store.lane.submit(job), await store.lane.submit(job)
        assert (first.verdict, second.verdict) == (Verdict.DONE, Verdict.REPLAYED)
        assert first.outcome == second.outcome
        acked = await store.client.hget(store.catalogues.keys("DEMO").ledger, "acked|L1")
        assert acked == b"7"
        assert await store.reachable()


def test_plain_address(tmp_path: Path) -> None:
    """redis:// of the oldest server that we take."""
    with redis_server(tmp_path / "store", *DURABLE) as url:
        asyncio.run(count_once(url, tmp_path))


def test_address_with_tls(tmp_path: Path) -> None:
    """rediss://, its certificate checked."""
    with redis_server(tmp_path / "store", *DURABLE, tls=True) as url:
        asyncio.run(count_once(url, tmp_path))
        with pytest.raises(GatewayError, match="certificate verify failed"):
            asyncio.run(count_once(url.partition("?")[0], tmp_path))


@pytest.mark.slow
def test_address_of_a_cluster_with_tls(tmp_path: Path) -> None:
    """rediss+cluster://, by the host that was asked: the node announces none."""
    bus = (
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--cluster-port",
        str(lasting_port()),
    )
    with redis_server(tmp_path / "store", *DURABLE, *bus, tls=True) as url:
        with redis.Redis.from_url(url) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok")  # type: ignore[no-untyped-call]
        asyncio.run(count_once(url.replace("rediss:", "rediss+cluster:"), tmp_path))


@pytest.mark.slow
def test_address_of_sentinels_with_tls(tmp_path: Path) -> None:
    """rediss+sentinel://: both the sentinels' and the primary's certificates are checked."""
    (tmp_path / "sentinel").mkdir()
    with redis_server(tmp_path / "store", *DURABLE, tls=True) as primary:
        port = urlsplit(primary).port or 0
        for file in ("server.pem", "server.key"):
            shutil.copy(tmp_path / "store" / file, tmp_path / "sentinel" / file)
        tls = ("--tls-replication", "yes")
        with redis_server(tmp_path / "sentinel", *tls, tls=True, watched=port) as sentinel:
            where = f"rediss+sentinel://{urlsplit(sentinel).netloc}/main"
            asyncio.run(count_once(f"{where}?{urlsplit(primary).query}", tmp_path))
            with pytest.raises(GatewayError, match="certificate"):
                asyncio.run(count_once(where, tmp_path))


def test_address_of_a_socket(tmp_path: Path) -> None:
    """unix://."""
    socket = tmp_path / "s"
    with redis_server(tmp_path / "store", *DURABLE, "--unixsocket", str(socket)):
        asyncio.run(count_once(f"unix://{socket}", tmp_path))


def test_password_is_used_and_never_told(tmp_path: Path) -> None:
    """A wrong password is one sentence without it."""
    with redis_server(tmp_path / "store", *DURABLE) as url:
        with pytest.raises(GatewayError) as refused:
            asyncio.run(count_once(url.replace("//", "//:s3cret@"), tmp_path))
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "ack", "why"),
    [
        (("--appendonly", "no"), "written", "set appendonly yes"),
        ((*DURABLE, "--maxmemory-policy", "allkeys-lru"), "memory", "could be evicted"),
        (DURABLE, "local", "appendfsync is everysec"),
        ((*DURABLE, "--replicaof", "127.0.0.1 1"), "memory", "it is a replica"),
    ],
)
def test_weaker_server_than_asked_for_is_refused(
    tmp_path: Path, settings: tuple[str, ...], ack: str, why: str
) -> None:
    """What an answer promises is known before the first one is given."""
    with (
        redis_server(tmp_path / "store", *settings) as url,
        pytest.raises(StoreUnfit, match=why),
    ):
        asyncio.run(count_once(url, tmp_path, ack=ack))


def test_server_that_syncs_always_is_strong_enough(tmp_path: Path) -> None:
    """`local` without WAITAOF."""
    with redis_server(tmp_path / "store", *DURABLE, "--appendfsync", "always") as url:
        asyncio.run(count_once(url, tmp_path, ack="local"))


def test_server_that_still_loads_is_not_judged_yet() -> None:
    """It would be found without an append-only file, because it does not write to one yet."""

    class Loading:
        async def info(self) -> dict[str, object]:
            return {"valkey_version": "9.1.2", "loading": 1, "aof_enabled": 0}

    with pytest.raises(BusyLoadingError, match="loading its data"):
        asyncio.run(examine(OneServer(Loading()), "written", 1, 8))  # type: ignore[arg-type]


@contextmanager
def launched(data_dir: Path, appendfsync: str) -> Iterator[str]:
    """Run the bundled Valkey as a server of the user's own; it is not waited for."""
    lock_fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT)
    server = launch(data_dir, appendfsync, lock_fd)
    try:
        yield f"unix://{data_dir / SOCKET_FILE}"
    finally:
        server.stop()
        os.close(lock_fd)


def test_server_that_never_syncs_is_refused_where_each_call_waits_for_that(tmp_path: Path) -> None:
    """WAITAOF would have no answer but a time-out."""
    with launched(tmp_path, "no") as url, pytest.raises(StoreUnfit, match="wait in vain"):
        asyncio.run(count_once(url, tmp_path, ack="local"))


def test_server_that_loads_much_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening begins before there is a socket, goes on through the loading, and finds all of it."""
    monkeypatch.setattr(opening, "REACH_S", 120.0)  # also on a slow machine
    counted = 500_000
    # A file of one part, as older servers left it; it is read for some tenths of a second.
    (tmp_path / "appendonly.aof").write_bytes(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" * counted)

    async def read(url: str) -> int:
        async with open_store(url, tmp_path, partitions=8) as store:
            return int(await store.client.get("n") or 0)

    with launched(tmp_path, "no") as url:
        assert asyncio.run(read(url)) == counted
