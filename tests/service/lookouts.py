"""A lookout of a test's own, which goes by the clock of its works, and the gauges it keeps."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.meters import Meters
from gateway.core.metrics import Layout
from gateway.service.lookout import Lookout
from tests.upstream.works import BEGIN_MS, Works

AGE = "gateway_outbox_oldest_seconds"
LOOKED = "gateway_store_look_timestamp_seconds"
IMBALANCE = "gateway_ledger_imbalance"
HOUR_S = 3_600


def look_at(
    works: Works, *, ready: bool = True, upstreams: tuple[str, ...] = ("parent",)
) -> Lookout:
    async def reasons() -> list[str]:
        return [] if ready else ["not today"]

    return Lookout(works.store, works.outbox(), Meters(Layout(upstreams)), reasons, now_s(works))


def now_s(works: Works) -> Callable[[], float]:
    return lambda: BEGIN_MS / 1000 + works.clock.now_s
