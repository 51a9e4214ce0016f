"""The error tree: what can be wrong with a request or with the world, one class per key.

Decided here: which errors exist and what each may say. How they look on a wire (status, key,
headers) is one table in protocols/problem.py. A denial is no error: it is part of an answer.
Source: SEMANTICS 10.
"""

from __future__ import annotations

from typing import Literal

Applied = Literal["not_applied", "applied_not_durable", "unknown"]


class GatewayError(Exception):
    """Base. `arguments` name what the message speaks of; none of it is ever a secret."""

    def __init__(self, message: str, *arguments: str) -> None:
        super().__init__(message)
        self.message = message
        self.arguments = arguments


class BadRequest(GatewayError):
    """The body is not an access request; `arguments[0]` is the member at fault. A retry does not
    help.
    """


class Unauthorized(GatewayError):
    """Nothing valid for the instance in the path; always the same words, whatever was wrong."""

    def __init__(self) -> None:
        super().__init__("Not a valid credential for this instance")


class UserAuthFailed(GatewayError):
    """A log-in that failed, whatever was wrong with it; `arguments` is the user name as sent."""

    def __init__(self, user: str) -> None:
        super().__init__("User name or password is wrong", user)


class InvalidPublicKey(GatewayError):
    """What was uploaded is no key that capability tokens may be signed with; always the same
    words.
    """

    def __init__(self) -> None:
        super().__init__("Expected an RSA public key of 2048 bits in DER SubjectPublicKeyInfo form")


class Forbidden(GatewayError):
    """A valid credential that lacks the role in `arguments[0]`."""


class NotFound(GatewayError):
    """No such path."""


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""


class RequestTimeout(GatewayError):
    """The body did not arrive in time."""


class TooLarge(GatewayError):
    """The body is over the limit."""


class UnsupportedMediaType(GatewayError):
    """Not a content type (or a content encoding) that the path takes."""


class IdempotencyMismatch(GatewayError):
    """The idempotency id was used for another request; nothing was counted."""


class TooManyRequests(GatewayError):
    """Over a rate limit; a retry after `retry_after_s` helps."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(GatewayError):
    """The store cannot answer now; `outcome` says whether the request may have been applied.

    A retry with the same idempotency id is always safe.
    """

    def __init__(self, message: str, outcome: Applied, retry_after_s: int = 1) -> None:
        super().__init__(message, outcome)
        self.outcome = outcome
        self.retry_after_s = retry_after_s


class InvalidInput(GatewayError):
    """A file, flag or address given on the command line is wrong; `problems` are all of them, a
    line each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
