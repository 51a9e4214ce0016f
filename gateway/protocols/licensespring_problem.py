"""How an error looks to LicenseSpring clients: `{status, code, message}`, whatever went wrong.

Decided here: which paths have this shape, status, code and headers of every refusal, and the words
of those that the cloud lists. Not decided here: what is refused (core/floating_asks.py, the errors
themselves). Source: protocols/licensespring.md 1, 2.1, 3.3 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.core import errors
from gateway.core.errors import GatewayError
from gateway.core.floating import Refusal
from gateway.protocols.problem import Answer

LOGIN_FAILED: Final = "Invalid username or password"
LOG_IN: Final = "Unauthorized: Please log in"
UNAUTHORIZED: Final = "Unauthorized"
INTERNAL: Final = (500, "internal_error")

V1: Final = "/api/v4"
V2: Final = "/api/v5"
BASIC_LOGIN: Final = "/auth"
_WITH_ERROR: Final = "/api/v5/auth/"

_NOT_ENOUGH: Final = "Not enough consumptions left"
MESSAGES: Final[Mapping[Refusal, str]] = {
    Refusal.LICENSE_NOT_ENOUGH: _NOT_ENOUGH,
    Refusal.FEATURE_NOT_ENOUGH: _NOT_ENOUGH,
    Refusal.NEGATIVE: "Negative consumptions not allowed",
    Refusal.LICENSE_NOT_CONSUMPTION: "The license needs to be of consumption type",
    Refusal.UNSUPPORTED_FEATURE: "One or more of requested product features do not exists or they"
    " are not enabled on the product",
    Refusal.UNKNOWN_PRODUCT: "Provided product was not found",
    Refusal.LICENSE_NOT_FOUND: "License with the provided license user not found",
    Refusal.LICENSE_NOT_ACTIVE: "The license is not active",
    Refusal.NO_SLOT: "No available slots for floating license",
    Refusal.BORROW_NOT_ALLOWED: "License does not allow borrowing",
    Refusal.BORROW_UNTIL: "Borrow until field is not valid",
    Refusal.VALIDATION: "The request is not valid",
    Refusal.INVALID_JSON: "The body is not JSON",
    Refusal.MISSING: "A parameter is missing",
}

# A subclass without a row of its own has its parent's, as in problem.py.
TABLE: Final[Mapping[type[GatewayError], tuple[int, str]]] = {
    errors.BadRequest: (400, Refusal.VALIDATION.value),
    errors.IdempotencyMismatch: (400, Refusal.VALIDATION.value),
    errors.Unauthorized: (401, "unauthorized"),
    errors.UserAuthFailed: (401, "unauthorized"),
    errors.Forbidden: (403, "forbidden"),
    errors.NotFound: (404, "not_found"),
    errors.MethodNotAllowed: (405, "method_not_allowed"),
    errors.RequestTimeout: (408, "request_timeout"),
    errors.TooLarge: (413, "too_large"),
    errors.UnsupportedMediaType: (415, "unsupported_media_type"),
    errors.TooManyRequests: (429, "too_many_requests"),
    errors.Unavailable: (503, "unavailable"),
}


class FloatingRefused(GatewayError):
    """What a LicenseSpring client asked for is refused; nothing was changed. `message` "" is the
    code's own.
    """

    def __init__(self, refusal: Refusal, message: str = "") -> None:
        super().__init__(message or MESSAGES[refusal])
        self.refusal = refusal


def is_theirs(path: str) -> bool:
    """Say whether what a path answers is for LicenseSpring clients."""
    return path == BASIC_LOGIN or path.startswith((f"{V1}/", f"{V2}/")) or path in (V1, V2)


def render(error: GatewayError, path: str) -> Answer:
    """Turn an error into status, headers and body, as it looks under a path.

    Raises LookupError for an error that has no business on a wire. Pure.
    """
    if isinstance(error, FloatingRefused):
        status, code = 400, error.refusal.value
    else:
        status, code = _row(type(error))
    headers = {"Content-Type": "application/json"}
    if isinstance(error, errors.TooManyRequests | errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == 401:
        headers["WWW-Authenticate"] = (
            'Basic realm="licensespring"' if path == BASIC_LOGIN else "Bearer"
        )
    return status, headers, _body(status, code, _message(error, path), path)


def render_internal(request_id: str, path: str) -> Answer:
    """Give the answer to what nobody foresaw: a request id to find in the log, nothing else."""
    status, code = INTERNAL
    body = _body(status, code, f"Internal error {request_id}", path)
    return status, {"Content-Type": "application/json"}, body


def _message(error: GatewayError, path: str) -> str:
    match error:
        case errors.UserAuthFailed():
            return LOGIN_FAILED
        case errors.Unauthorized():
            return UNAUTHORIZED if path.startswith(V2) else LOG_IN
        case _:
            return error.message


def _body(status: int, code: str, message: str, path: str) -> bytes:
    said: dict[str, Any] = {"status": status, "code": code, "message": message}
    if path.startswith(_WITH_ERROR):
        said["error"] = message
    return msgspec.json.encode(said)


def _row(error: type[GatewayError]) -> tuple[int, str]:
    for ancestor in error.__mro__:
        row = TABLE.get(ancestor)
        if row is not None:
            return row
    raise LookupError(f"{error.__name__} has no row in the table of LicenseSpring's answers")
