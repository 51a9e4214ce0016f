"""CMAPI as an upstream: a batch as an access request, and what the answer means. Pure.

Decided here: the bytes of the request and the meaning of a 200. Not decided here: the other answers
(answers.py), what is then done (delivery.py), the connection and the token (sender.py). A 200 is a
grant only when it reads as an access response without statuses; one that does not read as an
access response may have been applied.
Source: DESIGN 5 (the table of answers), protocols/cmapi.md 4, 5 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway.core.floating import NOBODY, USER_TYPE
from gateway.core.ports import Answer, Refusal, Route, Sender, Verdict
from gateway.core.usage import Choice
from gateway.upstream.answers import WHY_CHARS_MAX, horizon_ms, judge_failure

ENDPOINT: Final = "/access_request"


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


_response: Final = msgspec.json.Decoder(_Response).decode


def route(upstream: CmapiUpstream, sender: Sender) -> Route:
    """Give the forwarder's view of this upstream."""
    return Route(
        name=upstream.name,
        sender=sender,
        encode=lambda choice, instance, _batch, _lines: encode(upstream, choice, instance),
        interval_s=upstream.interval_s,
        # A send may post twice, for the sake of a fresh token.
        horizon_ms=horizon_ms(upstream.dedupe_horizon_ms, 2 * upstream.timeout_s),
    )


def encode(upstream: CmapiUpstream, choice: Choice, instance: str) -> bytes:
    """Write a choice with counts as an access request.

    `incremental`, or seats that the same host holds would be released; not `partial`, or a refused
    feature would leave the others applied. The order of members is fixed. No correlationId: the
    batch's id travels as header and means the same.
    """
    return msgspec.json.encode(
        {
            "hostId": _host_id(choice.host, upstream.host or f"string:{instance}"),
            "incremental": True,
            "partial": False,
            "borrow-interval": "0d",
            "features": [
                {"name": count.name, "version": count.version, "count": count.units}
                for count in choice.counts
            ],
        }
    )


def _host_id(host: str, own: str) -> dict[str, str]:
    """Give who asks, as a parent takes it: a LicenseSpring user is a user of CMAPI's there.

    Who consumed without saying who it was, and what is of no host, is the upstream's `own` host.
    """
    if host in ("", NOBODY.canonical):
        host = own
    host_type, _, value = host.partition(":")
    kind = "user" if host_type == USER_TYPE else host_type.lower()
    return {"type": kind, "value": value}


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Say what an answer means; header names are lower case. Never raises."""
    if status == 200:
        # Only a gateway of ours is known to remember a denial together with the id.
        return _judge_response(body, conclusive="gateway-request-id" in headers)
    return judge_failure(status, headers, body)


def _judge_response(body: bytes, conclusive: bool) -> Verdict:
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
    return Verdict(Answer.REFUSED, named[:WHY_CHARS_MAX], refused=refused, conclusive=conclusive)


def _text(value: object) -> str:
    return "" if value is None else str(value)
