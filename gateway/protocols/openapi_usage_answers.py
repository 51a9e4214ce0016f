"""The examples of usage reports: the plant after the requests of openapi_examples.py.

Decided here: the values; the same test that sends those requests asks with the query of each of
these, and holds the answers to them. Days are named, since what a period means depends on today.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.protocols.openapi_parts import Example
from gateway.protocols.openapi_plant import INSTANCE_ID, MOMENT

_Counts = dict[str, int]
_DAY: Final = MOMENT[:10]  # in the plant's time zone, which is UTC
_MARCH: Final = ("2026-03-01", "2026-03-31")


def _asked(days: tuple[str, str], *more: str) -> str:
    return "&".join((f"from={days[0]}", f"to={days[1]}", *more))


def _told(
    days: tuple[str, str], by: str, rows: list[dict[str, Any]], total: _Counts
) -> dict[str, Any]:
    return {
        "instance": INSTANCE_ID,
        "timezone": "UTC",
        "from": days[0],
        "to": days[1],
        "by": by,
        "rows": rows,
        "total": total,
    }


def _counts(units: int = 0, peak: int = 0, denied: int = 0) -> _Counts:
    return {"units": units, "undone": 0, "peak": peak, "denied": denied}


def _csv(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


_SESSIONS: Final = {"feature": "sessions", **_counts(42)}
_NO_SESSIONS: Final = {"feature": "sessions", **_counts()}
_DENIED: Final = {"feature": "users", "code": "FEATURE_COUNT_INSUFFICIENT", "denied": 1}

USAGE: Final = (
    Example(
        "byFeature",
        "Every feature, in March",
        _told(
            _MARCH,
            "feature",
            [
                {"feature": "designer", **_counts(peak=2)},
                _SESSIONS,
                {"feature": "users", **_counts(7, denied=1)},
            ],
            _counts(49, peak=2, denied=1),
        ),
        _asked(_MARCH),
    ),
    Example(
        "compared",
        "One feature, beside the 31 days before",
        {
            **_told(_MARCH, "feature", [_SESSIONS], _counts(42)),
            "previous": _told(("2026-01-29", "2026-02-28"), "feature", [_NO_SESSIONS], _counts()),
        },
        _asked(_MARCH, "feature=sessions", "compare=true"),
    ),
    Example(
        "byCode",
        "Denials only",
        _told(_MARCH, "feature,code", [_DENIED], {"denied": 1}),
        _asked(_MARCH, "by=feature,code"),
    ),
)
USAGE_CSV: Final = (
    Example(
        "byMonthAndLine",
        "Every line, in March",
        _csv(
            "label,feature,line,units,undone,peak,denied",
            "2026-03,designer,L3,0,0,2,0",
            "2026-03,sessions,L1,42,0,0,0",
            "2026-03,users,L2,7,0,0,1",
        ),
        _asked(_MARCH, "by=month,line", "format=csv"),
    ),
)
DENIALS: Final = (
    Example(
        "denials",
        "One, in March",
        _told(_MARCH, "day,feature,code", [{"label": _DAY, **_DENIED}], {"denied": 1}),
        _asked(_MARCH),
    ),
)
DENIALS_CSV: Final = (
    Example(
        "denialsByWeek",
        "By ISO week and code",
        _csv("label,code,denied", "2026-W09,FEATURE_COUNT_INSUFFICIENT,1"),
        _asked(_MARCH, "by=week,code", "format=csv"),
    ),
)
PEAKS: Final = (
    Example(
        "peaks",
        "Seats of one line, on one day",
        _told(
            (_DAY, _DAY),
            "day,line",
            [{"label": _DAY, "feature": "designer", "line": "L3", "peak": 2}],
            {"peak": 2},
        ),
        _asked((_DAY, _DAY)),
    ),
)
PEAKS_CSV: Final = (
    Example(
        "peaksByMonth",
        "By month and feature",
        _csv("label,feature,peak", "2026-03,designer,2"),
        _asked(_MARCH, "by=month,feature", "format=csv"),
    ),
)

_NEAR: Final[dict[str, Any]] = {
    "feature": "designer",
    "line": "L3",
    "model": "concurrent",
    "used": 2,
    "capacity": 2,
    "percent": 100,
    "level": 100,
    "peak": 2,
    "per_day": None,
    "until": None,
    "forecast": None,
    "full_on": None,
    "why": "what is held comes back: no trend is made of it",
}
CAPACITY: Final = (
    Example("full", "Both seats are taken", {"instance": INSTANCE_ID, "lines": [_NEAR]}),
)
CAPACITY_CSV: Final = (
    Example(
        "fullAsCsv",
        "The same",
        _csv(
            ",".join(_NEAR),
            ",".join("" if value is None else str(value) for value in _NEAR.values()),
        ),
        query="format=csv",
    ),
)
