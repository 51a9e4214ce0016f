"""What JSON a server must answer with: members, and the type of each.

Decided here: how a shape is written down, and that members nobody promised are no fault: clients
must tolerate them. Not decided here: which members an answer has (the sections). Pure.
Source: protocols/cmapi.md 3.4 and 5, SEMANTICS 8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.cli.conformity.checks import Differs, shown

FAULTS_MAX: Final = 3  # that one difference names
ELEMENTS_MAX: Final = 1_000  # of an array that are looked at
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Kind(NamedTuple):
    """A kind of value that has no members."""

    words: str
    fits: Callable[[Any], bool]


class Members(NamedTuple):
    """An object; `may` are members that can be absent."""

    must: Mapping[str, Any]
    may: Mapping[str, Any] = {}


class Array(NamedTuple):
    """An array whose elements all have one shape."""

    of: Any


class Table(NamedTuple):
    """An object with names of its own, whose values all have one shape."""

    of: Any


Shape = Kind | Members | Array | Table

TEXT: Final = Kind("a string", lambda value: isinstance(value, str))
NAME: Final = Kind("a string, not empty", lambda value: isinstance(value, str) and bool(value))
FLAG: Final = Kind("a boolean", lambda value: isinstance(value, bool))
WHOLE: Final = Kind("a whole number", lambda value: type(value) is int)
COUNT: Final = Kind("a whole number, not negative", lambda value: type(value) is int and value >= 0)
COUNT_OR_WORD: Final = Kind(
    'a whole number or "uncounted"', lambda value: COUNT.fits(value) or value == "uncounted"
)
MOMENT: Final = Kind(
    "a moment such as 2026-11-22T10:00:00.000Z",
    lambda value: isinstance(value, str) and _MOMENT.fullmatch(value) is not None,
)
EXPIRY: Final = Kind(
    'a moment or "permanent"', lambda value: MOMENT.fits(value) or value == "permanent"
)
TEXT_OR_NULL: Final = Kind("a string or null", lambda value: value is None or TEXT.fits(value))

HOST: Final = Members({"type": NAME, "value": NAME})
STATUS: Final = Members({"message": TEXT, "code": NAME, "name": NAME, "version": TEXT})
LINE_ITEM: Final = Members(
    {
        "productName": TEXT_OR_NULL,
        "productVersion": TEXT_OR_NULL,
        "activationId": TEXT_OR_NULL,
        "entitlementId": TEXT_OR_NULL,
    }
)
_TOLD: Final = {"vendorString": TEXT, "serialNumber": TEXT, "issuer": TEXT, "notice": TEXT}
GRANT: Final = Members(
    {
        "name": NAME,
        "version": NAME,
        "count": WHOLE,
        "finalExpiry": EXPIRY,
        "entitlementExpiry": EXPIRY,
        "renewInterval": COUNT,
        "lineItemsInfo": Array(LINE_ITEM),
    },
    {"maxCount": COUNT, "expires": MOMENT, **_TOLD},
)
OFFER: Final = Members(
    {
        "name": NAME,
        "version": NAME,
        "count": COUNT_OR_WORD,
        "finalExpiry": EXPIRY,
        "entitlementExpiry": EXPIRY,
    },
    {"maxCount": COUNT, "expires": MOMENT, **_TOLD},
)
ACCESS: Final = Members(
    {
        "requestHostId": HOST,
        "features": Array(GRANT),
        "serverLicenseRenewInterval": COUNT,
    },
    {"statusList": Array(STATUS)},
)
PREVIEW: Final = Members(
    {"requestHostId": HOST, "features": Array(OFFER)}, {"statusList": Array(STATUS)}
)
ERROR: Final = Members({"key": NAME, "message": NAME, "arguments": Array(TEXT)})


def fit(value: object, shape: Shape) -> None:
    """Raise Differs, with the first faults and what should be there, unless a value has a shape."""
    faults = []
    for fault in _faults(value, shape, ""):
        faults.append(fault)
        if len(faults) == FAULTS_MAX:
            break
    if faults:
        raise Differs(
            "; ".join(f"{at or 'the body'}: {expected}" for at, expected, _ in faults),
            "; ".join(f"{at or 'the body'}: {found}" for at, _, found in faults),
        )


def _faults(value: object, shape: Shape, at: str) -> Iterator[tuple[str, str, str]]:
    """Give where a value is not as it should be: path, what should be there, what is there."""
    match shape:
        case Kind(words, fits):
            if not fits(value):
                yield at, words, shown(value)
        case Members(must, may):
            if not isinstance(value, dict):
                yield at, "an object", shown(value)
                return
            for name, inner in must.items():
                path = f"{at}.{name}" if at else name
                if name in value:
                    yield from _faults(value[name], inner, path)
                else:
                    yield path, getattr(inner, "words", "present"), "absent"
            for name in may.keys() & value.keys():
                yield from _faults(value[name], may[name], f"{at}.{name}" if at else name)
        case Array(of):
            if not isinstance(value, list):
                yield at, "an array", shown(value)
                return
            for number, element in enumerate(value[:ELEMENTS_MAX]):
                yield from _faults(element, of, f"{at}[{number}]")
        case Table(of):
            if not isinstance(value, dict):
                yield at, "an object", shown(value)
                return
            for name in list(value)[:ELEMENTS_MAX]:
                yield from _faults(value[name], of, f"{at}.{name}" if at else name)
