"""Run a program that ends with its owner: `python tether.py OWNER_PID PROGRAM ARGUMENT...`.

Decided here: the parent-death signal, SIGTERM so that the program ends cleanly. It is set in this
short-lived process, which then becomes the program, and not between fork and exec of the owner,
where Python code of a process with threads may hang. Nothing imports this file; bundled.py runs it.
Source: prctl(2), RELIABILITY 5.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(owner_pid: int, command: list[str]) -> None:
    """Become `command` (an absolute path, then arguments), which gets SIGTERM when its owner ends.

    The kernel ties the signal to the owner's thread that started us: it has to be the main thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "No parent-death signal can be set")
    # Signal first, look second: an owner that ended before the signal was set never sends it.
    if os.getppid() != owner_pid:
        raise SystemExit("The owner ended before its program started")
    # A mask outlives exec: an owner that blocks SIGTERM would make a program that never ends.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execv(command[0], command)  # noqa: S606 - a program given by its path, no shell wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
