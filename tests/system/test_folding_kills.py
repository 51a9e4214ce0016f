"""kill -9 of a gateway that folds, and of its store: the next goes on, and reports say the same.

Real processes and the real clock: the days are those of years ago.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from gateway.store.folding import FOLD_LINES_MAX
from gateway.store.keys import PARTITIONS_DEFAULT, InstanceKeys
from tests.system.processes import AWAIT_S, Gateway, Processes, eventually
from tests.system.test_kills import run

pytestmark = pytest.mark.slow

LINES = FOLD_LINES_MAX + 100  # so that a visit leaves something to the next
MONTHS = (202301, 202302)
KEYS = InstanceKeys("OLD", PARTITIONS_DEFAULT)
LINE = '  [[instance.line]]\n  id = "L{0}"\n  feature = "f{0}"\n  version = "1"\n  model = "{1}"\n'
RETENTION = {"GATEWAY_REPORT__RETENTION": "25mo"}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.close()


def test_a_fold_that_is_killed_is_carried_on(tmp_path: Path, processes: Processes) -> None:
    provisioning = tmp_path / "old.toml"
    lines = (LINE.format(number, "metered") + "  count = 1000000\n" for number in range(LINES))
    zone = 'timezone = "Pacific/Kiritimati"\n'
    provisioning.write_text(f'[[instance]]\nid = "OLD"\n{zone}' + "".join(lines))
    data_dir = tmp_path / "data"
    at = ("--data-dir", str(data_dir))
    run("apply", str(provisioning), *at)

    keeping = processes.serve("--no-forward")
    with client_of(keeping) as client:
        write(client)
    before = report(*at)
    assert folds(keeping) == 0
    keeping.process.kill()
    keeping.exit_code()

    folding = processes.serve(**RETENTION)
    eventually(lambda: folds(folding) > 0)
    folding.process.kill()
    folding.exit_code()
    told(*at, before=before)

    again = processes.serve(**RETENTION)
    done = folds(again)
    eventually(lambda: folds(again) >= done)
    os.kill(again.store_pid(), signal.SIGKILL)
    again.process.kill()
    again.exit_code()
    told(*at, before=before)

    last = processes.serve(**RETENTION)
    eventually(lambda: days_left(last) == 0, within_s=90)
    told(*at, before=before)
    with client_of(last) as client:
        assert [client.hlen(KEYS.month(month)) for month in MONTHS] == [LINES] * len(MONTHS)


def client_of(gateway: Gateway) -> redis.Redis:
    path = str(gateway.data_dir / "valkey.sock")
    return redis.Redis(unix_socket_path=path, socket_timeout=AWAIT_S)


def write(client: redis.Redis) -> None:
    """Record a few days of two months, and what they come to."""
    sums: dict[str, int] = {}
    for month in MONTHS:
        fields = {
            f"L{line}|{month}{day:02d}|u": line + day for line in range(LINES) for day in (1, 9, 28)
        }
        client.hset(KEYS.days(month), mapping=dict(fields))
        for name, units in fields.items():
            line = name.split("|")[0]
            for word in ("acked", "days"):
                sums[f"{word}|{line}"] = sums.get(f"{word}|{line}", 0) + units
    since_ms = int(datetime(2023, 1, 2, tzinfo=UTC).timestamp() * 1000)
    client.hset(KEYS.ledger, mapping=sums | {"since_ms": since_ms})


def folds(gateway: Gateway) -> int:
    with client_of(gateway) as client:
        found: Any = client.hget(KEYS.ledger, "folds")
    return int(found or 0)


def days_left(gateway: Gateway) -> int:
    with client_of(gateway) as client:
        found: Any = client.exists(*(KEYS.days(month) for month in MONTHS))
    return int(found)


def report(*store: str) -> str:
    days = ("--from", "2023-01-01", "--to", "2023-12-31", "--by", "month,line")
    return run("report", "OLD", *days, "--format", "csv", *store)


def told(*store: str, before: str) -> None:
    """Look at it with nobody at work, as it was left."""
    assert report(*store) == before
    books = msgspec.json.decode(run("verify", "OLD", "--format", "json", "--deep", *store))
    assert books["conservation"] == "OK"
