"""The body of a request to administration: one JSON object, and no word of it in an error.

Not decided here: which members it has. Access requests, whose errors do say where a body breaks,
have a reader of their own (cmapi_request.py).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.core.errors import BadRequest

_JSON: Final = msgspec.json.Decoder()


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises BadRequest. Pure."""
    try:
        decoded: Any = _JSON.decode(body)
    except (ValueError, RecursionError):
        # `from None`, and none of the decoder's words: nobody should have to ask what they quote.
        raise BadRequest("The body is not JSON", "body") from None
    if not isinstance(decoded, dict):
        raise BadRequest("The body must be a JSON object", "body")
    return decoded
