"""What the table of deploy/README.md says of the store's memory is what a real one takes.

Measured as the growth of MEMORY USAGE, of all keys and of every element, while a gateway answers
batches, or lines are added. The first of each kind are there before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import msgspec
import pytest

from gateway.core.keys import public_pem
from tests.deploy.files import DEPLOY
from tests.faults.fleet_requests import TOKEN_KEY, TOKEN_KID, make_token
from tests.stores.servers import Server
from tests.system.processes import Processes

BATCH = 1_000
BATCHES = 3
OFF_MAX = 0.15  # of what the table says

pytestmark = pytest.mark.bench


@dataclass
class Bench:
    """A gateway over a server of its own, asked in batches; memory is told by the server."""

    server: Server
    processes: Processes
    directory: Path
    url: str
    _ids: Iterator[int] = field(default_factory=count)

    def provision(self, lines: int, model: str, attached: bool = False) -> None:
        """Have one instance with so many lines, each a feature; more than before stay."""
        upstream = '[[instance.upstream]]\nname = "meter"\n' if attached else ""
        key = f'[[instance.key]]\nkid = "{TOKEN_KID}"\nalg = "RS256"\npublic_file = "k.pem"\n'
        (self.directory / "k.pem").write_bytes(public_pem(TOKEN_KEY.public_key()))
        told = "".join(
            f'[[instance.line]]\nid = "LINE-{n:04d}"\nfeature = "feature-{n:04d}"\n'
            f'version = "1.0"\nmodel = "{model}"\ncount = 1000000\n'
            for n in range(lines)
        )
        file = self.directory / "bench.toml"
        file.write_text(f'[[instance]]\nid = "BENCH"\n{upstream}{key}{told}')
        process, log = self.processes.start("apply", str(file), "--redis", self.server.url)
        process.communicate(timeout=180)
        assert process.returncode == 0, log.read_text()

    def ask(self, host: Callable[[int], str], line: Callable[[int], int]) -> None:
        """Post a batch; each line has an id of 36 characters, a host and a feature."""
        lines = []
        for number in range(BATCH):
            name = f"feature-{line(number):04d}"
            members = {
                "correlationId": f"{next(self._ids):036d}",
                "hostId": {"type": "string", "value": host(number)},
                "incremental": True,
                "features": [{"name": name, "version": "1.0", "count": 1}],
            }
            lines.append(msgspec.json.encode(members))
        answer = httpx.post(
            f"{self.url}/api/1.0/instances/BENCH/access_requests",
            content=b"\n".join(lines),
            headers={
                "Authorization": f"Bearer {make_token()}",
                "Content-Type": "application/x-ndjson",
            },
            timeout=180,
        )
        assert answer.status_code == 200
        told = [msgspec.json.decode(each) for each in answer.content.splitlines()]
        assert {each["status"] for each in told} == {200}, told[0]

    def memory(self) -> int:
        """Give what all keys take; the table of keys itself is not in it."""
        with self.server.client() as client:
            asked = client.pipeline(transaction=False)
            for key in client.scan_iter(count=BATCH):
                asked.memory_usage(key, samples=0)
            return sum(told or 0 for told in asked.execute())

    def grown(self, work: Callable[[], None]) -> int:
        before = self.memory()
        work()
        return self.memory() - before


@contextmanager
def bench(directory: Path, **environ: str) -> Iterator[Bench]:
    processes = Processes(directory)
    with Server(directory / "store") as server:
        try:
            gateway = processes.serve(
                "--no-forward", "--redis", server.url, **environ, GATEWAY_DEDUPE__RETENTION="1h"
            )
            yield Bench(server, processes, directory, gateway.url)
        finally:
            processes.close()


def told(row: str) -> int:
    """Give the bytes that the README's table says."""
    table = (DEPLOY / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(row)}[^|]*\| ([\d,]+) \|", table, re.MULTILINE)
    assert found is not None, row
    return int(found[1].replace(",", ""))


def close(row: str, measured: float) -> None:
    print(f"{row}: {measured:.0f} bytes")
    assert abs(measured - told(row)) <= OFF_MAX * told(row), (row, measured)


def test_an_idempotency_id_takes_what_the_table_says(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        it.provision(1, "metered")
        it.ask(lambda _: "one", lambda _: 0)

        def work() -> None:
            for _ in range(BATCHES):
                it.ask(lambda _: "one", lambda _: 0)

        grown = it.grown(work)
        close("an idempotency id", grown / (BATCH * BATCHES))


@pytest.mark.parametrize("model", ["metered", "concurrent"])
def test_a_host_takes_what_the_table_says(tmp_path: Path, model: str) -> None:
    """Beside the id of its request, which goes after `dedupe.retention`."""
    with bench(tmp_path) as it:
        it.provision(1, model)
        for batch in range(2):
            it.ask(lambda number, batch=batch: f"first-{batch}-{number:06d}", lambda _: 0)

        def work() -> None:
            for batch in range(BATCHES):
                it.ask(lambda number: f"host-{batch}-{number:06d}", lambda _: 0)  # noqa: B023

        each = it.grown(work) / (BATCH * BATCHES)
        close(f"a host, {model}", each - told("an idempotency id"))


def test_a_line_takes_what_the_table_says(tmp_path: Path) -> None:
    """As it is sold, and as it has been used once, with its day and what waits for an upstream."""
    with bench(tmp_path) as it:
        it.provision(200, "metered", attached=True)
        grown = it.grown(lambda: it.provision(1_200, "metered", attached=True))
        close("a line, as sold", grown / 1_000)
        it.ask(lambda _: "one", lambda number: number % 200)
        grown = it.grown(lambda: it.ask(lambda _: "one", lambda number: 200 + number))
        close("a line, used", grown / BATCH - told("an idempotency id"))
