"""What a licence server writes in the members of a feature, in all the spellings it may use.

Decided here: what each spelling means, and that one which may mean two things is not guessed at.
Not decided here: which members there are and what becomes of them (importing.py), what our own
files may say (provisioning_values.py). Source: protocols/cmapi.md 3.4 and 4.4.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from gateway.core import provisioning_values as values
from gateway.core.intervals import INTERVAL_S_MAX, parse_interval_s
from gateway.core.model import UNITS_MAX
from gateway.core.versions import is_version

FOREVER_YEAR: Final = 9999  # and year 0: how dates without an end are written

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_UNLIMITED: Final = frozenset({"uncounted", "unlimited", "uncapped"})
_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_DAY_MONTH_YEAR: Final = re.compile(r"([0-9]{1,2})-([a-z]{3})-([0-9]{1,4})")
_MONTHS: Final = {
    name: month
    for month, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Java counts milliseconds. From 1973 on, so that seconds are not taken for them.
_EPOCH_MS: Final = range(10**11, 253_370_764_800_000)
_UNITS: Final = (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60))


# Readers of one value each: give it converted, or raise ValueError with what it must be.


def flag(value: Any) -> bool:
    """Read true or false, as such, as a word in any case, or as 1 or 0."""
    found = _FLAGS.get(str(value).strip().lower())
    if found is None:
        raise ValueError("true or false")
    return found


def word(value: Any) -> str:
    """Read a name out of a list of the server's, such as METERED, in upper case."""
    if not isinstance(value, str):
        raise ValueError("a word")
    return value.strip().upper()


def whole(value: Any) -> int:
    """Read a whole number from 0 to UNITS_MAX, also one written as text or as 5.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    return values.whole(value, UNITS_MAX)


def count(value: Any) -> int | None:
    """Read a count; None is one without limit, which servers write as a word."""
    return None if _is_unlimited(value) else whole(value)


def overdraft(value: Any) -> int | str:
    """Read an overdraft: a number, a percentage of the count as "10%", or "unlimited"."""
    if _is_unlimited(value):
        return "unlimited"
    if isinstance(value, str) and values.PERCENT.fullmatch(value.strip()):
        return value.strip()
    return whole(value)


def version(value: Any) -> str:
    """Read a version, also one that came as a number, where that means one version only."""
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("a text, and as a number it may stand for another version (1.1 for 1.10)")
    text = str(value).strip() if isinstance(value, str | float) or type(value) is int else ""
    if not is_version(text):
        raise ValueError("numbers joined by dots, at most 32 bytes")
    return text


def text(value: Any) -> str:
    """Read a text that our files can carry, also one that came as a whole number."""
    return values.text(str(value) if type(value) is int else value)


def interval_s(value: Any) -> int:
    """Read a span in seconds, as a number or spelled like a borrow interval ("1h")."""
    found = parse_interval_s(value.strip()) if isinstance(value, str) else whole(value)
    if found is None or found > INTERVAL_S_MAX:
        raise ValueError(f"seconds, at most {INTERVAL_S_MAX}")
    return found


def spell_interval(span_s: int) -> str:
    """Spell a span in the largest unit that it is a multiple of: 3600 is "1h"."""
    for unit, unit_s in _UNITS:
        if span_s % unit_s == 0:
            return f"{span_s // unit_s}{unit}"
    return f"{span_s}s"


def moment(value: Any) -> date | None:
    """Read a date or a date-time, or None for one without an end.

    Taken: ISO 8601 (basic, extended, with or without offset), `31-dec-2026`, milliseconds since
    the epoch, "permanent", and years that stand for it. Not taken: `12/31/2026`, whose first two
    numbers may be either way round.
    """
    said = str(value).strip().lower() if isinstance(value, str) or type(value) is int else ""
    if said == "permanent":
        return None
    found = _epoch_ms(said) or _day_month_year(said) or _iso(said)
    if found is None:
        raise ValueError('a date such as 2026-12-31 or 31-dec-2026, a date-time, or "permanent"')
    return None if found.year >= FOREVER_YEAR else found


def _is_unlimited(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in _UNLIMITED


def _epoch_ms(said: str) -> datetime | None:
    if not _DIGITS.fullmatch(said) or int(said) not in _EPOCH_MS:
        return None
    return _EPOCH + timedelta(milliseconds=int(said))


def _day_month_year(said: str) -> date | None:
    found = _DAY_MONTH_YEAR.fullmatch(said)
    if found is None or found[2] not in _MONTHS:
        return None
    try:
        return date(int(found[3]) or FOREVER_YEAR, _MONTHS[found[2]], int(found[1]))
    except ValueError:
        return None


def _iso(said: str) -> date | None:
    try:
        return date.fromisoformat(said.upper())
    except ValueError:
        pass  # not a day; perhaps a moment of one
    try:
        return datetime.fromisoformat(said.upper())
    except ValueError:
        return None
