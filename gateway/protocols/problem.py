"""How an error looks on the wire: one table from error class to status and key, one shape of body.

Decided here: status, key and headers of every refusal. Not decided here: what is refused and in
which words (the errors carry those), and how denials look (they are answers: HTTP 200).
Source: SEMANTICS 10, protocols/cmapi.md 5.5 and 5.6.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    InvalidPublicKey,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
    UserAuthFailed,
)

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body

# A subclass without a row of its own has its parent's. What only a command line meets has none.
TABLE: Final[dict[type[GatewayError], tuple[int, str]]] = {
    BadRequest: (400, "gateway.badRequest"),
    Unauthorized: (401, "gateway.unauthorized"),
    Forbidden: (403, "gateway.forbidden"),
    NotFound: (404, "gateway.notFound"),
    MethodNotAllowed: (405, "gateway.methodNotAllowed"),
    RequestTimeout: (408, "gateway.requestTimeout"),
    TooLarge: (413, "gateway.tooLarge"),
    UnsupportedMediaType: (415, "gateway.unsupportedMediaType"),
    IdempotencyMismatch: (422, "gateway.idempotencyMismatch"),
    TooManyRequests: (429, "gateway.tooManyRequests"),
    Unavailable: (503, "gateway.unavailable"),
    InvalidPublicKey: (400, "gateway.invalidPublicKey"),
    UserAuthFailed: (401, "gateway.userAuthFailed"),
}
INTERNAL: Final = (500, "gateway.internalError")
KEY_REMOVED: Final = (410, "gateway.keyRemoved")  # no error: how CMAPI says that it is done


def render(error: GatewayError) -> Answer:
    """Turn an error into status, headers and JSON body.

    Raises LookupError for an error that has no business on a wire: the caller's answer to that, as
    to any surprise, is `render_internal`. Pure.
    """
    status, key = _row(type(error))
    headers = {"Content-Type": "application/json"}
    if isinstance(error, TooManyRequests | Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    elif status == 401:
        # HTTP demands a challenge with every 401 (RFC 9110, 15.5.2); a constant gives nothing away.
        headers["WWW-Authenticate"] = "Bearer"
    return status, headers, body(key, error.message, *error.arguments)


def render_internal(request_id: str) -> Answer:
    """Give the answer to what nobody foresaw: a request id to find in the log, nothing else."""
    status, key = INTERNAL
    return status, {"Content-Type": "application/json"}, body(key, "Internal error", request_id)


def render_key_removed() -> Answer:
    """Give the answer to a DELETE of licensing keys, whether or not there was one."""
    status, key = KEY_REMOVED
    return status, {"Content-Type": "application/json"}, body(key, "Licensing key removed")


def body(key: str, message: str, *arguments: str) -> bytes:
    """Encode the one shape that every error body has: `{key, message, arguments}`."""
    return msgspec.json.encode({"key": key, "message": message, "arguments": arguments})


def _row(error: type[GatewayError]) -> tuple[int, str]:
    for ancestor in error.__mro__:
        row = TABLE.get(ancestor)
        if row is not None:
            return row
    raise LookupError(f"{error.__name__} has no row in the table of answers")
