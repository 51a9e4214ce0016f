"""The dashboard shows what there is, and Grafana finds it; every alarm that it names is one."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

from gateway.core.metrics import METRICS, Kind, Metric
from tests.deploy.files import DEPLOY, read_yaml
from tests.deploy.test_alerts import ALERTS

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
KNOWN: dict[str, Metric] = {
    f"{metric.name}{suffix}": metric
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
}
SELECTOR = re.compile(r"\b(gateway_\w+)(?:\{([^}]*)\})?")


def _unknown(query: str) -> list[str]:
    """Name what a query asks for and is not there: metrics, labels, or values of labels."""
    found = []
    for name, matchers in SELECTOR.findall(query):
        if name not in KNOWN:
            found.append(name)
            continue
        labels = dict(KNOWN[name].labels)
        for label, _, text in re.findall(r'(\w+)(=~|=|!=)"([^"]*)"', matchers):
            if label in {"instance", "job", "le"}:  # Prometheus' own
                continue
            if label not in labels:
                found.append(f"{name}{{{label}}}")
            elif labels[label]:
                known = {str(value) for value in labels[label]}
                found += [f"{label}={value}" for value in text.split("|") if value not in known]
    return found


def test_every_query_asks_for_what_there_is() -> None:
    assert len(QUERIES) > 20
    assert {query: _unknown(query) for query in QUERIES if _unknown(query)} == {}


def test_every_alarm_asks_for_what_there_is() -> None:
    """Labels and their values too: an outcome that nobody counts would never alarm."""
    expressions = [str(rule["expr"]) for rule in ALERTS.values()]
    assert {each: _unknown(each) for each in expressions if _unknown(each)} == {}


def test_what_is_not_there_is_found() -> None:
    """The two tests above can fail."""
    assert _unknown("sum(gateway_readi)") == ["gateway_readi"]
    assert _unknown('gateway_denials_total{cod="X"}') == ["gateway_denials_total{cod}"]
    assert _unknown('gateway_access_requests_total{outcome=~"error|lost"}') == ["outcome=lost"]


def test_every_metric_is_shown() -> None:
    shown = {name for query in QUERIES for name, _ in SELECTOR.findall(query)}
    assert {KNOWN[name].name for name in shown} == {metric.name for metric in METRICS}


def test_every_alarm_is_named_where_its_cause_is_seen() -> None:
    """But for those of Prometheus itself, and of credentials, which are an outcome among others."""
    told = [panel["description"].partition("Alarm")[2] for panel in PANELS]
    named = {name for each in told for name in re.findall(r"[A-Z]\w+", each)}
    assert named <= ALERTS.keys()
    assert ALERTS.keys() - named == {"GatewayDown", "NoGateway", "CredentialsRefused"}


def test_panels_have_ids_and_places_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations((panel["gridPos"] for panel in DASHBOARD["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_every_panel_asks_the_source_that_is_provisioned() -> None:
    (source,) = read_yaml(DEPLOY / "grafana" / "datasource.yaml")["datasources"]
    asked = {panel["datasource"]["uid"] for panel in PANELS}
    asked |= {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert asked == {source["uid"]}
