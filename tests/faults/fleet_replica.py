"""A gateway of a fleet as a process: on its own port each time, killed, ended in order, looked at.

Decided here: how it is run, and that its environment has no settings but those it is given. Not
decided here: what its settings are and who stands beside it (fleet.py).
"""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.stores.programs import HOST, Program
from tests.system.processes import ROOT

DRAIN_S = 1.0  # a balancer that looks every 200 ms has noticed by then
EXIT_S_MAX = 30.0  # 10 are promised; a machine that stalls takes longer, a stop that hangs for ever
ANSWER_S_MAX = 10.0
SERVER = """
[server]
bind = "{bind}"
drain_s = {drain_s}
"""


class Replica(Program):
    """A gateway of the fleet; begins by `start`, on its own port each time.

    `program` is what runs `serve`, `environ` what it finds in its environment.
    """

    def __init__(
        self, directory: Path, settings: str, program: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        directory.mkdir()
        words = [*program, "serve", "--config", "gateway.toml", "--data-dir", "."]
        super().__init__(directory, [*clean_words(environ), *words], self.ready)
        own = SERVER.format(bind=self.address, drain_s=DRAIN_S)
        (directory / "gateway.toml").write_text(settings + own)

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def memory_bytes(self) -> int:
        """What it has in memory."""
        told = Path(f"/proc/{self.pid}/status").read_text()
        return int(told.partition("VmRSS:")[2].split()[0]) * 1024

    @property
    def files(self) -> int:
        """How many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask on a connection of its own; status 0 when there is no answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_S_MAX)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def end(self) -> float:
        """Tell it to end, and see that it does so in order and in time; give the seconds."""
        began_s = time.monotonic()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(EXIT_S_MAX) == 0, self.log_tail
        self._process = None
        return time.monotonic() - began_s


def clean_words(environ: Mapping[str, str]) -> list[str]:
    """Give the words that run a program in an environment without settings of ours but these."""
    unset = [f"--unset={name}" for name in os.environ if name.startswith("GATEWAY_")]
    laid = {"PYTHONPATH": str(ROOT), **environ}
    return ["env", *unset, *(f"{name}={text}" for name, text in laid.items())]
