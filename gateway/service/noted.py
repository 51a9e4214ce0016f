"""What becomes known of a request while it is served, for whoever counts and logs it.

Decided here: the words for what a request came to. Only what was verified is noted: an instance and
a key once the credential is good, never what a client merely wrote. Source: SEMANTICS 10.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import (
    Forbidden,
    GatewayError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UserAuthFailed,
)
from gateway.core.floating import Refusal
from gateway.core.metrics import Outcome
from gateway.core.model import AccessRequest, Shortfall
from gateway.protocols.licensespring_problem import FloatingRefused

_NOT_READ = frozenset({Refusal.VALIDATION, Refusal.INVALID_JSON, Refusal.MISSING})


class Noted:
    """Notes on one request; "" is not known. `lines`: of a batch, how many were answered."""

    # On the class, since most of them are never set, and every request has some.
    instance = ""
    kid = ""
    outcome = ""
    lines = 0

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id

    def failed(self, error: GatewayError) -> None:
        """Note why there is no answer but an error."""
        self.outcome = outcome_of_error(error)


def outcome_of(request: AccessRequest, shortfalls: Sequence[Shortfall]) -> Outcome:
    """Name what an access request came to that was carried out now, not before."""
    if not shortfalls:
        return Outcome.GRANTED
    if not request.partial:
        return Outcome.DENIED
    some = len(shortfalls) < len(request.wants) or any(each.available for each in shortfalls)
    return Outcome.PARTIAL if some else Outcome.DENIED


def outcome_of_error(error: GatewayError) -> Outcome:
    """Name what a request came to that was answered with an error."""
    match error:
        case Unavailable():
            return Outcome(error.outcome)
        case Unauthorized() | UserAuthFailed() | Forbidden():
            return Outcome.UNAUTHORIZED
        case TooManyRequests():
            return Outcome.THROTTLED
        case FloatingRefused() if error.refusal not in _NOT_READ:
            return Outcome.DENIED
    return Outcome.INVALID
