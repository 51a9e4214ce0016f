"""Clocks that tests set: of the whole store, for our commands, or of one process, for all it does.

Decided here: the two ways to do so. Run as a program, `python -m tests.faults.fleet_clock serve …`,
it is our command line with the scripts' prelude of tests/model/clock.lua: what a script takes for
now is in `gw:clock`, and nothing else is changed. A StepClock is libfaketime's, for a process that
is started with its `environ`: it reads another time of day, and the same time that passes.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.store import scripts
from tests.stores.servers import Server

CLOCK = "gw:clock"
PRELUDE = Path(__file__).parents[1] / "model" / "clock.lua"
PROGRAM = ("-m", "tests.faults.fleet_clock")
LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"  # where Debian has it

_as_they_are = scripts.read_lua


class StepClock:
    """The clock of one process, in `file`: right at first, then off by what it was stepped to.

    Without the library the test is skipped, but fails in CI.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = _demand()
        self.step(0)

    @property
    def environ(self) -> Mapping[str, str]:
        """What the process has to find in its environment."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Let it be off by so many seconds, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        os.replace(new, self._file)  # in one step: it is read all the time


class SteppedServer(Server):
    """A server whose clock is stepped; begins as it is entered."""

    def __init__(self, directory: Path, clock: StepClock) -> None:
        super().__init__(directory)
        laid = [f"{name}={text}" for name, text in clock.environ.items()]
        self._command = ["env", *laid, *self._command]


def _demand() -> str:
    found = glob.glob(LIBRARY)
    if not found:
        if os.environ.get("CI"):
            pytest.fail("libfaketime is not installed")
        pytest.skip("libfaketime is not installed")
    return found[0]


def _read_lua(name: str) -> str:
    return PRELUDE.read_text("utf-8") if name == "now" else _as_they_are(name)


if __name__ == "__main__":
    scripts.read_lua = _read_lua
    main(prog_name="cmapi-gateway")
