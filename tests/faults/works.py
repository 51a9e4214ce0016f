"""The upstream process as a test holds it: started, killed, restarted, paused, planned, read.

Decided here: how the process is run: it keeps its port and its directory over restarts, and is
ended by its process id, whatever happens. Not decided here: what it does (upstream.py, plan.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from tests.faults.checker import Evidence
from tests.faults.ledger import Accepted, Handled, Seen, read_entries, unique_totals
from tests.faults.plan import Plan, encode_plan
from tests.stores.programs import lasting_port
from tests.system.processes import clean_environ, eventually, read_line

PROGRAM = (sys.executable, str(Path(__file__).with_name("upstream.py")))
PLAN_FILE = "plan.json"
START_S = 60.0
BIND_S = 60.0


class Upstream(AbstractContextManager["Upstream"]):
    """An upstream process with its books in `directory`; begins as it is entered, or by `start`.

    `exact`: it remembers ids with what became of them, denials too, as a gateway of ours does.
    `forgets`: it counts a repeated id again. Neither: it tells repeats of what it counted.
    """

    def __init__(self, directory: Path, *, exact: bool = False, forgets: bool = False) -> None:
        self.directory = directory
        self.port = lasting_port()
        self._words = ["--exact"] * exact + ["--forgets"] * forgets
        self._process: subprocess.Popen[str] | None = None
        self._plan = Plan()
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Upstream:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def access_url(self) -> str:
        """The `url` of a `cmapi` upstream: the base, of an instance called UP."""
        return f"http://127.0.0.1:{self.port}/api/1.0/instances/UP"

    @property
    def events_url(self) -> str:
        """The `url` of a `cloudevents` upstream."""
        return f"http://127.0.0.1:{self.port}/events"

    @property
    def log(self) -> str:
        """What the process complained of; "" while it is sound."""
        return (self.directory / "log").read_text()

    def start(self) -> None:
        """Start the process, on its own port, and wait until it is ready."""
        eventually(self._try_start, BIND_S)

    def kill(self) -> None:
        """End the process at once, with SIGKILL; its books stay."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restart(self) -> None:
        """Kill the process and start it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the process where it is: connections come about, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process, if it runs."""
        self.kill()

    def follow(self, plan: Plan) -> None:
        """Let the next request be the first under a new plan; its serial is given here."""
        self._plan = replace(plan, serial=self._plan.serial + 1)
        new = self.directory / f"{PLAN_FILE}.new"
        new.write_bytes(encode_plan(self._plan))
        os.replace(new, self.directory / PLAN_FILE)

    def accepted(self) -> list[Accepted]:
        return read_entries(self.directory, Accepted)

    def seen(self) -> list[Seen]:
        return read_entries(self.directory, Seen)

    def handled(self) -> list[Handled]:
        """Give every request that was read to its end, in order, under whichever plan."""
        return read_entries(self.directory, Handled)

    def totals(self) -> Counter[str]:
        """Give what was accepted by feature (access requests) or line (events), each id once."""
        return unique_totals(self.accepted())

    def arrived(self, batch: str) -> bool:
        """Say whether a batch was accepted, as a person asks before deciding on a parked one."""
        return any(entry.batch == batch for entry in self.accepted())

    def evidence(self, by: str, aside: dict[str, str] | None = None) -> Evidence:
        """Give the checker what this upstream knows; `by` and `aside` as in Evidence."""
        return Evidence(self.accepted(), self.seen(), by, aside or {})

    def _try_start(self) -> bool:
        with (self.directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "--dir", str(self.directory), "--port", str(self.port), *self._words],
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
