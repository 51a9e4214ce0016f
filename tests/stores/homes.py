"""Where a test has its store: embedded, or in a cluster of three nodes that all tests share.

Decided here: what a test is told of the place. The fixtures that choose one are in conftest.py of
all tests. Not decided here: what goes wrong there (slot_moves.py, Server.kill): a shared cluster
stays as it is.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.store.opening import EMBEDDED, Store, open_store
from tests.stores.clusters import QUIET_MS, Cluster

PATIENT_S = 20.0  # a busy machine is no failure
_PATIENT = "&".join(
    f"{name}={PATIENT_S:.0f}" for name in ("socket_timeout", "socket_connect_timeout", "timeout")
)


@dataclass(frozen=True)
class Home:
    """A store that may be opened again and again; `data_dir` is the embedded one's own."""

    data_dir: Path
    url: str = EMBEDDED

    def open(self, **settings: Any) -> AbstractAsyncContextManager[Store]:
        """Open the store; `settings` are those of open_store."""
        return open_store(self.url, self.data_dir, **({"deadline_s": PATIENT_S} | settings))


def emptied(cluster: Cluster) -> str:
    """Empty a cluster that was used before; give its URL."""
    for server in cluster.servers:
        server.ask("CONFIG", "SET", "cluster-node-timeout", QUIET_MS)
    cluster.wait_ok()
    for server in cluster.primaries():
        server.ask("FLUSHALL")
    return f"{cluster.url}?{_PATIENT}"
