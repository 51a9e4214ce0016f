"""Processes that only a nemesis has: a gateway with workers, and a forwarder.

Decided here: when each is ready. Not decided here: what is done to them (nemesis_plant.py).
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.fleet_replica import Replica, clean_words
from tests.stores.programs import LOG_FILE, Program
from tests.system.processes import COMMAND

READY = "ready http"


class Crew(Replica):
    """A gateway with workers: ready once all of them have been, for until then one may refuse."""

    _said = 0  # of its log, before this start

    def begin(self) -> None:
        log = self.directory / LOG_FILE
        self._said = len(self.log) if log.exists() else 0
        super().begin()

    def ready(self) -> bool:
        return READY in self.log[self._said :] and super().ready()


class Forwarder(Program):
    """A `forward` process; it is ready as soon as it runs, for it says nothing."""

    def __init__(self, directory: Path, settings: str) -> None:
        directory.mkdir()
        self.name = directory.name
        words = [*COMMAND, "forward", "--config", "gateway.toml", "--data-dir", "."]
        super().__init__(directory, [*clean_words({}), *words], lambda: True)
        (directory / "gateway.toml").write_text(settings)
