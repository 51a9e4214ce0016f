"""The manifests are what the Kubernetes API takes, and fit the gateway's way to end.

Judged by the API's own schemas, which kubernetes-validate bundles, of the oldest version that the
manifests are made for and of the newest that is known; built by kustomize where kubectl is there.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.web.ops import routes
from tests.deploy.files import DEPLOY, END_S_MAX, FILES, read_yaml, settings
from tests.deploy.test_alerts import ALERTS

BASE = DEPLOY / "kubernetes"
KUSTOMIZATION = read_yaml(BASE / "kustomization.yaml")
MANIFESTS: dict[str, Any] = {name: read_yaml(BASE / name) for name in KUSTOMIZATION["resources"]}
DESK = MANIFESTS.pop("desk.yaml")
BY_KIND = {each["kind"]: each for each in MANIFESTS.values()}
POD = BY_KIND["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
SETTINGS = settings(BASE / "gateway.toml")
VERSIONS = ("1.27", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KUSTOMIZATION["resources"])
def test_the_api_takes_each_manifest(name: str, version: str) -> None:
    """Strictly: a member that the API does not know is an error, not ignored."""
    kubernetes_validate.validate(read_yaml(BASE / name), version, strict=True)


def test_the_schemas_find_what_is_wrong() -> None:
    """A check that takes everything would be none."""
    wrong = MANIFESTS["poddisruptionbudget.yaml"] | {"spec": {"maxUnavailabel": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.27", strict=True)


def test_no_manifest_is_left_out() -> None:
    files = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert files == set(KUSTOMIZATION["resources"])
    (settings_map,) = KUSTOMIZATION["configMapGenerator"]
    assert settings_map["files"] == ["gateway.toml"]


def test_kustomize_builds_the_base() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(BASE)]
    built = subprocess.run(command, capture_output=True, text=True, check=True)
    made = list(yaml.safe_load_all(built.stdout))
    assert {each["kind"] for each in made} == BY_KIND.keys() | {"ConfigMap"}
    for each in made:
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)


def test_everything_means_the_same_pods() -> None:
    labels = POD["metadata"]["labels"]
    assert BY_KIND["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["Service"]["spec"]["selector"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    (governed,) = BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchExpressions"]
    own = [each["spec"]["template"]["metadata"]["labels"] for each in (BY_KIND["Deployment"], DESK)]
    assert [{governed["key"]: value} for value in governed["values"]] == own
    (spread,) = POD["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels


def test_the_desk_is_a_gateway_but_for_serving_and_nobody_is_sent_to_it() -> None:
    spec = DESK["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    for member in ("image", "env", "securityContext"):
        assert container[member] == CONTAINER[member]
    assert spec["securityContext"] == POD["spec"]["securityContext"]
    *volumes, files = spec["volumes"]
    assert volumes == POD["spec"]["volumes"]
    assert container["volumeMounts"][:-1] == CONTAINER["volumeMounts"]
    assert container["volumeMounts"][-1] == {"name": files["name"], "mountPath": FILES}
    assert DESK["spec"]["replicas"] == 0
    labels = DESK["spec"]["template"]["metadata"]["labels"]
    assert not BY_KIND["Service"]["spec"]["selector"].items() <= labels.items()


def test_prometheus_finds_the_gateways_under_the_name_that_alarms_go_by() -> None:
    (job,) = read_yaml(BASE / "prometheus.yml")["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALERTS["NoGateway"]["expr"]
    wanted = job["relabel_configs"][0]
    label, port = wanted["regex"].split(";")
    assert label == POD["metadata"]["labels"]["app.kubernetes.io/name"]
    assert port == CONTAINER["ports"][0]["name"]
    assert "annotations" not in POD["metadata"]  # or another job would find them, too


def test_each_port_is_the_one_where_the_gateway_listens() -> None:
    (port,) = CONTAINER["ports"]
    assert port["containerPort"] == SETTINGS.server.address[1]
    assert BY_KIND["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    (door,) = BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert [each["port"] for each in door["ports"]] == [port["name"]]


def test_probes_ask_what_the_gateway_answers() -> None:
    """Ready while it may get requests; alive whatever the store does."""
    known = {route.path for route in routes(None, {}, b"", None)}  # type: ignore[arg-type, attr-defined]
    asked = {
        kind: CONTAINER[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    assert asked == {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}
    assert set(asked.values()) <= known


def test_a_pod_has_time_for_its_drain_and_its_end() -> None:
    grace_s = POD["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > SETTINGS.server.drain_s + END_S_MAX
    readiness = CONTAINER["readinessProbe"]
    noticed_s = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert SETTINGS.server.drain_s > 2 * noticed_s
    assert "lifecycle" not in CONTAINER  # see deployment.yaml for why


def test_a_rollout_and_an_emptied_node_leave_enough_gateways() -> None:
    spec = BY_KIND["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert BY_KIND["PodDisruptionBudget"]["spec"]["maxUnavailable"] < spec["replicas"]


def test_a_pod_may_do_as_little_as_possible() -> None:
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["spec"]["securityContext"]["runAsNonRoot"] is True
    assert POD["spec"]["securityContext"]["runAsUser"] == 7070  # as the Dockerfile has it
    assert POD["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_network_is_closed_but_for_what_is_named() -> None:
    spec = BY_KIND["NetworkPolicy"]["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule.get("from") for rule in spec["ingress"])
    assert all(rule.get("to") and rule.get("ports") for rule in spec["egress"])


def test_no_secret_is_in_a_manifest() -> None:
    assert "Secret" not in BY_KIND
    (url,) = CONTAINER["env"]
    assert url["name"] == "GATEWAY_REDIS__URL"
    assert "value" not in url
