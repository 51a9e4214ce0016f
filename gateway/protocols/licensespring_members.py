"""One JSON object of a LicenseSpring client, read member by member, as tolerantly as they need it.

Decided here: that numbers and booleans may come as text, that null is absent and that unknown
members are let be, how moments are spelled, and the words for what cannot be read. Not decided
here: which members a request has (licensespring_requests.py).
Source: protocols/licensespring.md 1.1, 9 and 10, SEMANTICS 2.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from gateway.core.floating import Refusal
from gateway.core.model import COUNT_MAX, UNITS_MAX
from gateway.core.passwords import PASSWORD_BYTES_MAX
from gateway.protocols.licensespring_problem import FloatingRefused

TEXT_BYTES_MAX: Final = 256  # of a product, a feature, a user
MOMENT_CHARACTERS_MAX: Final = 40

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,19}")
_WORDS: Final = {"true": True, "false": False}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_decode: Final = msgspec.json.Decoder().decode


class Members:
    """The members of a body. Each reader takes names of which the first that is there counts; it
    raises FloatingRefused, which names the first.
    """

    __slots__ = ("_found",)

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def text(self, *names: str) -> str:
        """Read a text that must be there: 1 to TEXT_BYTES_MAX bytes, no control characters."""
        text = self.optional_text(*names)
        if not text:
            raise FloatingRefused(Refusal.MISSING, f"{names[0]} is required")
        return text

    def optional_text(self, *names: str) -> str:
        """Read a text that may be missing; it is "" then."""
        value = self._first(names)
        if value is None:
            return ""
        # No text has half a surrogate pair: the decoder takes none.
        if (
            not isinstance(value, str)
            or len(value.encode()) > TEXT_BYTES_MAX
            or _CONTROL.search(value)
        ):
            raise _wrong(
                names[0],
                f"must be a text of at most {TEXT_BYTES_MAX} bytes without control characters",
            )
        return value

    def password(self, *names: str) -> str:
        """Read a password that must be there, of any characters; no refusal repeats any of it."""
        value = self._first(names)
        if value is None:
            raise FloatingRefused(Refusal.MISSING, f"{names[0]} is required")
        if isinstance(value, str) and 0 < len(value.encode()) <= PASSWORD_BYTES_MAX:
            return value
        raise _wrong(names[0], f"must be a text of 1 to {PASSWORD_BYTES_MAX} bytes")

    def whole(self, *names: str, most: int = UNITS_MAX) -> int | None:
        """Read a whole number from -most to most, or its digits as text; None: it is missing."""
        value = self._first(names)
        if value is None:
            return None
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if type(value) is not int:  # true is an int to isinstance
            raise _wrong(names[0], "must be an integer")
        if not -most <= value <= most:
            raise _wrong(names[0], f"must be from -{most} to {most}")
        return value

    def units(self, name: str) -> int:
        """Read an amount of consumption; 1 when it is missing."""
        found = self.whole(name, most=COUNT_MAX)
        return 1 if found is None else found

    def flag(self, *names: str) -> bool | None:
        """Read a boolean, or the word for it; None: it is missing."""
        value = self._first(names)
        if isinstance(value, str):
            value = _WORDS.get(value.lower(), value)
        if value is not None and not isinstance(value, bool):
            raise _wrong(names[0], "must be true or false")
        return value

    def moment_ms(self, *names: str) -> int | None:
        """Read an RFC 3339 moment as ms since the epoch, UTC where it has no offset.

        None: it is missing, or the zero date of the languages that always send one.
        """
        value = self._first(names)
        if value is None or value == "":
            return None
        try:
            if not isinstance(value, str) or len(value) > MOMENT_CHARACTERS_MAX:
                raise ValueError
            moment = datetime.fromisoformat(value)
            if moment.year == 1:
                return None
            at_ms = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MS
        except ValueError:
            raise FloatingRefused(Refusal.BORROW_UNTIL) from None
        return at_ms

    def _first(self, names: tuple[str, ...]) -> Any:
        return next((found for name in names if (found := self._found.get(name)) is not None), None)


def read_members(body: bytes) -> Members:
    """Read a body: a JSON object; an empty body is one without members. Raises FloatingRefused."""
    if not body.strip():
        return Members({})
    try:
        decoded = _decode(body)
    except (ValueError, RecursionError):
        raise FloatingRefused(Refusal.INVALID_JSON) from None
    if not isinstance(decoded, dict):
        raise FloatingRefused(Refusal.VALIDATION, "body: must be a JSON object")
    return Members(decoded)


def _wrong(name: str, what: str) -> FloatingRefused:
    return FloatingRefused(Refusal.VALIDATION, f"{name}: {what}")
