"""The judge over a real gateway: its answers, its store and its `verify` are what a run leaves."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from gateway.store.keys import PARTITIONS_DEFAULT, InstanceKeys
from tests.faults.checker import Kind
from tests.stores.journal import Run, Verdict, judge, write_run
from tests.stores.journal_entries import Entry, JournalFile, Outcome
from tests.system.processes import AWAIT_S, COMMAND, Gateway, Processes, clean_environ

PROVISIONING = """
[[instance]]
id = "RUN"
  [[instance.key]]
  kid = "k"
  alg = "RS256"
  public_file = "public.pem"
  [[instance.line]]
  id = "L1"
  feature = "sessions"
  version = "1.0"
  count = 50
  model = "metered"
"""
LEDGER = InstanceKeys("RUN", PARTITIONS_DEFAULT).ledger

pytestmark = pytest.mark.slow


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


def run(*words: str) -> bytes:
    ended = subprocess.run(
        [*COMMAND, *words], env=clean_environ(), capture_output=True, check=False
    )
    return ended.stdout


def ask(gateway: Gateway, token: str, journal: JournalFile, id_: str, units: int) -> None:
    """Ask for units and write down what was said, as every client of a run does."""
    asked = {"L1": units}
    journal.note(Entry(id=id_, instance="RUN", asked=asked, outcome=Outcome.SENT))
    answer = httpx.post(
        f"{gateway.url}/api/1.0/instances/RUN/access_request",
        json={
            "hostId": {"type": "string", "value": "h1"},
            "incremental": True,
            "features": [{"name": "sessions", "count": units}],
        },
        headers={"Authorization": f"Bearer {token}", "Idempotency-Key": id_},
        timeout=AWAIT_S,
    )
    assert answer.status_code == 200
    granted = sum(feature["count"] for feature in answer.json()["features"])
    journal.note(
        Entry(
            id=id_,
            instance="RUN",
            asked=asked,
            outcome=Outcome.ANSWERED,
            granted={"L1": granted},
            status=answer.status_code,
            answer=hashlib.sha256(answer.content).hexdigest(),
        )
    )


def judged(directory: Path, *store: str) -> Verdict:
    books = run("verify", "--format", "json", "--deep", *store)
    write_run(directory, Run(name="trial", drained=True, capacity={"RUN": {"L1": 50}}), books)
    return judge(directory)


def test_a_sound_gateway_is_found_so_and_a_store_that_lost_or_doubled_is_not(
    tmp_path: Path, processes: Processes
) -> None:
    data_dir = tmp_path / "data"
    store = ("--data-dir", str(data_dir))
    run("keys", "generate", "--out", str(tmp_path))
    (tmp_path / "run.toml").write_text(PROVISIONING)
    run("apply", str(tmp_path / "run.toml"), *store)
    token = run("token", "--key", str(tmp_path / "private.pem")).decode().strip()
    gateway = processes.serve(data_dir=data_dir)
    records = tmp_path / "records"
    records.mkdir()
    with JournalFile(records, "a") as journal:
        for number in [*range(12), 3]:
            ask(gateway, token, journal, f"r{number}", 5)  # the last two find it all used
    sound = judged(records, *store)
    assert sound.violations == []
    assert sound.figures == (
        "trial: acknowledged 12, faults 0, lost 0, doubled 0, over capacity 0"
        " (seed 0, 0 never answered)"
    )
    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        client.hincrby(LEDGER, "acked|L1", -5)
        assert judged(records, *store).units(Kind.LOST) == 5
        client.hincrby(LEDGER, "acked|L1", 10)
        assert judged(records, *store).units(Kind.DOUBLED) == 5
