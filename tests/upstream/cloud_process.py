"""Our fake cloud as a process of its own: started, killed, restarted, paused, planned, read.

Decided here: how it is run; it keeps its port and its directory over restarts, and is ended by its
process id, whatever happens. Not decided here: what it does (cloud_server.py, cloud_books.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.system.processes import clean_environ, eventually, read_line
from tests.upstream.cloud_books import Counted, read_counted
from tests.upstream.cloud_server import Plan

PROGRAM = (sys.executable, str(Path(__file__).with_name("cloud_server.py")))
START_S = 30.0
BIND_S = 60.0


class CloudProcess(AbstractContextManager["CloudProcess"]):
    """A cloud over a directory that was prepared for it; runs while it is entered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._plans = 0

    def __enter__(self) -> CloudProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What the process complained of; "" while it is sound."""
        return (self.directory / "log").read_text()

    def start(self) -> None:
        """Start the process, on the port it had before, if any, and wait until it is ready."""
        eventually(self._try_start, BIND_S)

    def kill(self) -> None:
        """End the process at once, with SIGKILL; its books stay."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the process where it is: connections come about, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def follow(self, **plan: Any) -> None:
        """Let these faults happen from now on; members as in Plan."""
        self._plans += 1
        new = self.directory / "plan.json.new"
        new.write_text(json.dumps(asdict(Plan(serial=self._plans, **plan))))
        os.replace(new, self.directory / "plan.json")

    def counted(self) -> list[Counted]:
        return read_counted(self.directory)

    def faults(self) -> Counter[str]:
        """Give how often each fault happened, by name."""
        file = self.directory / "faults"
        return Counter(file.read_text().splitlines() if file.exists() else ())

    def totals(self, hardware_id: str) -> Counter[str]:
        """Give what a device added, by feature; "" is the licence itself."""
        totals: Counter[str] = Counter()
        for each in self.counted():
            if each.kind == "add" and each.hardware_id == hardware_id:
                totals[each.feature] += each.units
        return totals

    def _try_start(self) -> bool:
        with (self.directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "--dir", str(self.directory), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=clean_environ(),
                start_new_session=True,
            )
        word, _, port = read_line(self._process, START_S).partition(" ")
        if word == "ready":
            self.port = int(port)
            return True
        self.kill()
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
