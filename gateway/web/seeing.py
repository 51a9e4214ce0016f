"""What is counted and logged of each request that was answered.

Decided here: that access requests are counted by what they came to, with their time; and the one
line per request that `log.access` asks for. In it is nothing that a client wrote: the route's name,
not the path, and an instance and a key once they are verified. What succeeds for a health check is
not worth a line. Source: INTERFACE 5, RELIABILITY 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.types import Scope

from gateway.core.meters import Meters
from gateway.core.metrics import Protocol
from gateway.protocols.licensespring_problem import is_theirs
from gateway.service.noted import Noted
from gateway.web.endpoints import NOTED, Endpoint
from gateway.web.exchanges import Exchange
from gateway.web.shedding import OPERATIONS

# RFC 9110's and PATCH; what OpenTelemetry calls all others.
METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)
OTHER_METHOD: Final = "_OTHER"

_OUTCOMES: Final = {401: "unauthorized", 403: "unauthorized", 429: "throttled"}

_log = structlog.get_logger("gateway.requests")


@dataclass(frozen=True, slots=True)
class Seeing:
    """Sees answered requests. `lines`: each is logged too."""

    meters: Meters = field(default_factory=Meters)
    lines: bool = False

    def answered(self, scope: Scope, exchange: Exchange) -> None:
        """Take an exchange into account that is over; one without answer is none."""
        if not exchange.status:
            return
        noted: Noted | None = scope.get(NOTED)
        endpoint = scope.get("endpoint")
        protocol = endpoint.protocol if isinstance(endpoint, Endpoint) else None
        if protocol is not None and noted is not None and noted.outcome:
            # The lines of a batch are counted where they are answered; here, one that has none.
            alone = protocol is not Protocol.CMAPI_BATCH
            self.meters.answered(protocol, noted.outcome, exchange.took_s if alone else None)
        if self.lines:
            self._tell(scope, exchange, noted or Noted())

    def _tell(self, scope: Scope, exchange: Exchange, noted: Noted) -> None:
        path, status = scope["path"], exchange.status
        operations = path.endswith(OPERATIONS)
        if operations and status < 400:
            return
        endpoint = scope.get("endpoint")
        facts: dict[str, object] = {
            "request_id": noted.request_id,
            "protocol": _protocol(path),
            "method": method_of(scope),
            "route": getattr(endpoint, "name", "") or getattr(endpoint, "__name__", ""),
            "status": status,
            "outcome": noted.outcome or _outcome(status),
            "duration_ms": round(exchange.took_s * 1000, 3),
            "instance": noted.instance,
            "kid": noted.kid,
            "lines": noted.lines or "",
        }
        _log.info("request", **{name: fact for name, fact in facts.items() if fact != ""})


def method_of(scope: Scope) -> str:
    """Give a request's method if it is one; any other word is its client's text."""
    return scope["method"] if scope["method"] in METHODS else OTHER_METHOD


def _protocol(path: str) -> str:
    if is_theirs(path):
        return "licensespring"
    return "cmapi" if path.startswith("/api/") else "operations"


def _outcome(status: int) -> str:
    """Name what a request came to of which nothing was noted."""
    if status < 400:
        return "answered"
    return _OUTCOMES.get(status) or ("invalid" if status < 500 else "error")
