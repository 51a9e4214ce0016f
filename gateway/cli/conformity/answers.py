"""What a server's answer to an access or preview request says, and when it was given.

Decided here: how counts of several entries of one feature come together, and by whose clock an
answer is dated. Not decided here: whether an answer has the right shape (shapes.py).
Source: protocols/cmapi.md 5, SEMANTICS 8.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from gateway.cli.conformity.checks import Absent, Differs, hold
from gateway.cli.conformity.wire import Reply
from gateway.core.base64url import b64url_decode

UNCOUNTED: Final = "uncounted"
REPLAYED: Final = "idempotency-replayed"
TRANSACTION_TIME: Final = "gateway-transaction-time"
DATE_OFF_S: Final = 2  # of a moment dated by HTTP's Date, which has whole seconds, or by our clock
_ABSENT: Final = (404, 405, 501)


def demand(reply: Reply, status: int = 200) -> Reply:
    """Give the reply back when it has this status. Raises Differs; Absent for 404, 405 and 501."""
    if reply.status == status:
        return reply
    kind = Absent if reply.status in _ABSENT else Differs
    raise kind(f"HTTP {status}", reply.words)


def present(reply: Reply) -> Reply:
    """Give an answer back. Raises Absent when it says that there is no such path or method."""
    if reply.status in _ABSENT:
        raise Absent("such a path and method", reply.words)
    return reply


class Answer:
    """A 200 whose body is an object with lists of `features` and, perhaps, `statusList`.

    Raises Differs for anything else.
    """

    def __init__(self, reply: Reply, body: Any = None) -> None:
        self.reply = demand(reply)
        self.body: dict[str, Any] = reply.json() if body is None else body
        for value, kind in ((self.body, dict), (self._features, list), (self.statuses, list)):
            hold(isinstance(value, kind), "an object with features and statusList", reply.words)
        for each in (*self._features, *self.statuses):
            hold(isinstance(each, dict), "objects in features and statusList", reply.words)

    @property
    def _features(self) -> Any:
        return self.body.get("features") if isinstance(self.body, dict) else None

    @property
    def statuses(self) -> Any:
        """What was not fully served; CMAPI lets the list be absent or null when all was."""
        return (self.body.get("statusList") or []) if isinstance(self.body, dict) else None

    @property
    def codes(self) -> list[str]:
        return [str(each.get("code")) for each in self.statuses]

    def names(self) -> list[str]:
        return [str(each.get("name")) for each in self._features]

    def entries(self, name: str) -> list[dict[str, Any]]:
        """Give the entries of a feature: one for each version of a line that served."""
        return [each for each in self._features if each.get("name") == name]

    def entry(self, name: str) -> dict[str, Any]:
        """Give the first entry of a feature. Raises Differs when there is none."""
        entries = self.entries(name)
        hold(entries, f"an entry of {name} in features", self.names())
        return entries[0]

    def count(self, name: str) -> int | str:
        """Give the counts of a feature in all, or a word when one of them is a word; 0: none."""
        total = 0
        for entry in self.entries(name):
            count = entry.get("count")
            if isinstance(count, str):
                return count
            hold(type(count) is int, "a whole number as count", entry)
            total += int(count or 0)
        return total

    def expires_s(self, name: str) -> float:
        """Give the earliest moment at which a grant lapses. Raises Differs when none is told."""
        moments = [each.get("expires") for each in self.entries(name)]
        hold(moments and all(moments), f"expires of {name}", self.entry(name))
        return min(seconds(moment) for moment in moments)

    @property
    def at_s(self) -> float:
        """When it was answered: the transaction time, or what comes nearest to it."""
        told = self.reply.headers.get(TRANSACTION_TIME)
        if told is not None:
            return seconds(told)
        dated = self.reply.headers.get("date")
        if dated is None:
            return time.time()
        try:
            return parsedate_to_datetime(dated).timestamp()
        except (TypeError, ValueError, OverflowError):
            raise Differs("a Date of HTTP", dated) from None

    def lapses_by(self, interval_s: int) -> float:
        """Say when a grant of this answer lapses at the latest: rounded up to a whole second."""
        exact = TRANSACTION_TIME in self.reply.headers
        return math.ceil(self.at_s + interval_s) + (0 if exact else DATE_OFF_S)


def contents(reply: Reply) -> Any:
    """Read what an answer says, also a signed one's, without judging it; None: it is unreadable."""
    content: bytes | None = reply.content
    if reply.media_type == "application/jose":
        content = b64url_decode(reply.content.split(b".")[1]) if b"." in reply.content else None
    try:
        return msgspec.json.decode(content or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def seconds(moment: object) -> float:
    """Read an ISO-8601 moment, UTC where it names no zone. Raises Differs."""
    try:
        read = datetime.fromisoformat(str(moment))
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise Differs("an ISO-8601 moment", moment) from None
