"""Prometheus before real gateways, with the very rules that operators are given.

Decided here: how deploy/prometheus.yml and deploy/alerts.yml are run in a test: Debian's package,
other targets, a second instead of fifteen, and alarms that come a second after what they tell of.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy.files import DEPLOY, read_yaml
from tests.stores.programs import Program, demand

BINARY = "prometheus"
EVERY = "1s"
WAITS = re.compile(r"^( +for:) \w+$", re.MULTILINE)


class Prometheus(Program):
    """Prometheus that looks at gateways, "host:port"; begins as it is entered.

    Without the program the test is skipped, but fails in CI.
    """

    def __init__(self, directory: Path, targets: list[str]) -> None:
        demand(BINARY)
        directory.mkdir()
        command = [BINARY, "--config.file=prometheus.yml", "--storage.tsdb.path=seen"]
        super().__init__(directory, command, self._ready_to_answer)
        command += [f"--web.listen-address={self.address}", "--log.level=warn"]
        told: dict[str, Any] = read_yaml(DEPLOY / "prometheus.yml")
        told["global"] = {"scrape_interval": EVERY, "evaluation_interval": EVERY}
        told["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(told))
        rules, shortened = WAITS.subn(rf"\1 {EVERY}", (DEPLOY / "alerts.yml").read_text())
        assert shortened
        (directory / "alerts.yml").write_text(rules)

    def firing(self) -> dict[str, set[str]]:
        """Give the alarms that are firing now, each with the gateways or upstreams it is about."""
        alerts = self._get("/api/v1/alerts")["data"]["alerts"]
        found: dict[str, set[str]] = {}
        for each in alerts:
            if each["state"] == "firing":
                labels = each["labels"]
                about = labels.get("upstream") or labels.get("instance") or ""
                found.setdefault(labels["alertname"], set()).add(about)
        return found

    def value(self, query: str) -> float | None:
        """Give the one value that a query has now."""
        found = self._get("/api/v1/query", query=query)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def _get(self, path: str, **query: str) -> Any:
        return httpx.get(f"http://{self.address}{path}", params=query, timeout=60).json()

    def _ready_to_answer(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/-/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False
