"""What the members of a provisioning file may be: a table read member by member, value by value.

Decided here: spelling and bounds of each value, and the words of its refusal. Not decided here:
what members together may not be (provisioning.py). Source: INTERFACE 3, SEMANTICS 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from gateway.core.errors import InvalidInput
from gateway.core.fingerprint import visible_ascii
from gateway.core.intervals import parse_duration_ms
from gateway.core.keys import ALGORITHMS
from gateway.core.model import (
    INTERVAL_DAYS_MAX,
    UNITS_MAX,
    Model,
    Reset,
)
from gateway.core.periods import expires_ms, zone
from gateway.core.versions import VERSION_BYTES_MAX, is_version

TEXT_BYTES_MAX: Final = 256
FEATURE_BYTES_MAX: Final = 128
SELECTORS_MAX: Final = 64
SHOWN_MAX: Final = 64  # characters of a wrong value that are repeated
ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

T = TypeVar("T")
_FEATURE: Final = re.compile(rf"[A-Za-z0-9._\-:/ ]{{1,{FEATURE_BYTES_MAX}}}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PERCENT: Final = re.compile(r"([0-9]{1,9})%")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class Members:
    """One table of the file, read member by member; what is wrong with it goes to `problems`."""

    def __init__(self, table: dict[str, Any], where: str, problems: list[str]) -> None:
        self._table = table
        self._known: set[str] = set()
        self.where = where
        self.problems = problems

    def refuse(self, problem: str) -> None:
        self.problems.append(f"{self.where}: {problem}" if self.where else problem)

    def get(self, name: str, read: Callable[[Any], T], default: T, *, required: bool = False) -> T:
        """Read a member; the default when it is absent, and when it is wrong, which is noted."""
        self._known.add(name)
        if name not in self._table:
            if required:
                self.refuse(f"{name} is missing; add it")
            return default
        value = self._table[name]
        try:
            return read(value)
        except InvalidInput as error:
            self.refuse(f"{name}: {error.message}")
        except ValueError as error:
            self.refuse(f"{name} must be {error}, not {shown(value)}")
        return default

    def tables(self, name: str, id_member: str = "id") -> list[Members]:
        """Give the tables of an array, each labelled by its id or else by its place."""
        self._known.add(name)
        entries = self._table.get(name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self.refuse(f"{name} must be tables; write them as [[{name}]]")
            return []
        before = f"{self.where}, " if self.where else ""
        found = []
        for place, entry in enumerate(entries, 1):
            label = entry.get(id_member)
            if not isinstance(label, str) or not ID.fullmatch(label):
                label = f"#{place}"
            found.append(Members(entry, f"{before}{name} {label}", self.problems))
        return found

    def table(self, name: str) -> Members | None:
        """Give an inner table; None when it is absent or no table, which is noted."""
        inner = self.get(name, table, None)
        return None if inner is None else Members(inner, f"{self.where}, {name}", self.problems)

    def end(self) -> None:
        """Refuse the members that nobody asked for."""
        for name in self._table.keys() - self._known:
            known = ", ".join(sorted(self._known))
            self.refuse(f"{repr(name)[:SHOWN_MAX]} is not a member; expected one of {known}")


def shown(value: object) -> str:
    """Show the beginning of a wrong value; Python writes no number of over 4,300 digits. Pure."""
    try:
        return repr(value)[:SHOWN_MAX]
    except ValueError:
        return "a number of thousands of digits"


# Readers of one value each: give it converted, or raise ValueError with what it must be.


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def whole(value: Any, high: int, also: str = "") -> int:
    if type(value) is not int or not 0 <= value <= high:  # true is an int to isinstance
        raise ValueError(f"a whole number from 0 to {high}{also}")
    return value


def license_id(value: Any) -> int:
    if value == 0:  # clients say 0 where they mean none
        raise ValueError(f"a whole number from 1 to {UNITS_MAX}")
    return whole(value, UNITS_MAX)


def percent(value: Any) -> int:
    return whole(value, 100)


def count(value: Any) -> int | None:
    return None if value == "uncounted" else whole(value, UNITS_MAX, ' or "uncounted"')


def overdraft(value: Any) -> str:
    if isinstance(value, str) and (value == "unlimited" or PERCENT.fullmatch(value)):
        return value
    return str(whole(value, UNITS_MAX, ', a percentage such as "10%", or "unlimited"'))


def matching(pattern: re.Pattern[str], expected: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(expected)
        return value

    return read


id: Final = matching(ID, "1 to 64 of A-Z a-z 0-9 . _ -")
feature: Final = matching(
    _FEATURE, f"1 to {FEATURE_BYTES_MAX} letters, digits, . _ - : / and spaces"
)
file_name: Final = matching(re.compile(r"[^\x00]+"), "the name of a file")


def text(value: Any) -> str:
    if (
        not isinstance(value, str)
        or len(value.encode()) > TEXT_BYTES_MAX
        or _CONTROL.search(value) is not None
    ):
        raise ValueError(f"a text of at most {TEXT_BYTES_MAX} bytes without control characters")
    return value


def kid(value: Any) -> str:
    if not isinstance(value, str) or not visible_ascii(value):
        raise ValueError("1 to 255 visible ASCII characters")
    return value


def alg(value: Any) -> str:
    if value not in ALGORITHMS:
        raise ValueError(f"one of {', '.join(ALGORITHMS)}")
    return str(value)


def version(value: Any) -> str:
    if not isinstance(value, str) or not is_version(value):
        raise ValueError(f"a string of numbers joined by dots, at most {VERSION_BYTES_MAX} bytes")
    return value


def model(value: Any) -> Model:
    if value not in tuple(Model):
        raise ValueError(f"one of {', '.join(Model)}")
    return Model(value)


def reset(value: Any) -> Reset:
    if value not in tuple(Reset):
        raise ValueError(f"one of {', '.join(Reset)}")
    return Reset(value)


def zone_name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError('the name of a time zone, such as "Europe/Paris"')
    zone(value)
    return value


def span_or_zero_ms(value: Any) -> int:
    span_ms = parse_duration_ms(value) if isinstance(value, str) else None
    if span_ms is None:
        raise ValueError(f'a duration such as "1h", up to "{INTERVAL_DAYS_MAX}d"')
    return span_ms


def span_ms(value: Any) -> int:
    span_ms = span_or_zero_ms(value)
    if span_ms == 0:
        raise ValueError("a duration of at least 1s")
    return span_ms


def selectors(value: Any) -> dict[str, str]:
    if (
        not isinstance(value, dict)
        or len(value) > SELECTORS_MAX
        or not all(isinstance(each, str) for each in value.values())
        or any(len(text.encode()) > TEXT_BYTES_MAX for pair in value.items() for text in pair)
    ):
        raise ValueError(
            f"a table of at most {SELECTORS_MAX} strings of at most {TEXT_BYTES_MAX} bytes each"
        )
    return value


def table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def moment_ms(value: Any, tz: ZoneInfo, of_day: Callable[[date, ZoneInfo], int]) -> int:
    """Read a TOML date (a local day of the instance) or date-time (local without an offset)."""
    if not isinstance(value, date):
        raise ValueError("a date or a date-time without quotes, such as 2026-01-01")
    if isinstance(value, datetime):
        of_day(value.date(), tz)  # for its bounds alone
        at_ms = ((value if value.tzinfo else value.replace(tzinfo=tz)) - _EPOCH) // _MS
    else:
        at_ms = of_day(value, tz)
    return max(1, at_ms)  # 0 stands for "none" in the store, and no clock of ours shows 1970


def expiry_ms(value: Any, tz: ZoneInfo) -> int | None:
    if value == "permanent":
        return None
    if isinstance(value, str):
        raise ValueError('a date or a date-time without quotes, or "permanent"')
    return moment_ms(value, tz, expires_ms)
