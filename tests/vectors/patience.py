"""What a machine that stands still for some seconds must not turn into a refusal.

Decided here: which bounds of the gateway are long in tests that are not about them. None of it is
waited for where all is well. Not decided here: how long a whole test may take.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from gateway.store import durable, server

PATIENT_S: Final = 20.0
SETTINGS: Final = {
    "GATEWAY_REDIS__DEADLINE_MS": str(round(PATIENT_S * 1000)),
    "GATEWAY_SERVER__BODY_TIMEOUT_S": "60",
}
_CONSTANTS: Final = (
    "gateway.service.health.LOOK_S_MAX",
    "gateway.service.lately.PATIENCE_S",
    "gateway.service.lookout.CLOCKS_S_MAX",
    "gateway.service.lookout.LOOK_S_MAX",
    "gateway.upstream.forwarder.STOP_LIST_S",
    "gateway.web.bodies.DRAIN_S",
)


@contextmanager
def patience() -> Iterator[None]:
    """Let whatever is opened meanwhile wait for its store, and for its clients, for long."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _CONSTANTS:
            patch.setattr(name, PATIENT_S)
        # Bounds that are defaults: of a call beside the lane, and of a write that must be safe.
        patch.setattr(server.connection_options, "__defaults__", (PATIENT_S, PATIENT_S))
        patch.setattr(durable.Durable.__init__, "__defaults__", (durable.NO_WAIT, PATIENT_S))
        yield
