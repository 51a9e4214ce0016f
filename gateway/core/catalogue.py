"""Which lines may serve a feature, and in which order.

Decided here: candidate order and filters (SEMANTICS 3), and how a request is resolved against a
catalogue into the tables that the ledger decides over. Dates are filtered where the transaction
time is known: in the ledger, and by `candidates` for answers. Not decided here: how a catalogue is
written (provisioning) or kept (store/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec

from gateway.core.calls import MODEL_NUMBER, Row, SharedRow, Table
from gateway.core.intervals import effective_interval_ms
from gateway.core.keyring import KeyRing
from gateway.core.model import AccessRequest, Catalogue, Code, Line, Reset, User, Want
from gateway.core.periods import reset_periods, zone
from gateway.core.versions import version_key

TABLES_MAX: Final = 4096  # resolved tables kept per catalogue; dropped all at once when full
ANY: Final = "ANY"
_NEVER: Final = 1 << 62

PeriodRule = tuple[Reset, str, int]  # reset, its time zone, epoch: what a period's label depends on


class Resolved:
    """A table ready to send: `wire` is its msgpack text, made once; `id` tells tables apart in a
    call.
    """

    __slots__ = ("rows", "table", "wire")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = max(1, len(table.rows))  # the work it is, in candidate lines
        self.wire = msgspec.Raw(msgspec.msgpack.encode(table))


ResolvedWant = tuple[Resolved, list[tuple[int, int]]]


def candidate_key(line: Line) -> tuple[int, int, str]:
    """Order lines as counts are taken: earliest expiry, permanent last; earliest start; line id."""
    return (
        _NEVER if line.expires_ms is None else line.expires_ms,
        -_NEVER if line.starts_ms is None else line.starts_ms,
        line.id,
    )


def selects(line: Line, selectors: Mapping[str, str]) -> bool:
    """Say whether a line's selectors admit the request's; `ANY` in the request matches anything."""
    return all(selectors.get(key) in (value, ANY) for key, value in line.selectors.items())


def candidates(
    lines: Iterable[Line], version: str, selectors: Mapping[str, str], at_ms: int
) -> tuple[list[Line], Code | None]:
    """Filter lines of one feature name, given in candidate order, down to those that may serve.

    Returns the candidates, or none and the code of the filter that left none (SEMANTICS 3).
    """
    asked = version_key(version)
    left = [line for line in lines if not line.retired]
    filters: tuple[tuple[Code, Callable[[Line], bool]], ...] = (
        (Code.FEATURE_NOT_FOUND, lambda line: True),
        (Code.VERSION_TOO_HIGH, lambda line: version_key(line.version) >= asked),
        (
            Code.LICENSE_NOT_YET_VALID,
            lambda line: line.starts_ms is None or line.starts_ms <= at_ms,
        ),
        (Code.LICENSE_LAPSED, lambda line: line.expires_ms is None or at_ms < line.expires_ms),
        (Code.DENIED_BY_POLICY, lambda line: selects(line, selectors)),
    )
    for code, keep in filters:
        left = [line for line in left if keep(line)]
        if not left:
            return [], code
    return left, None


class CatalogueIndex:
    """A catalogue with what is looked up in it per request; immutable but for its bounded memo."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.line: dict[str, Line] = {line.id: line for line in catalogue.lines}
        self.feature: dict[str, list[Line]] = _by_feature(catalogue.lines)
        self.rules: list[PeriodRule] = [(Reset.NONE, "UTC", 0)]
        for line in catalogue.lines:
            if period_rule(line) not in self.rules:
                self.rules.append(period_rule(line))
        self._rule_number = {rule: number for number, rule in enumerate(self.rules)}
        self._memo: dict[object, Resolved] = {}
        # What a protocol has made of this catalogue and keeps with it, bounded by that protocol.
        self.kept: dict[object, Any] = {}

    @cached_property
    def ring(self) -> KeyRing:
        """The instance's client keys, loaded when the first credential comes."""
        return KeyRing(self.catalogue.keys)

    @cached_property
    def users(self) -> dict[str, User]:
        """The instance's administrators by name."""
        return {user.name: user for user in self.catalogue.users}

    def lines_of(self, feature: str) -> Sequence[Line]:
        """Give the lines of one name in candidate order, retired ones of its model included."""
        return self.feature.get(feature, ())

    def resolve(self, request: AccessRequest) -> list[ResolvedWant]:
        """Turn wants into tables, one per feature name, each with its units by version, highest
        first.
        """
        selectors = tuple(sorted(request.selectors.items())) if request.selectors else ()
        by_name: dict[str, list[tuple[int, Want]]] = {}
        for place, want in enumerate(request.wants):
            by_name.setdefault(want.name, []).append((place, want))
        resolved: list[ResolvedWant] = []
        for name, wants in by_name.items():
            if len(wants) > 1:
                wants.sort(key=lambda each: version_key(each[1].version), reverse=True)
            versions = tuple(want.version for _, want in wants)
            table = self._table(name, versions, selectors, request)
            resolved.append((table, [(want.count, place) for place, want in wants]))
        return resolved

    def resolve_apart(self, request: AccessRequest) -> list[ResolvedWant]:
        """Turn each want into a table of its own, as previews look at them."""
        selectors = tuple(sorted(request.selectors.items()))
        return [
            (self._table(want.name, (want.version,), selectors, request), [(0, place)])
            for place, want in enumerate(request.wants)
        ]

    def resolve_line(
        self, line: Line, *, interval_ms: int | None = None, until_ms: int | None = None
    ) -> Resolved:
        """Turn one line of this catalogue into a table of its own, to be asked by id, not by name.

        `interval_ms`: how long a grant is held, instead of the line's effective interval.
        `until_ms`: a grant is not held past it, as if the line expired then; in the past it is
        refused as lapsed, by the store's own clock. The table is kept where neither is given.
        """
        plain = interval_ms is None and until_ms is None
        if plain and (found := self._memo.get(line.id)):
            return found
        if interval_ms is None:
            interval_ms = effective_interval_ms(line, self.catalogue, 0)
        ends = [] if line.expires_ms is None else [line.expires_ms]
        if until_ms is not None:
            ends.append(max(1, until_ms))  # 0 would be permanent
        row = self._row(
            line,
            fit=1,
            selected=True,
            interval_ms=interval_ms,
            expires_ms=min(ends, default=None),
        )
        resolved = Resolved(Table(model=MODEL_NUMBER[line.model], rows=[row]))
        return self._keep(line.id, resolved) if plain else resolved

    def _keep(self, memo_key: object, resolved: Resolved) -> Resolved:
        if len(self._memo) >= TABLES_MAX:
            self._memo.clear()
        self._memo[memo_key] = resolved
        return resolved

    def _table(
        self,
        name: str,
        versions: tuple[str, ...],
        selectors: tuple[tuple[str, str], ...],
        request: AccessRequest,
    ) -> Resolved:
        memo_key = (name, versions, selectors, request.interval_s)
        found = self._memo.get(memo_key)
        if found is None:
            found = self._keep(memo_key, Resolved(self._build(name, versions, request)))
        return found

    def _build(self, name: str, versions: tuple[str, ...], request: AccessRequest) -> Table:
        lines = self.lines_of(name)
        asked = [version_key(version) for version in versions]
        rows = []
        for line in lines:
            own = version_key(line.version)
            rows.append(
                self._row(
                    line,
                    fit=next((at for at, want in enumerate(asked, 1) if own >= want), 0),
                    selected=selects(line, request.selectors),
                    interval_ms=effective_interval_ms(line, self.catalogue, request.interval_s),
                    expires_ms=line.expires_ms,
                )
            )
        return Table(model=MODEL_NUMBER[lines[0].model] if lines else 0, rows=rows)

    def _row(
        self,
        line: Line,
        *,
        fit: int,
        selected: bool,
        interval_ms: int | None,
        expires_ms: int | None,
    ) -> Row:
        kind = SharedRow if is_shared(line) else Row
        return kind(
            id=line.id,
            capacity=line.capacity,
            starts_ms=line.starts_ms or 0,
            expires_ms=expires_ms or 0,
            fit=fit,
            selected=selected,
            retired=line.retired,
            interval_ms=interval_ms or 0,
            period=self._rule_number[period_rule(line)],
            undo_ms=line.undo_ms,
        )


def is_shared(line: Line) -> bool:
    """Say whether another server may consume of a line too: its licence is one of a cloud's."""
    return line.licensespring is not None and bool(line.licensespring.license_key)


def period_rule(line: Line) -> PeriodRule:
    """Give what this line's period labels depend on."""
    return (line.reset, line.reset_timezone, line.reset_epoch)


def period_of(line: Line, at_ms: int) -> tuple[str, int]:
    """Give the label of a line's period at a moment, as counters have it, and its end; 0: never."""
    first, *after = reset_periods(line.reset, zone(line.reset_timezone), at_ms, 0, 1)
    label = f"{first[1]}.{line.reset_epoch}" if line.reset_epoch else first[1]
    return label, after[0][0] if after else 0


def _by_feature(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Group by name, in candidate order; a retired line of another model than the live ones is
    left out.
    """
    grouped: dict[str, list[Line]] = {}
    for line in sorted(lines, key=candidate_key):
        grouped.setdefault(line.feature, []).append(line)
    for name, group in grouped.items():
        model = next((line for line in group if not line.retired), group[-1]).model
        grouped[name] = [line for line in group if line.model is model]
    return grouped
