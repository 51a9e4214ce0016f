"""A backup or a restore that kills itself, as kill -9 does, before its so many-th step.

Run as a process: `killed_backup.py backup|restore STEP COMMAND…`; with step 0 it runs to its end.
Decided here: what a step is. A backup's are its frames, a restore's all that it does to the store.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from gateway.cli import main
from gateway.protocols.backup_file import Writer
from gateway.store.known_ids import KnownIds
from gateway.store.restoring import Restoring

STEPS: dict[str, list[tuple[type, str]]] = {
    "backup": [(Writer, "frame")],
    "restore": [
        *((Restoring, name) for name in ("close", "clear", "stage", "stage_record", "swap")),
        *((KnownIds, name) for name in ("forget", "remember")),
    ],
}


def killed_before(step: int, kind: type, name: str, taken: list[int]) -> None:
    method: Callable[..., Any] = getattr(kind, name)

    def counted(*args: Any, **more: Any) -> Any:
        taken[0] += 1
        if taken[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **more)

    setattr(kind, name, counted)


if __name__ == "__main__":
    what, step, *command = sys.argv[1:]
    taken = [0]
    for kind, name in STEPS[what]:
        killed_before(int(step), kind, name, taken)
    main(command)
