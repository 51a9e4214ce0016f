"""kill -9 of anything, at the worst moment: what was acknowledged stays, what is retried counts
once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from gateway.store.embedded import Embedded
from gateway.store.keys import PARTITIONS_DEFAULT, InstanceKeys
from gateway.web.servers import GRANIAN, HYPERCORN
from tests.stores.byte_proxy import ByteProxy, How
from tests.system.processes import (
    AWAIT_S,
    COMMAND,
    Gateway,
    Processes,
    clean_environ,
    eventually,
)

PROVISIONING = """
[[instance]]
id = "KILLS"
  [[instance.key]]
  kid = "k"
  alg = "RS256"
  public_file = "public.pem"
  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 1000000
  model = "metered"
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


@pytest.fixture
def token(tmp_path: Path) -> str:
    """Generate the client's key beside the provisioning file; give a token made with it."""
    run("keys", "generate", "--out", str(tmp_path))
    (tmp_path / "kills.toml").write_text(PROVISIONING)
    return run("token", "--key", str(tmp_path / "private.pem")).strip()


def run(*arguments: str, **environ: str) -> str:
    ended = subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environ() | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def post(gateway: Gateway, token: str, id_: str, count: int = 1) -> httpx.Response:
    body = {
        "hostId": {"type": "string", "value": "h1"},
        "incremental": True,
        "features": [{"name": "sessions", "count": count}],
    }
    return httpx.post(
        f"{gateway.url}/api/1.0/instances/KILLS/access_request",
        json=body,
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": id_},
        timeout=AWAIT_S,
    )


def acked(tmp_path: Path, *store: str) -> int:
    told = msgspec.json.decode(run("verify", "KILLS", "--format", "json", "--deep", *store))
    assert told["conservation"] == "OK"
    units: int = told["instances"][0]["lines"][0]["acked"]
    return units


@pytest.mark.slow
def test_kill_between_script_and_answer_counts_once_when_retried(
    tmp_path: Path, processes: Processes, token: str
) -> None:
    """I1, I2: the store has counted, the gateway dies before it can say so, the retry replays."""
    store = Embedded(tmp_path / "store")
    socket_path = Path(store.ensure())
    proxy = ByteProxy(socket_path)
    try:
        through = ("--redis", proxy.url)
        run("apply", str(tmp_path / "kills.toml"), *through)
        # It must not give up, and say so, before it is killed.
        gateway = processes.serve(*through, GATEWAY_REDIS__DEADLINE_MS="60000")
        assert post(gateway, token, "warm").status_code == 200
        proxy.replies.become(How.SWALLOW)
        unseen = threading.Thread(target=_post_into_the_void, args=(gateway, token, "one", 42))
        unseen.start()
        with redis.Redis(unix_socket_path=str(socket_path)) as client:
            ledger = InstanceKeys("KILLS", PARTITIONS_DEFAULT).ledger
            eventually(lambda: client.hget(ledger, "acked|L1") == b"43")
        eventually(lambda: proxy.replies.lost_bytes > 0)
        gateway.signal(signal.SIGKILL)
        gateway.exit_code()
        unseen.join(AWAIT_S)
        proxy.heal()

        again = post(processes.serve(*through), token, "one", 42)
        assert again.status_code == 200
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["features"][0]["count"] == 42
        assert acked(tmp_path, *through) == 43
    finally:
        proxy.close()
        store.close()


@pytest.mark.usefixtures("served_by")
@pytest.mark.parametrize(
    ("served_by", "ack"),
    [
        (HYPERCORN, "written"),
        pytest.param(HYPERCORN, "local", marks=pytest.mark.slow),
        pytest.param(GRANIAN, "written", marks=pytest.mark.slow),
    ],
    indirect=["served_by"],
)
def test_kill_of_gateway_and_store_keeps_every_acknowledged_count(
    tmp_path: Path, processes: Processes, token: str, ack: str
) -> None:
    """I1: both processes are killed at once under load; what was answered is there afterwards."""
    data_dir = tmp_path / "data"
    settings = {"GATEWAY_REDIS__ACK": ack}
    run("apply", str(tmp_path / "kills.toml"), "--data-dir", str(data_dir), **settings)
    gateway = processes.serve(data_dir=data_dir, **settings)
    answered: list[str] = []
    clients = [
        threading.Thread(target=_post_until_it_dies, args=(gateway, token, name, answered))
        for name in "abcd"
    ]
    for client in clients:
        client.start()
    eventually(lambda: len(answered) > 60)
    store_pid = gateway.store_pid()
    os.kill(store_pid, signal.SIGKILL)
    gateway.signal(signal.SIGKILL)
    for client in clients:
        client.join(AWAIT_S)
        assert not client.is_alive()
    before = len(answered)

    second = processes.serve(data_dir=data_dir, **settings)
    units = acked(tmp_path, "--data-dir", str(data_dir))
    assert before <= units <= before + len(clients)  # at most one unseen answer per client
    assert post(second, token, answered[0]).headers["idempotency-replayed"] == "true"
    assert acked(tmp_path, "--data-dir", str(data_dir)) == units


@pytest.mark.slow
def test_kill_of_the_store_alone_is_ridden_over(
    tmp_path: Path, processes: Processes, token: str
) -> None:
    """The gateway starts its store again; a request that met the gap has a 200 or a clean 503."""
    data_dir = tmp_path / "data"
    run("apply", str(tmp_path / "kills.toml"), "--data-dir", str(data_dir))
    gateway = processes.serve(data_dir=data_dir)
    assert post(gateway, token, "one").status_code == 200
    os.kill(gateway.store_pid(), signal.SIGKILL)
    answers = []

    def recovered() -> bool:
        answers.append(post(gateway, token, "two").status_code)
        return answers[-1] == 200

    eventually(recovered, 60)
    assert set(answers) <= {200, 503}
    assert acked(tmp_path, "--data-dir", str(data_dir)) == 2


def _post_into_the_void(gateway: Gateway, token: str, id_: str, count: int) -> None:
    with pytest.raises(httpx.HTTPError):
        post(gateway, token, id_, count)


def _post_until_it_dies(gateway: Gateway, token: str, name: str, answered: list[str]) -> None:
    """Ask for one thing after the other, each until it is answered: at most one is in doubt."""
    for number in range(100_000):
        id_ = f"{name}-{number}"
        try:
            while post(gateway, token, id_).status_code != 200:
                pass
        except httpx.HTTPError:
            return
        answered.append(id_)
