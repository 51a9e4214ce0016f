"""The balancer's configuration does what it says: who is ready is asked, and a POST only once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.stores.backends import METRICS, Backend, status_of
from tests.stores.haproxy import CONFIG_FILE, HAProxy, environment
from tests.stores.programs import lasting_port
from tests.system.processes import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        made = [Backend(f"gateway-{number}", lasting_port()) for number in range(2)]
        for backend in made:
            stack.callback(backend.close)
        yield made


@pytest.fixture
def haproxy(backends: list[Backend]) -> Iterator[HAProxy]:
    with HAProxy([backend.address for backend in backends]) as haproxy:
        haproxy.wait_up()
        yield haproxy


def post(haproxy: HAProxy, path: str = "/anything", key: str | None = None) -> httpx.Response:
    headers = {"X-Forwarded-For": "192.0.2.1"} | ({"Idempotency-Key": key} if key else {})
    return httpx.post(f"{haproxy.url}{path}", content=b"{}", headers=headers, timeout=30)


def test_haproxy_itself_finds_nothing_amiss_with_the_configuration(haproxy: HAProxy) -> None:
    environ = environment(haproxy.address, haproxy.servers, f"{haproxy.directory}/checked.sock")
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(CONFIG_FILE)],
        cwd=haproxy.directory,
        env=environ | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_requests_go_to_all_and_tell_where_they_come_from(
    haproxy: HAProxy, backends: list[Backend]
) -> None:
    haproxy.end_checks()
    assert {post(haproxy).text for _ in range(8)} == {"gateway-0", "gateway-1"}
    claimed = {each for backend in backends for each in backend.posted}
    assert claimed == {"127.0.0.1"}  # and not what the client says


def test_who_is_not_ready_is_not_asked_until_it_is_again(
    haproxy: HAProxy, backends: list[Backend]
) -> None:
    backends[0].ready = False
    haproxy.wait_down("gateway-0")
    assert {post(haproxy).text for _ in range(6)} == {"gateway-1"}
    backends[0].ready = True
    haproxy.wait_up("gateway-0")
    assert {post(haproxy).text for _ in range(6)} == {"gateway-0", "gateway-1"}


def test_who_cannot_be_reached_is_passed_over_before_a_check_notices(
    haproxy: HAProxy, backends: list[Backend]
) -> None:
    haproxy.end_checks()
    backends[0].close()
    assert {post(haproxy).text for _ in range(6)} == {"gateway-1"}
    assert int(haproxy.stats()["gateway-0"]["wredis"]) > 0


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/x/access_request", None),
        ("/api/v4/register", None),
        *(
            (path, "one")
            for path in (
                "/x/keys",
                "/x/access_requests",
                "/api/v4/feature_release/all",
                "/api/v5/auth/login",
                "/api/v5/license",
                "/api/v5/license/7/user/unregister_all",
                "/api/v5/license/7/feature/release%5Fall",
                "/api/v5/sync",
                "/api/v5/sync/trigger",
            )
        ),
    ],
)
def test_a_post_that_was_sent_and_could_count_twice_is_never_repeated(
    haproxy: HAProxy, backends: list[Backend], path: str, key: str | None
) -> None:
    """It has no id, or is for what takes none."""
    haproxy.end_checks()
    for backend in backends:
        backend.breaks = True
    assert [post(haproxy, path, key).status_code for _ in range(4)] == [502] * 4
    assert sum(len(backend.posted) for backend in backends) == 4


@pytest.mark.parametrize("path", ["/x/access_request", "/api/v5/license/7/consumption/add"])
def test_a_post_whose_id_a_gateway_would_know_again_is_asked_of_another_one(
    haproxy: HAProxy, backends: list[Backend], path: str
) -> None:
    haproxy.end_checks()
    backends[0].breaks = True
    assert {post(haproxy, path, "one").text for _ in range(4)} == {"gateway-1"}
    assert len(backends[0].posted) > 0


@pytest.mark.parametrize("target", METRICS)
def test_metrics_are_not_for_whoever_comes_by_the_balancer(haproxy: HAProxy, target: str) -> None:
    assert status_of(haproxy.address, target) in {400, 404}
    assert status_of(haproxy.address, "/livez") == 200


def test_with_nobody_ready_it_says_that_nothing_was_applied() -> None:
    with HAProxy([f"127.0.0.1:{lasting_port()}"]) as haproxy:
        haproxy.wait_down("gateway-0")
        answer = post(haproxy)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.text)["arguments"] == ["not_applied"]


def test_stopped_it_finishes_and_ends(haproxy: HAProxy) -> None:
    assert post(haproxy).status_code == 200
    haproxy.stop()
    with pytest.raises(httpx.ConnectError):
        post(haproxy)
    haproxy.start()
    haproxy.wait_up()
    eventually(lambda: post(haproxy).status_code == 200)
