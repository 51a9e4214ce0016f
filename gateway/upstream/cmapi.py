"""CMAPI as an upstream: a batch as an access request, and what the answer means. Pure.

Decided here: the bytes of the request and the meaning of each answer. Not decided here: what is
then done (delivery.py), the connection and the token (sender.py). A 200 is a grant only when it
reads as an access response without statuses; whatever might have been applied is UNKNOWN.
Source: DESIGN 5 (the table of answers), protocols/cmapi.md 4, 5 and 9.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from gateway.core.ports import Answer, Refusal, Route, Sender, Verdict
from gateway.core.usage import Choice

ENDPOINT: Final = "/access_request"
RETRY_AFTER_S_MAX: Final = 3_600  # a hostile or mistaken header must not silence us for days
WHY_CHARS_MAX: Final = 200
# Past this before the upstream forgets an id, it is not used any more: the clocks are not one.
HORIZON_MARGIN_MS: Final = 60_000

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


class CmapiUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """A parent gateway or licence server, as configured; its private key is not in here.

    `url` is the base, `…/api/1.0/instances/ID`. `host` is "TYPE:value" of who asks; "" stands for
    `string:` and the id of the instance whose usage it is. `dedupe_horizon_ms` is how long the
    upstream remembers an idempotency id; 0: it remembers none.
    """

    name: str
    url: str
    kid: str = ""
    host: str = ""
    dedupe_horizon_ms: int
    interval_s: float
    timeout_s: float = 30.0

    @property
    def endpoint(self) -> str:
        """The address that usage is posted to; a trailing slash of the base is tolerated."""
        return self.url.rstrip("/") + ENDPOINT


class _Status(msgspec.Struct):
    code: str | int | float | None = None
    name: str | None = None
    version: str | int | float | None = None


class _Response(msgspec.Struct):
    # What we do not look into is only told apart from absent: members that make it an access
    # response, and not just any JSON object that some proxy answers with.
    statusList: list[_Status] | msgspec.UnsetType | None = msgspec.UNSET
    features: list[Any] | msgspec.UnsetType | None = msgspec.UNSET
    requestHostId: Any = msgspec.UNSET


class _Problem(msgspec.Struct):
    key: str = ""
    arguments: list[Any] | None = None


_response: Final = msgspec.json.Decoder(_Response).decode
_problem: Final = msgspec.json.Decoder(_Problem).decode


def route(upstream: CmapiUpstream, sender: Sender) -> Route:
    """Give the forwarder's view of this upstream."""
    # A send may post twice, for the sake of a fresh token.
    margin_ms = int(2 * upstream.timeout_s * 1000) + HORIZON_MARGIN_MS
    return Route(
        name=upstream.name,
        sender=sender,
        encode=lambda choice, instance: encode(upstream, choice, instance),
        interval_s=upstream.interval_s,
        horizon_ms=max(0, upstream.dedupe_horizon_ms - margin_ms),
    )


def encode(upstream: CmapiUpstream, choice: Choice, instance: str) -> bytes:
    """Write a choice with counts as an access request.

    `incremental`, or seats that the same host holds would be released; not `partial`, or a refused
    feature would leave the others applied. The order of members is fixed. No correlationId: the
    batch's id travels as header and means the same.
    """
    host_type, _, value = (choice.host or upstream.host or f"string:{instance}").partition(":")
    return msgspec.json.encode(
        {
            "hostId": {"type": host_type.lower(), "value": value},
            "incremental": True,
            "partial": False,
            "borrow-interval": "0d",
            "features": [
                {"name": count.name, "version": count.version, "count": count.units}
                for count in choice.counts
            ],
        }
    )


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Say what an answer means; header names are lower case. Never raises."""
    if status == 200:
        return _judge_response(body)
    why = f"HTTP {status}"
    if status == 429 or (status == 503 and _says_not_applied(body)):
        return Verdict(Answer.NOT_APPLIED, why, retry_after_s=_retry_after_s(headers))
    if status in (400, 413, 422):
        return Verdict(Answer.INVALID, f"{why} {_key(body)}".rstrip())
    if 300 <= status < 500:
        return Verdict(Answer.STOPPED, f"{why} {_key(body)}".rstrip())
    return Verdict(Answer.UNKNOWN, why, retry_after_s=_retry_after_s(headers))


def _judge_response(body: bytes) -> Verdict:
    unreadable = Verdict(Answer.UNKNOWN, "HTTP 200 that is no access response")
    try:
        response = _response(body)
    except (ValueError, RecursionError):
        return unreadable
    members = (response.statusList, response.features, response.requestHostId)
    if all(member is msgspec.UNSET for member in members):
        return unreadable
    if not response.statusList:  # empty, null or missing
        return Verdict(Answer.GRANTED)
    refused = tuple(
        Refusal(_text(status.name), _text(status.version), _text(status.code))
        for status in response.statusList
    )
    named = ", ".join(f"{each.name} {each.version}: {each.code}" for each in refused)
    return Verdict(Answer.REFUSED, named[:WHY_CHARS_MAX], refused=refused)


def _says_not_applied(body: bytes) -> bool:
    """Say whether it is a gateway of ours that did not apply the request (SEMANTICS 10)."""
    problem = _read_problem(body)
    return problem.key == "gateway.unavailable" and (problem.arguments or [])[:1] == ["not_applied"]


def _key(body: bytes) -> str:
    """Give the error's key where it is a plain word; nothing else of a body goes into a log."""
    key = _read_problem(body).key
    return key if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", key) else ""


def _read_problem(body: bytes) -> _Problem:
    try:
        return _problem(body)
    except (ValueError, RecursionError):
        return _Problem()


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Read Retry-After in seconds, or as a date against the answer's own Date; None: no sense."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(int(text), RETRY_AFTER_S_MAX)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0, int(wait.total_seconds())), RETRY_AFTER_S_MAX)


def _text(value: object) -> str:
    return "" if value is None else str(value)
