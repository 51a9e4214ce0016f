"""Each alarm comes when it should, and not otherwise; by Prometheus' own test of rules.

Decided here: for each alarm what is seen when it must come and when it must not, a sample a minute.
That the very facts are told by real gateways is test_alarms.py's.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy.files import DEPLOY, read_yaml
from tests.stores.programs import demand

RULES = DEPLOY / "alerts.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]
}
MINUTES = 40  # after which it is looked, or later where an alarm waits for longer
SERIES = 150  # minutes that each case lasts
LAST = "gateway_access_requests_total"
A, B = '{instance="a:1", job="cmapi-gateway"}', '{instance="b:1", job="cmapi-gateway"}'


class Case(NamedTuple):
    """What is seen: values by series, in the notation of `promtool test rules`."""

    fires: dict[str, str]
    quiet: dict[str, str]


def always(value: float) -> str:
    return f"{value}x{SERIES}"


def grows(by: float) -> str:
    return f"0+{by}x{SERIES}"


def outcomes(**by: float) -> dict[str, str]:
    """Give requests a minute by how they ended."""
    return {f'{LAST}{{instance="a:1", outcome="{name}"}}': grows(each) for name, each in by.items()}


def by_upstream(metric: str, value: float) -> dict[str, str]:
    """Give a fact of the store, as two gateways tell it."""
    return {
        f'{metric}{{instance="{instance}", upstream="meter"}}': always(value)
        for instance in ("a:1", "b:1")
    }


def buckets(slow: float) -> dict[str, str]:
    """Give a hundred requests a minute, of which so many take between 0.5 and 1 s."""
    told = {"0.5": 100 - slow, "1": 100, "+Inf": 100}
    return {f'gateway_access_seconds_bucket{{le="{le}"}}': grows(by) for le, by in told.items()}


def filled(gigabytes: float) -> dict[str, str]:
    """Give a store of ten, bounded, beside one of whatever size that has no bound."""
    return {
        f"gateway_store_memory_bytes{A}": always(gigabytes * 1e9),
        f"gateway_store_memory_max_bytes{A}": always(1e10),
        f"gateway_store_memory_bytes{B}": always(1e12),
        f"gateway_store_memory_max_bytes{B}": always(0),
    }


CASES: dict[str, Case] = {
    "GatewayDown": Case(
        {f"up{A}": always(0), f"up{B}": always(1)}, {f"up{A}": always(1), f"up{B}": always(1)}
    ),
    "NoGateway": Case({f"up{A}": always(0)}, {f"up{A}": always(0), f"up{B}": always(1)}),
    "GatewayNotReady": Case({f"gateway_ready{A}": always(0)}, {f"gateway_ready{A}": always(1)}),
    "StoreAway": Case({f"gateway_store_up{A}": always(0)}, {f"gateway_store_up{A}": always(1)}),
    "RequestsUnavailable": Case(
        outcomes(granted=95, not_applied=3, applied_not_durable=1, unknown=1),
        outcomes(granted=999, not_applied=1),
    ),
    # One that comes in the last minutes, after hours without any.
    "RequestsFail": Case(
        {f'{LAST}{{instance="a:1", outcome="error"}}': f"0x{MINUTES - 2} 1 1 1"},
        {f'{LAST}{{instance="a:1", outcome="error"}}': always(7)} | outcomes(invalid=50),
    ),
    "Overloaded": Case(
        {
            f"gateway_lane_refused_total{A}": grows(2),
            f"gateway_shed_requests_total{A}": always(0),
        },
        {
            f"gateway_lane_refused_total{A}": always(9),
            f"gateway_shed_requests_total{A}": always(4),
        },
    ),
    "ConnectionsRefused": Case(
        {f"gateway_refused_connections_total{A}": grows(1)},
        {f"gateway_refused_connections_total{A}": always(8)},
    ),
    "RequestsSlow": Case(buckets(2), buckets(0)),
    "CredentialsRefused": Case(
        outcomes(granted=60, unauthorized=20), outcomes(granted=600, unauthorized=20)
    ),
    "LedgerImbalance": Case(
        {f"gateway_ledger_imbalance{A}": always(1), f"gateway_ledger_imbalance{B}": always(0)},
        {f"gateway_ledger_imbalance{A}": always(0), f"gateway_ledger_imbalance{B}": always(0)},
    ),
    "StoreWeak": Case({f"gateway_store_weak{A}": always(1)}, {f"gateway_store_weak{A}": always(0)}),
    "StoreFilling": Case(filled(8.5), filled(7.5)),
    "ClockSkewed": Case(
        {f"gateway_clock_skew_seconds{A}": always(-7)},
        {f"gateway_clock_skew_seconds{A}": always(-0.2)},
    ),
    "BooksNotLookedAt": Case(
        {f"gateway_store_look_timestamp_seconds{A}": always(60)},
        {f"gateway_store_look_timestamp_seconds{A}": grows(60)},
    ),
    "WorkersDie": Case(
        {f"gateway_worker_deaths_total{A}": f"4x{MINUTES - 3} 5 5 5 5"},
        # Ended after some had died, and started anew.
        {f"gateway_worker_deaths_total{A}": f"9x{MINUTES - 3} 0 0 0 0"},
    ),
    "UpstreamStopped": Case(
        by_upstream("gateway_upstream_stopped", 1), by_upstream("gateway_upstream_stopped", 0)
    ),
    "UpstreamAway": Case(
        by_upstream("gateway_upstream_away", 2), by_upstream("gateway_upstream_away", 0)
    ),
    "UsageLate": Case(
        by_upstream("gateway_outbox_oldest_seconds", 10_900),
        by_upstream("gateway_outbox_oldest_seconds", 7_000),
    ),
    "BatchesDead": Case(
        by_upstream("gateway_dead_batches", 1), by_upstream("gateway_dead_batches", 0)
    ),
    "BatchesParked": Case(
        by_upstream("gateway_parked_batches", 3), by_upstream("gateway_parked_batches", 0)
    ),
    "RowsBlocked": Case(
        by_upstream("gateway_blocked_rows", 5), by_upstream("gateway_blocked_rows", 0)
    ),
}

# What else there is to an alarm: its name, and what is seen.
FURTHER: list[tuple[str, Case]] = [
    # At night: one of fifty is a fiftieth, and yet nobody's sleep.
    (
        "RequestsUnavailable",
        Case(
            outcomes(granted=950, not_applied=50),
            outcomes(granted=10)
            | {f'{LAST}{{instance="a:1", outcome="unknown"}}': f"0x{MINUTES - 4} 1x10"},
        ),
    ),
    # Of one gateway alone, which is up and has never come through.
    (
        "BooksNotLookedAt",
        Case(
            {f"gateway_ready{A}": always(1)}
            | {f"gateway_ready{B}": always(1)}
            | {f"gateway_store_look_timestamp_seconds{B}": grows(60)},
            {f"gateway_ready{A}": always(1), f"gateway_store_look_timestamp_seconds{A}": grows(60)},
        ),
    ),
    # Soon after a start: of a gateway that was there before, and of one that was not.
    (
        "WorkersDie",
        Case(
            {f"gateway_worker_deaths_total{A}": f"9x{MINUTES - 3} 0 1 1 1"},
            {f"gateway_worker_deaths_total{A}": f"_x{MINUTES - 3} 0 0 0 0"},
        ),
    ),
    (
        "WorkersDie",
        Case(
            {f"gateway_worker_deaths_total{A}": f"_x{MINUTES - 3} 2 2 2 2"},
            {f"gateway_worker_deaths_total{A}": always(2)},
        ),
    ),
]


def test_every_alarm_is_tried() -> None:
    assert CASES.keys() == ALERTS.keys()


def test_every_alarm_says_who_must_look_and_what_it_is() -> None:
    for name, rule in ALERTS.items():
        assert rule["labels"].keys() == {"severity"}, name
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert rule["annotations"]["summary"], name


def test_every_alarm_has_an_entry_in_the_runbook_and_no_other_has() -> None:
    """Each says what it means, what users see, what to look at and what to do."""
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    runbook = text.partition("\n## The runbook\n")[2].partition("\n## ")[0]
    entries = re.split(r"^### ", runbook, flags=re.MULTILINE)[1:]
    told = {entry.split("\n", 1)[0].strip(): entry for entry in entries}
    assert told.keys() == ALERTS.keys()
    for name, entry in told.items():
        parts = re.findall(r"^\*\*(.+?)\.\*\*", entry, re.MULTILINE)
        assert parts == ["Means", "Users see", "Look at", "Do"], name


def test_promtool_finds_nothing_amiss(tmp_path: Path) -> None:
    """But for how pods are found, which Debian's is built without."""
    demand("promtool")
    there = read_yaml(DEPLOY / "kubernetes" / "prometheus.yml")
    assert there["scrape_configs"][0].pop("kubernetes_sd_configs") == [{"role": "pod"}]
    rest = tmp_path / "prometheus.yml"
    rest.write_text(yaml.safe_dump(there))
    configs = (DEPLOY / "prometheus.yml", rest)
    for command in (["rules", str(RULES)], *(["config", str(config)] for config in configs)):
        ended = _promtool("check", *command)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_each_alarm_comes_when_it_should_and_not_otherwise(tmp_path: Path) -> None:
    demand("promtool")
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": each, "values": told} for each, told in seen.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{max(MINUTES, _waits_minutes(name) + 5)}m",
                    "exp_samples": [{"labels": "{}", "value": value}],
                }
            ],
        }
        for name, case in [*CASES.items(), *FURTHER]
        for seen, value in ((case.fires, 1), (case.quiet, 0))
    ]
    file = tmp_path / "alerts_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    ended = _promtool("test", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _waits_minutes(name: str) -> int:
    """Give for how long what is seen must last, rounded up."""
    span = ALERTS[name].get("for", "0s")
    return -(-int(span[:-1]) * {"s": 1, "m": 60, "h": 3600}[span[-1]] // 60)


def _promtool(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, timeout=180
    )
