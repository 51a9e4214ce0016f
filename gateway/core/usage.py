"""Which usage rows go upstream together, and what they come to per feature.

Decided here: the choice of rows for one batch. Not decided here: how a batch looks on a wire
(upstream/) and how its rows move from open to sealed (store/lua/seal.lua). Pure and deterministic:
the same rows give the same choice, in whatever order they were read. Source: DESIGN 5, SEMANTICS 2
(bounds of a request), 9 and 11.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from gateway.core.model import COUNT_MAX, FEATURES_MAX, Line
from gateway.core.versions import version_key

BATCH_ROWS_MAX: Final = 2_000  # what seal.lua moves in one call, a few milliseconds of the store


class Row(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Units of one metered line in one hour; `host` is "" unless the upstream is told hosts.

    `hour` counts hours since the epoch. `units` are never 0; below 0 more was undone than used.
    """

    line: str
    hour: int
    host: str
    units: int


class Count(msgspec.Struct, frozen=True, array_like=True):
    """What all chosen rows of one feature and version come to; never 0."""

    name: str
    version: str
    units: int


class Choice(msgspec.Struct, frozen=True):
    """Rows for one batch, with the part of their units that is taken, and their sums to send.

    All counts have one sign. Without counts the rows net to nothing, and nothing need be sent.
    """

    host: str = ""  # the one host of the batch, TYPE:value; "" unless by host
    rows: tuple[Row, ...] = ()
    counts: tuple[Count, ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """A sealed batch: from now on these rows go under this id in these bytes, or not at all.

    `first_sent_ms` is when the earliest attempt began whose outcome is not known, None when no
    attempt is in doubt. An empty `body` needs no sending.
    """

    id: str
    upstream: str
    instance: str
    rows: tuple[Row, ...]
    body: bytes
    first_sent_ms: int | None = None
    attempts: int = 0


_Feature = tuple[str, tuple[int, ...]]  # name and version key: what an upstream sums by


def choose_rows(
    rows: Iterable[Row],
    lines: Mapping[str, Line],
    *,
    features_max: int = FEATURES_MAX,
    rows_max: int = BATCH_ROWS_MAX,
    count_max: int = COUNT_MAX,
    by_host: bool = False,
) -> Choice:
    """Choose the rows of the next batch, oldest hours first; no rows when there are none to send.

    A feature's rows are taken all together where they fit, so that an undo is netted against the
    use before it. What comes to more than zero goes first, what comes to less in a batch of its
    own, because a request may not mix signs. A sum beyond `count_max` is split inside a row. Rows
    of lines that `lines` does not know are left where they are. Bounds: `rows_max` >= 2.
    """
    known = sorted((row for row in rows if row.line in lines), key=_age)
    host = known[0].host if by_host and known else ""
    groups: dict[_Feature, list[Row]] = {}
    for row in known:
        if not by_host or row.host == host:
            line = lines[row.line]
            groups.setdefault((line.feature, version_key(line.version)), []).append(row)
    sums = {feature: sum(row.units for row in group) for feature, group in groups.items()}
    # Zero counts as positive: its rows cancel out, in whichever company they are.
    sign = 1 if any(total >= 0 for total in sums.values()) else -1
    chosen: list[Row] = []
    counts: dict[_Feature, Count] = {}
    for feature, group in groups.items():
        space = rows_max - len(chosen)
        if sums[feature] * sign < 0 or (chosen and len(group) > space):
            continue
        # Counts of several versions of one name are refused when they are negative (SEMANTICS 4).
        if sign < 0 and feature[0] in {name for name, _ in counts}:
            continue
        taken = _take(group, sign, count_max, space)
        total = sum(row.units for row in taken)
        if total and len(counts) == features_max:
            continue
        chosen += taken
        if total:
            counts[feature] = Count(feature[0], _spelling(taken, lines), total)
    return Choice(host, tuple(chosen), tuple(counts.values()))


def _take(group: list[Row], sign: int, count_max: int, rows_max: int) -> list[Row]:
    """Take rows that come to the sign of the whole group, or to zero, and to at most `count_max`.

    Rows against the sign are taken first: they make room under `count_max` and are netted here
    rather than undone upstream later.
    """
    along = [row for row in group if row.units * sign > 0]
    against = [row for row in group if row.units * sign < 0]
    against = against[: max(rows_max // 2, rows_max - len(along))]
    along = along[: rows_max - len(against)]
    netted = _weight(against)
    if _weight(along) < netted:  # cut to rows_max, what is left would come to the other sign
        against, netted = [], 0
    left = netted + min(_weight(along) - netted, count_max)
    taken = list(against)
    for row in along:
        units = min(abs(row.units), left)
        if not units:
            break
        taken.append(msgspec.structs.replace(row, units=units * sign))
        left -= units
    return taken


def _weight(rows: Collection[Row]) -> int:
    return sum(abs(row.units) for row in rows)


def _age(row: Row) -> tuple[int, str, str]:
    return row.hour, row.host, row.line


def _spelling(rows: Collection[Row], lines: Mapping[str, Line]) -> str:
    """Give the version of the rows' lines; the least spelling where they spell it differently."""
    return min(lines[row.line].version for row in rows)
