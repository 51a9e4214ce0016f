"""Every alarm is fired once, by a real fault done to real gateways, and Prometheus finds it.

The very rules watch, with every `for:` shortened to a second. Source: the runbook of deploy/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.alarm_scene import Scene
from tests.deploy.prometheus_server import Prometheus
from tests.deploy.test_alerts import ALERTS
from tests.system.processes import eventually

SEEN_S_MAX = 90.0  # books are looked at every 5 s, weakness too
ASKED = 8
REFUSED = 15  # more than the ten from which on that is an alarm

pytestmark = pytest.mark.faults


class Watch:
    """What has fired so far."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.fired: dict[str, set[str]] = {}

    def wait_for(self, *names: str) -> None:
        """Wait until all of these have fired, now or before."""
        try:
            eventually(lambda: self._look() >= set(names), SEEN_S_MAX)
        except AssertionError:
            raise AssertionError(f"not fired: {set(names) - self.fired.keys()}") from None

    def _look(self) -> set[str]:
        for name, about in self.prometheus.firing().items():
            self.fired.setdefault(name, set()).update(about)
        return set(self.fired)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Scene(tmp_path) as entered:
        yield entered


@pytest.fixture
def watch(tmp_path: Path, scene: Scene) -> Iterator[Watch]:
    targets = [gateway.address for gateway in scene.gateways]
    with Prometheus(tmp_path / "prometheus", targets) as prometheus:
        yield Watch(prometheus)


def test_every_alarm_is_fired_by_its_fault_and_found(scene: Scene, watch: Watch) -> None:
    prometheus = watch.prometheus
    seen = "count(gateway_ledger_imbalance) + count(gateway_store_look_timestamp_seconds)"
    eventually(lambda: prometheus.value(seen) == 2 * len(scene.gateways), SEEN_S_MAX)
    # All is well, once it has looked twice.
    eventually(lambda: prometheus.firing() == {}, SEEN_S_MAX)

    # Faults side by side, each with the alarms that it is for.
    assert {scene.use(scene.main) for _ in range(ASKED)} == {200}
    elsewhere = {"UpstreamStopped", "UpstreamAway", "BatchesDead", "BatchesParked", "RowsBlocked"}
    scene.age_usage("away")
    late = {"UsageLate"}
    scene.weaken_a_store()
    scene.falsify_the_books()
    scene.damage_a_catalogue()
    books = {"LedgerImbalance", "RequestsFail"}
    scene.crowd_a_slow_store()
    scene.put_a_clock_back()
    clock = {"ClockSkewed", "BooksNotLookedAt"}
    scene.hold_connections()
    crowd = {"RequestsSlow", "Overloaded", "ConnectionsRefused"}
    scene.come_with_unknown_keys()
    scene.kill_a_worker()
    scene.fill_a_store()
    watch.wait_for("CredentialsRefused", "WorkersDie", "StoreWeak", "StoreFilling")
    watch.wait_for(*elsewhere, *late, *clock, *books, *crowd)

    scene.kill_a_store()
    watch.wait_for("StoreAway", "GatewayNotReady")
    # Of another one it may have been said for a moment, while nothing ran on this machine.
    away = {scene.alone.address}
    eventually(lambda: prometheus.firing().get("StoreAway") == away, SEEN_S_MAX)
    assert {scene.use(scene.alone) for _ in range(REFUSED)} == {503}
    watch.wait_for("RequestsUnavailable")

    scene.alone.kill()
    watch.wait_for("GatewayDown")
    for gateway in scene.gateways:
        gateway.kill()
    watch.wait_for("NoGateway")

    assert watch.fired.keys() == ALERTS.keys()
    assert watch.fired["UpstreamStopped"] == {"stopped"}
    assert watch.fired["BatchesDead"] == {"dead"}
    assert watch.fired["BatchesParked"] == {"lost"}
    assert watch.fired["RowsBlocked"] == {"parent"}
    assert watch.fired["WorkersDie"] == {scene.main.address}
