"""compose.yaml fits together, and fits the files that it mounts.

Docker itself is asked where it is there with Compose (`docker compose config` needs no daemon); all
else is looked up in the file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.deploy.files import DEPLOY, END_S_MAX, read_yaml, seconds, settings
from tests.store.rights import USER

COMPOSE = DEPLOY / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = read_yaml(COMPOSE)["services"]
GATEWAYS = {name: each for name, each in SERVICES.items() if name.startswith("gateway-")}
PASSWORDS = ("STORE_PASSWORD", "OPERATOR_PASSWORD", "GRAFANA_PASSWORD")


def test_all_that_was_promised_is_there() -> None:
    assert len(GATEWAYS) == 2
    assert SERVICES.keys() - GATEWAYS.keys() == {"haproxy", "valkey", "prometheus", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    """To a whole version: what runs does not change because somebody else released something."""
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_that_is_mounted_is_there_and_cannot_be_written(name: str) -> None:
    volumes = read_yaml(COMPOSE)["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.partition(":")[0], *mount.rpartition(":")[1:]
        if source.startswith("./"):
            assert (DEPLOY / source).exists(), source
            assert mode == "ro", mount
        else:
            assert source in volumes


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_has_more_rights_than_needed_or_takes_all_memory(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"grafana"}))
def test_root_file_systems_cannot_be_written(name: str) -> None:
    assert SERVICES[name]["read_only"] is True


def test_nothing_but_the_balancer_is_reached_from_other_machines() -> None:
    published = {name: each["ports"] for name, each in SERVICES.items() if "ports" in each}
    assert published.pop("haproxy") == ["7070:7070"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_balancer_is_told_of_every_gateway_where_it_listens() -> None:
    port = settings(DEPLOY / "site" / "gateway.toml").server.address[1]
    told = SERVICES["haproxy"]["environment"]
    assert told == {
        name.upper().replace("-", "_"): f"{name}:{port}" for name in GATEWAYS
    }  # as haproxy.cfg calls them
    used = set(re.findall(r'server (gateway-\d) "\$\{(GATEWAY_\d)\}"', _haproxy()))
    assert {(name, name.upper().replace("-", "_")) for name in GATEWAYS} <= used
    assert all("front" in each["networks"] for each in GATEWAYS.values())


def test_prometheus_asks_every_gateway_and_reads_the_rules() -> None:
    told = read_yaml(DEPLOY / "prometheus.yml")
    (job,) = told["scrape_configs"]
    port = settings(DEPLOY / "site" / "gateway.toml").server.address[1]
    assert job["static_configs"] == [{"targets": [f"{name}:{port}" for name in GATEWAYS]}]
    for rules in told["rule_files"]:
        assert f"./{rules}:/etc/prometheus/{rules}:ro" in SERVICES["prometheus"]["volumes"]
    assert all("seeing" in each["networks"] for each in GATEWAYS.values())


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    (source,) = read_yaml(DEPLOY / "grafana" / "datasource.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = read_yaml(DEPLOY / "grafana" / "dashboards.yaml")["providers"]
    targets = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    assert any(target.startswith(provider["options"]["path"]) for target in targets)


def test_gateways_trust_the_balancers_network_and_no_other() -> None:
    (subnet,) = read_yaml(COMPOSE)["networks"]["front"]["ipam"]["config"]
    trusted = settings(DEPLOY / "site" / "gateway.toml").server.trusted_proxies
    assert trusted == (subnet["subnet"],)
    assert SERVICES["haproxy"]["networks"] == ["front"]


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_has_time_for_its_drain_and_its_end(name: str) -> None:
    drain_s = settings(DEPLOY / "site" / "gateway.toml").server.drain_s
    assert seconds(GATEWAYS[name]["stop_grace_period"]) > drain_s + END_S_MAX
    assert GATEWAYS[name]["init"] is True


def test_the_balancer_has_time_for_what_is_under_way() -> None:
    hard = re.search(r"hard-stop-after (\d+s)", _haproxy())
    assert hard is not None
    assert seconds(SERVICES["haproxy"]["stop_grace_period"]) > seconds(hard[1])


def test_the_store_has_memory_for_a_copy_of_itself() -> None:
    most = re.search(r"^maxmemory (\d+)gb$", (DEPLOY / "valkey.conf").read_text(), re.MULTILINE)
    assert most is not None
    assert SERVICES["valkey"]["mem_limit"] == f"{2 * int(most[1])}g"


def test_passwords_come_from_outside_or_nothing_starts() -> None:
    text = COMPOSE.read_text()
    for name in PASSWORDS:
        assert f"{name}=…" in text
        given = set(re.findall(rf"(?<!\$)\$\{{({name}[^}}]*)\}}", text))
        assert given == {f"{name}:?set it in deploy/.env"}
    url = GATEWAYS["gateway-0"]["environment"]["GATEWAY_REDIS__URL"]
    assert url.startswith(f"redis://{USER}:")


def test_compose_itself_takes_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("docker compose is not installed")
    environ = os.environ | dict.fromkeys(PASSWORDS, "secret")
    command = [docker, "compose", "-f", str(COMPOSE), "config", "--quiet"]
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def _haproxy() -> str:
    return (DEPLOY / "haproxy.cfg").read_text()
