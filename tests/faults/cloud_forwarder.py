"""The command line with a cloud whose calls run out in seconds, so that a doubt takes no 16 min.

    python tests/faults/cloud_forwarder.py forward --config FILE …

Decided here: only how long a signed call is good, which the fake cloud's `good_s` must be below,
how often schedules are looked at, and that it suspends itself, once, where SLEEPS is set: between
the note of an attempt and its call.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway import wiring_cloud
from gateway.cli import main
from gateway.core.ports import Verdict
from gateway.core.usage import Batch
from gateway.upstream import forwarder
from gateway.upstream.licensespring import LicensespringUpstream
from gateway.upstream.licensespring_cloud import Cloud

SLEEPS = "CLOUD_FORWARDER_SLEEPS"
GOOD_S = 2
WINDOW_MS = 4_000  # a Date has whole seconds, and is rounded down


class Sleeper(Cloud):
    """Is suspended before it sends."""

    async def send(self, batch: Batch) -> Verdict:
        if os.environ.pop(SLEEPS, ""):
            os.kill(os.getpid(), signal.SIGSTOP)
        return await super().send(batch)


if __name__ == "__main__":
    wiring_cloud.Cloud = Sleeper  # type: ignore[misc]
    wiring_cloud.LicensespringUpstream = partial(  # type: ignore[misc, assignment]
        LicensespringUpstream, window_ms=WINDOW_MS
    )
    forwarder.SYNC_LOOK_S = 0.1  # type: ignore[misc]
    main()
