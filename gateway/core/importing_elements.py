"""The answer of a licence server's `GET /features`, element by element and member by member.

Decided here: which data is such an answer, and how what is said of several elements is told once.
Not decided here: what a value may be (importing_values.py), what becomes of it (importing.py).
Source: protocols/cmapi.md 3.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from typing import Any, Final, TypeVar

import msgspec

from gateway.core.errors import InvalidInput
from gateway.core.model import LINES_MAX
from gateway.core.provisioning_values import SHOWN_MAX

T = TypeVar("T")

UNKNOWN_SHOWN_MAX: Final = 10  # unknown members named in one note

_EXPECTED: Final = "expected the JSON array that GET /features answers"


def read_elements(data: bytes) -> tuple[list[Element], Notes]:
    """Read an answer of `GET /features` as its elements, at most LINES_MAX, and notes on them.

    Raises InvalidInput, with one sentence, for what is no such answer.
    """
    try:
        # Shells write UTF-16 too, and marks of byte order; the standard library tells them apart.
        answer = msgspec.json.decode(data.decode(json.detect_encoding(data)))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"The file is not JSON ({error}); {_EXPECTED}") from None
    if isinstance(answer, dict) and "key" in answer and "message" in answer:
        said = shown(answer["message"])
        raise InvalidInput(f"The file is an error that a server answered: {said}; {_EXPECTED}")
    if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
        raise InvalidInput(f"The file is JSON, but no array of objects; {_EXPECTED}")
    if not answer:
        raise InvalidInput("The array is empty: the server lists no features, nothing to import")
    if len(answer) > LINES_MAX:
        raise InvalidInput(f"The array has {len(answer)} elements; at most {LINES_MAX}")
    if not any("featureName" in each for each in answer):
        raise InvalidInput(f"No element of the array has a featureName; {_EXPECTED}")
    notes = Notes()
    return [Element(each, place, notes) for place, each in enumerate(answer, 1)], notes


class Notes:
    """What is told of elements; what is true of several is told once, with all their ids."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}

    def add(self, label: str, note: str) -> None:
        self._labels.setdefault(note, []).append(label)

    def told(self) -> list[str]:
        return [
            f"element{'s' if len(labels) > 1 else ''} {', '.join(labels)}: {note}"
            for note, labels in self._labels.items()
        ]


class Element:
    """One element of the answer, read member by member; `carried` until something forbids it."""

    def __init__(self, members: dict[str, Any], place: int, notes: Notes) -> None:
        self._members = members
        self._notes = notes
        self._known: set[str] = set()
        self.carried = True
        number, name = members.get("id"), members.get("featureName")
        self._label = f"#{place}" if number in (None, "") else shown(number)
        if name not in (None, ""):
            self._label += f" ({shown(name)})"

    def note(self, note: str) -> None:
        self._notes.add(self._label, note)

    def leave_out(self, why: str) -> None:
        self.carried = False
        self.note(f"not carried: {why}")

    def has(self, name: str) -> bool:
        self._known.add(name)
        return self._members.get(name) not in (None, "")

    def read(self, name: str, read: Callable[[Any], T], default: T, otherwise: str = "") -> T:
        """Read a member; the default when it is absent, null, empty, or wrong, which is noted.

        `otherwise` tells what a wrong one means; without it, the element cannot be carried.
        """
        if not self.has(name):
            return default
        value = self._members[name]
        try:
            return read(value)
        except (ValueError, InvalidInput) as error:
            wrong = f"{name} {shown(value)} is not {error}"
        if otherwise:
            self.note(f"{wrong}; {otherwise}")
        else:
            self.leave_out(f"{wrong}; declare this line by hand")
        return default

    def end(self, silent: Set[str]) -> None:
        """Tell of the members that nobody asked for, but for those that need no words."""
        unknown = self._members.keys() - self._known - silent
        if unknown:
            named = ", ".join(shown(name) for name in sorted(unknown)[:UNKNOWN_SHOWN_MAX])
            more = len(unknown) - UNKNOWN_SHOWN_MAX
            self.note(
                f"{named}{f' and {more} more' if more > 0 else ''}: not known here and left out;"
                " see whether it limits who is served (selectors) or names what was sold (product)"
            )


def shown(value: object) -> str:
    """Repeat a value of the answer: as it is when that is plain, else quoted, never at length."""
    if type(value) is int or (isinstance(value, str) and value.isascii() and value.isalnum()):
        return str(value)[:SHOWN_MAX]
    return repr(value)[:SHOWN_MAX]
