"""What the model test draws from: small pools, so that requests meet on the same few lines.

Decided here: the two instances' first catalogues, how a catalogue may change, and which requests
are drawn; none that SEMANTICS 2 refuses, for the ledger never sees those. Not decided here: what
becomes of a request, which is the machine's business.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from gateway.core.model import (
    COUNT_MAX,
    UNITS_MAX,
    AccessRequest,
    Attachment,
    Catalogue,
    FloatingLicense,
    Host,
    Line,
    Model,
    Reset,
    Want,
)

SECOND_MS: Final = 1_000
HOUR_MS: Final = 3_600 * SECOND_MS
DAY_MS: Final = 24 * HOUR_MS
UNDO_STEP_MS: Final = 3_516  # what an undo interval of an hour is remembered to

# Paris goes to summer time two nights later, the month ends four days later.
BEGIN_MS: Final = int(datetime(2026, 3, 27, 22, 30, 0, 250_000, tzinfo=UTC).timestamp() * 1000)

TO_ONE = Attachment("one")
BY_HOST = Attachment("two", by_host=True)


def _line(line_id: str, feature: str, version: str, model: Model, count: int, **more: Any) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version=version,
        model=model,
        count=count,
        capacity=more.pop("capacity", count),
        **more,
    )


# Another server may consume of these too.
_SOLD: Final = FloatingLicense(license_id=1, product="PROD", license_key="key")

LINES: Final = (
    _line("C1", "calls", "1.0", Model.METERED, 10, undo_ms=HOUR_MS,
          allow_negative_consumptions=True),
    _line("C2", "calls", "2.0", Model.METERED, 4, capacity=6, overdraft="50%", undo_ms=DAY_MS),
    _line("D1", "daily", "1.0", Model.METERED, 8, undo_ms=2 * DAY_MS, reset=Reset.DAILY,
          reset_timezone="Europe/Paris"),
    _line("D2", "daily", "1.0", Model.METERED, 6, reset=Reset.MONTHLY,
          reset_timezone="America/New_York", expires_ms=BEGIN_MS + 40 * DAY_MS),
    _line("F1", "free", "1.0", Model.METERED, UNITS_MAX, undo_ms=HOUR_MS),
    _line("F2", "fresh", "1.0", Model.METERED, UNITS_MAX, undo_ms=HOUR_MS, reset=Reset.WEEKLY),
    _line("P1", "pool", "1.0", Model.METERED_REUSABLE, 7, borrow_ms=HOUR_MS),
    _line("P2", "pool", "2.0", Model.METERED_REUSABLE, 5, expires_ms=BEGIN_MS + DAY_MS + 1),
    _line("S1", "seats", "1.0", Model.CONCURRENT, 3, expires_ms=BEGIN_MS + 5 * DAY_MS),
    _line("S2", "seats", "2.0", Model.CONCURRENT, 4, borrow_ms=2 * HOUR_MS),
    _line("S3", "seats", "2.0", Model.CONCURRENT, 2, selectors={"site": "north"}),
    _line("S4", "seats", "3.0", Model.CONCURRENT, 5, starts_ms=BEGIN_MS + 2 * HOUR_MS),
    _line("G1", "guest", "1.0", Model.CONCURRENT, 4, selectors={"site": "north"}),
    _line("K1", "cloud", "1.0", Model.METERED, 9, undo_ms=HOUR_MS, reset=Reset.DAILY,
          allow_negative_consumptions=True, licensespring=_SOLD),
    _line("K2", "cloud", "2.0", Model.METERED, UNITS_MAX, allow_negative_consumptions=True,
          licensespring=_SOLD),
    _line("K3", "desk", "1.0", Model.CONCURRENT, 4, borrow_ms=HOUR_MS, licensespring=_SOLD),
    _line("K4", "room", "1.0", Model.METERED_REUSABLE, 3, licensespring=_SOLD),
    _line("N1", "next", "1.0", Model.METERED, 5, starts_ms=BEGIN_MS + DAY_MS, undo_ms=HOUR_MS),
)  # fmt: skip
METERED_LINES: Final = tuple(line.id for line in LINES if line.model.metered)
AT_THE_END_OF_NUMBERS: Final = ("F1", "F2")  # may begin with nearly all their life used up
LEFT_AT_THE_END: Final = 10


def first_catalogues(run: int) -> dict[str, Catalogue]:
    """Give the instances of one run of the machine, by their short names."""
    return {
        "paris": Catalogue(
            id=f"PARIS-{run}", timezone="Europe/Paris", lines=LINES, upstreams=(TO_ONE, BY_HOST)
        ),
        "utc": Catalogue(id=f"UTC-{run}", lines=LINES, borrow_max_ms=3 * HOUR_MS),
    }


HOSTS: Final = (Host("string", "h1"), Host("user", "ann|é"), Host("STRING", "h2"))
FEATURES: Final = ("calls", "daily", "free", "fresh", "pool", "seats", "guest", "next", "ghost",
                   "cloud", "desk", "room")  # fmt: skip
VERSIONS: Final = ("0", "1.0", "1.5", "2.0", "3.0", "9")
SELECTORS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"site": "north"},
    {"site": "ANY"},
    {"site": "south", "floor": "2"},
)
INTERVALS_S: Final = (0, 1, 60, 3_600, 7_200, 40 * 86_400)

_counts = st.sampled_from((0, 1, 1, 2, 3, 4, 5, 7, 11, COUNT_MAX))


@st.composite
def requests(draw: st.DrawFn) -> AccessRequest:
    """Draw a normalised request."""
    negative = draw(st.integers(0, 3)) == 0
    names = draw(st.lists(st.sampled_from(FEATURES), max_size=3, unique=True))
    wants: list[Want] = []
    for name in names:
        several = 1 if negative else draw(st.integers(1, 2))
        versions = st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=several, unique=True)
        for version in draw(versions):
            count = draw(_counts)
            wants.append(Want(name, version, -count if negative else count))
    return AccessRequest(
        host=draw(st.sampled_from(HOSTS)),
        wants=tuple(wants),
        incremental=negative or draw(st.booleans()),
        partial=draw(st.booleans()),
        interval_s=draw(st.sampled_from(INTERVALS_S)),
        selectors=draw(st.sampled_from(SELECTORS)),
    )


Change = Callable[[Catalogue, int], Catalogue]  # a catalogue and the present moment


def _line_change(line_id: str, **members: Any) -> Change:
    """Change members of one line; a member may be a function of the new version and the moment."""

    def change(catalogue: Catalogue, now_ms: int) -> Catalogue:
        said = {
            name: value(catalogue.version + 1, now_ms) if callable(value) else value
            for name, value in members.items()
        }
        lines = tuple(
            msgspec.structs.replace(line, **said) if line.id == line_id else line
            for line in catalogue.lines
        )
        return msgspec.structs.replace(catalogue, lines=lines)

    return change


def _upstreams(*attached: Attachment) -> Change:
    return lambda catalogue, _: msgspec.structs.replace(catalogue, upstreams=attached)


_any_line = st.sampled_from([line.id for line in LINES])


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw a change of a catalogue, of the kinds that provisioning allows."""
    kind = draw(
        st.sampled_from(("capacity", "expires", "retired", "reset", "undo", "borrow", "upstreams"))
    )
    match kind:
        case "capacity":
            count = draw(st.sampled_from((0, 1, 3, 20)))
            return _line_change(draw(_any_line), count=count, capacity=count)
        case "expires":
            away_ms = draw(st.sampled_from((-DAY_MS, 0, SECOND_MS, HOUR_MS, 3 * DAY_MS, None)))
            if away_ms is None:
                return _line_change(draw(_any_line), expires_ms=None)
            return _line_change(draw(_any_line), expires_ms=lambda _, now_ms: now_ms + away_ms)
        case "retired":
            return _line_change(draw(_any_line), retired=draw(st.booleans()))
        case "reset":
            line_id = draw(st.sampled_from(("C1", "D1", "D2", "F1", "F2", "K1")))
            reset = draw(st.sampled_from(list(Reset)))
            return _line_change(line_id, reset=reset, reset_epoch=lambda version, _: version)
        case "undo":
            line_id = draw(st.sampled_from(("C1", "C2", "D1", "D2", "F2", "K1")))
            return _line_change(
                line_id, undo_ms=draw(st.sampled_from((0, 2_000, HOUR_MS, 40 * DAY_MS)))
            )
        case "borrow":
            line_id = draw(st.sampled_from(("P1", "P2", "S1", "S2", "K3")))
            return _line_change(line_id, borrow_ms=draw(st.sampled_from((None, 1_500, HOUR_MS))))
        case _:
            return _upstreams(
                *draw(st.sampled_from(((), (TO_ONE,), (BY_HOST,), (TO_ONE, BY_HOST))))
            )


# Where the clock is put: so many ms on, or a moment that the state or the calendar names.
MOMENTS: Final[tuple[int | str, ...]] = (
    "a lapse", "before a lapse", "after a lapse", "an undo's end", "after an undo's end",
    "midnight", "before midnight", "a month", "before a month",
    0, 1, 999, SECOND_MS, UNDO_STEP_MS - 1, UNDO_STEP_MS, 60 * SECOND_MS, HOUR_MS, 2 * HOUR_MS,
    DAY_MS, 32 * DAY_MS, 400 * DAY_MS, -1, -HOUR_MS, -3 * DAY_MS,
)  # fmt: skip
