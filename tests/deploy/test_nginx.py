"""The nginx configuration does what it says, before gateways that are restarted under load."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.fleet import Instance, drawn_seed, open_fleet
from tests.stores.backends import METRICS, Backend, status_of
from tests.stores.nginx import BINARY, CONFIG_FILE, SERVERS, TEMPLATE, Nginx
from tests.stores.programs import lasting_port

CLIENTS = 6
KEPT_S_MAX = 10  # server.header_timeout_s: for so long a gateway keeps an idle connection


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        made = [Backend("gateway-0"), Backend("gateway-1")]
        for backend in made:
            stack.callback(backend.close)
        yield made


@pytest.fixture
def nginx(tmp_path: Path, backends: list[Backend]) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx", [backend.address for backend in backends]) as started:
        yield started


def post(nginx: Nginx, key: str | None = None) -> httpx.Response:
    headers = {"X-Forwarded-For": "192.0.2.1"} | ({"Idempotency-Key": key} if key else {})
    return httpx.post(f"{nginx.url}/x/access_request", content=b"{}", headers=headers, timeout=60)


def test_every_name_in_the_file_is_named_in_its_head() -> None:
    text = TEMPLATE.read_text()
    head, _, rest = text.partition("\nworker_processes")
    used = set(re.findall(r"\$\{(\w+)\}", rest))
    command = re.search(r"envsubst '(.*?)'", head)
    assert command is not None
    assert used == set(command[1].replace("$", "").split())


def test_idle_connections_are_kept_for_less_than_gateways_keep_them() -> None:
    upstream = re.search(r"upstream gateways \{(.*?)\n    \}", TEMPLATE.read_text(), re.DOTALL)
    assert upstream is not None
    kept = re.search(r"keepalive_timeout (\d+)s;", upstream[1])
    assert kept is not None
    assert int(kept[1]) < KEPT_S_MAX


@pytest.mark.slow
def test_nginx_itself_finds_nothing_amiss_with_the_configuration(nginx: Nginx) -> None:
    binary = shutil.which(BINARY)
    assert binary is not None
    checked = subprocess.run(
        [binary, "-t", "-p", ".", "-c", CONFIG_FILE],
        cwd=nginx.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


@pytest.mark.slow
def test_gateways_are_told_where_requests_come_from(nginx: Nginx, backends: list[Backend]) -> None:
    assert {post(nginx).text for _ in range(12)} == {"gateway-0", "gateway-1"}
    claimed = {each for backend in backends for each in backend.posted}
    assert claimed == {"127.0.0.1"}  # and not what the client says


@pytest.mark.slow
def test_who_refuses_a_connection_is_passed_over(nginx: Nginx, backends: list[Backend]) -> None:
    backends[0].close()
    assert {post(nginx).text for _ in range(12)} == {"gateway-1"}


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "one"])
def test_a_post_that_was_sent_is_never_repeated_by_nginx(
    nginx: Nginx, backends: list[Backend], key: str | None
) -> None:
    for backend in backends:
        backend.breaks = True
    answers = [post(nginx, key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert {json.loads(answer.text)["arguments"][0] for answer in answers} == {"unknown"}
    assert sum(len(backend.posted) for backend in backends) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_no_other_change_that_was_sent_is_repeated_by_nginx_either(
    nginx: Nginx, backends: list[Backend], method: str
) -> None:
    assert status_of(nginx.address, "/x/keys/k1", method) == 200
    for backend in backends:
        backend.breaks = True
        backend.posted.clear()
    answers = [httpx.request(method, f"{nginx.url}/x/keys/k1", timeout=60) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert {json.loads(answer.text)["arguments"][0] for answer in answers} == {"unknown"}
    assert sum(len(backend.posted) for backend in backends) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("target", METRICS)
def test_metrics_are_not_for_whoever_comes_by_nginx(nginx: Nginx, target: str) -> None:
    assert status_of(nginx.address, target) in {400, 404}
    assert status_of(nginx.address, "/livez") == 200


@pytest.mark.slow
def test_with_no_gateway_there_clients_are_told_to_come_again(tmp_path: Path) -> None:
    nobody = [f"127.0.0.1:{lasting_port()}" for _ in range(SERVERS)]
    with Nginx(tmp_path / "nginx", nobody) as nginx:
        answer = post(nginx)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.text)["key"] == "gateway.unavailable"


@pytest.mark.faults
def test_a_rolling_restart_behind_nginx_fails_nobody(tmp_path: Path) -> None:
    """Two gateways on one store; with one retry every request is answered, and the books agree."""
    seed = drawn_seed()
    instance = Instance("ROLLED", {"r1": 10**9, "r2": 10**9})

    async def run() -> None:
        with open_fleet(tmp_path / "fleet", instance, environs=({},) * SERVERS) as fleet:
            addresses = [replica.address for replica in fleet.replicas]
            with Nginx(tmp_path / "nginx", addresses) as nginx:
                async with fleet.load("ROLLED", seed) as load:
                    load.urls = [nginx.url]
                    async with load.working(CLIENTS):
                        await load.enough(20)
                        for replica in fleet.replicas:
                            await asyncio.to_thread(replica.end)
                            await asyncio.to_thread(replica.start)
                            await load.enough(50)
                    assert load.failed == [], (load.messages, nginx.log_tail)
                    retried = sum(len(ask.endings) > 1 for ask in load.answered)
                    print(f"answered {len(load.answered)}, by the retry {retried}")
                    await fleet.judge("rolling restart, nginx", load, faults=SERVERS)

    asyncio.run(run())
