"""Reading a request's body within its bounds of size and time, and what of its headers matters.

Decided here: 413 as soon as too much is announced or has come, 408 when it does not come in time,
415 for an encoded body. Written against plain ASGI, so that it is the same under every server.
Source: SEMANTICS 2.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Receive, Scope

from gateway.core.errors import RequestTimeout, TooLarge, UnsupportedMediaType

JSON = "application/json"
JOSE = "application/jose"


class ClientGone(Exception):
    """The client disconnected before its request was whole: nobody is left to answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request body."""

    body_bytes_max: int = 65_536
    body_timeout_s: float = 5.0


@dataclass(slots=True)
class Headers:
    """The request headers that access requests look at; of a repeated one the last counts."""

    content_type: str = ""
    content_encoding: str = ""
    content_length: int = 0
    authorization: str | None = None
    idempotency_key: str | None = None

    @classmethod
    def of(cls, scope: Scope) -> Headers:
        headers = cls()
        for name, value in scope["headers"]:
            match name:
                case b"content-type":
                    text = value.decode("latin-1").partition(";")[0]
                    headers.content_type = text.strip().lower()
                case b"authorization":
                    headers.authorization = value.decode("latin-1")
                case b"idempotency-key":
                    headers.idempotency_key = value.decode("latin-1")
                case b"content-length":
                    headers.content_length = int(value) if value.isdigit() else 0
                case b"content-encoding":
                    headers.content_encoding = value.decode("latin-1").strip().lower()
        return headers

    def is_jose(self) -> bool:
        """Say whether the body is a JWS. Raises UnsupportedMediaType for anything but JSON and
        JOSE.

        A client that names no type is taken to send JSON, which is all that CMAPI knows.
        """
        if self.content_encoding not in ("", "identity"):
            raise UnsupportedMediaType("Send the body without Content-Encoding", "content-encoding")
        if self.content_type == JOSE:
            return True
        if self.content_type in (JSON, ""):
            return False
        raise UnsupportedMediaType(
            f"Content-Type must be {JSON}, or {JOSE} for a signed payload", "content-type"
        )


async def read_body(receive: Receive, announced_bytes: int, limits: Limits) -> bytes:
    """Read the whole body. Raises TooLarge, RequestTimeout or ClientGone."""
    if announced_bytes > limits.body_bytes_max:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part = message.get("body", b"")
                if part:
                    parts.append(part)
                    size += len(part)
                    if size > limits.body_bytes_max:
                        raise _too_large(limits)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise RequestTimeout(
            f"The body was not complete after {limits.body_timeout_s:g} s"
        ) from None


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"The body may have {limits.body_bytes_max} bytes", str(limits.body_bytes_max))
