"""Which usage rows go upstream together, and what they come to per feature.

Decided here: the choice of rows for one batch, summed per feature or each by itself, and how a
batch that is not taken is halved. Not decided here: how a batch looks on a wire (upstream/) and how
its rows move from open to sealed (store/lua/seal.lua). Pure and deterministic: the same rows give
the same choice, in whatever order they were read. Source: DESIGN 5, SEMANTICS 2 (bounds of a
request), 9 and 11.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from gateway.core.model import COUNT_MAX, FEATURES_MAX, Line
from gateway.core.versions import version_key

BATCH_ROWS_MAX: Final = 2_000  # what seal.lua moves in one call, a few milliseconds of the store

Scope = tuple[str, str]  # line and host ("" unless by host): what an upstream refuses as one


class Row(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Units of one metered line in one hour; `host` is "" unless the upstream is told hosts.

    `hour` counts hours since the epoch. `units` are never 0; below 0 more was undone than used.
    """

    line: str
    hour: int
    host: str
    units: int

    @property
    def scope(self) -> Scope:
        """The line and host it belongs to."""
        return self.line, self.host


class Count(msgspec.Struct, frozen=True, array_like=True):
    """What all chosen rows of one feature and version come to; never 0."""

    name: str
    version: str
    units: int


class Choice(msgspec.Struct, frozen=True):
    """Rows for one batch, with the part of their units that is taken, and their sums.

    All counts have one sign, unless rows go each by itself. Without counts the rows net to nothing,
    and to an upstream that takes sums nothing need be sent.
    """

    host: str = ""  # the one host of the batch, TYPE:value; "" unless by host
    rows: tuple[Row, ...] = ()
    counts: tuple[Count, ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """A sealed batch: from now on these rows go under this id in these bytes, or not at all.

    `first_sent_ms` is when the earliest attempt began whose outcome is not known, None when no
    attempt is in doubt. An empty `body` needs no sending. `before`: what the upstream had before
    the latest attempt, in words of its kind; "" where it is not asked.
    """

    id: str
    upstream: str
    instance: str
    rows: tuple[Row, ...]
    body: bytes
    first_sent_ms: int | None = None
    attempts: int = 0
    before: str = ""

    @property
    def units(self) -> int:
        """What its rows come to."""
        return sum(row.units for row in self.rows)


_Feature = tuple[str, tuple[int, ...]]  # name and version key: what an upstream sums by


def choose_rows(
    rows: Iterable[Row],
    lines: Mapping[str, Line],
    *,
    features_max: int = FEATURES_MAX,
    rows_max: int = BATCH_ROWS_MAX,
    count_max: int = COUNT_MAX,
    by_host: bool = False,
    carried: Collection[Scope] = (),
) -> Choice:
    """Choose the rows of the next batch, oldest hours first; no rows when there are none to send.

    A feature's rows are taken all together where they fit, so that an undo is netted against the
    use before it. What comes to more than zero goes first, what comes to less in a batch of its
    own, because a request may not mix signs. A sum beyond `count_max` is split inside a row. Rows
    of lines that `lines` does not know are left where they are. What was undone in a `carried`
    scope goes only together with more use of the same feature. Bounds: `rows_max` >= 2.
    """
    known = sorted((row for row in rows if row.line in lines), key=_age)
    if carried:
        known = _without_carried(known, lines, by_host, carried)
    host = known[0].host if by_host and known else ""
    groups = _by_feature((row for row in known if not by_host or row.host == host), lines)
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


def choose_line(
    rows: Iterable[Row],
    lines: Mapping[str, Line],
    *,
    rows_max: int = BATCH_ROWS_MAX,
    count_max: int = COUNT_MAX,
    carried: Collection[Scope] = (),
) -> Choice:
    """Choose rows of one line, the one with the oldest hour, whatever their hosts; as one sum.

    What was undone in a `carried` line goes only together with more use of it. A sum beyond
    `count_max` is split inside a row. Bounds: `rows_max` >= 2.
    """
    by_line: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if row.line in lines), key=_age):
        by_line.setdefault(row.line, []).append(row)
    held = {line for line, _ in carried}
    for line, group in by_line.items():
        total = sum(row.units for row in group)
        if total < 0 and line in held:
            continue
        taken = _take(group, -1 if total < 0 else 1, count_max, rows_max)
        return gather(taken, lines)
    return Choice()


def covers(scopes: Collection[Scope], row: Row, *, by_host: bool) -> bool:
    """Say whether a row is of one of these scopes; unless by host, each is a whole line."""
    if by_host:
        return row.scope in scopes
    return any(row.line == line for line, _ in scopes)


def units_by_scope(scopes: Collection[Scope], rows: Iterable[Row]) -> dict[Scope, list[int]]:
    """Sort the units of rows by the scope they are of; one without host is its whole line."""
    found: dict[Scope, list[int]] = {}
    for row in rows:
        scope = (row.line, "") if (row.line, "") in scopes else row.scope
        if scope in scopes:
            found.setdefault(scope, []).append(row.units)
    return found


def choose_events(
    rows: Iterable[Row], lines: Mapping[str, Line], *, rows_max: int = BATCH_ROWS_MAX
) -> Choice:
    """Choose the oldest rows, each to go by itself, whatever its host and sign."""
    known = sorted((row for row in rows if row.line in lines), key=_age)
    return gather(known[:rows_max], lines)


def gather(rows: Iterable[Row], lines: Mapping[str, Line], host: str = "") -> Choice:
    """Sum up exactly these rows, all of lines that are known; `host` is the one of the batch."""
    rows = tuple(rows)
    counts = []
    for (feature, _), group in _by_feature(rows, lines).items():
        if total := sum(row.units for row in group):
            counts.append(Count(feature, _spelling(group, lines), total))
    return Choice(host, rows, tuple(counts))


def host_of(rows: Iterable[Row]) -> str:
    """Give the host of rows that are all of one; "" when they are not."""
    hosts = {row.host for row in rows}
    return hosts.pop() if len(hosts) == 1 else ""


def halve(
    rows: Iterable[Row], lines: Mapping[str, Line], *, by_row: bool
) -> tuple[list[Row], list[Row]] | None:
    """Split a batch that is not taken in two; None when it cannot be: one row, or one feature.

    Rows of a feature stay together unless `by_row`: an upstream that takes sums would get another
    sum of the same feature, and refuse it for the same reason.
    """
    groups = [[row] for row in rows] if by_row else list(_by_feature(rows, lines).values())
    if len(groups) < 2:
        return None
    middle = len(groups) // 2
    first, second = groups[:middle], groups[middle:]
    return [row for group in first for row in group], [row for group in second for row in group]


def _by_feature(rows: Iterable[Row], lines: Mapping[str, Line]) -> dict[_Feature, list[Row]]:
    groups: dict[_Feature, list[Row]] = {}
    for row in rows:
        line = lines[row.line]
        groups.setdefault((line.feature, version_key(line.version)), []).append(row)
    return groups


def _without_carried(
    rows: list[Row], lines: Mapping[str, Line], by_host: bool, carried: Collection[Scope]
) -> list[Row]:
    """Leave out what comes to less than nothing where the upstream takes nothing back."""
    if not by_host:  # a mark of the time when it was by host stands for its line now
        carried = {(line, "") for line, _ in carried}
    hosts: dict[str, list[Row]] = {}
    for row in rows:
        hosts.setdefault(row.host if by_host else "", []).append(row)
    left_out: set[Scope] = set()
    for host, of_host in hosts.items():
        for group in _by_feature(of_host, lines).values():
            scopes = {(row.line, host) for row in group}
            if not scopes.isdisjoint(carried) and sum(row.units for row in group) < 0:
                left_out |= scopes
    return [row for row in rows if (row.line, row.host if by_host else "") not in left_out]


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
