"""The outbox of one upstream as plain values: the executable specification of its scripts.

Decided here: where units are after each step, who may take it, and what of it is a repeat that does
nothing. Only what was forwarded, given up and there before is counted; every other sum follows from
the rows themselves. Not decided here: how any of it is spelt in the store (stored_lanes.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.decisions import Aside, Fate
from gateway.core.ports import Mark, Standing, Step
from gateway.core.usage import Batch, Row, Scope

HOLDER = "model:1"
STRANGER = "somebody:2"

RowKey = tuple[str, int, str]  # line, hour, host


@dataclass
class Sealed:
    """A batch under way, or a half that will be."""

    id: str
    rows: tuple[Row, ...]
    body: bytes
    attempts: int = 0
    doubt_ms: int | None = None  # when the earliest attempt in doubt began
    doubted: int | None = None  # and its number
    began_ms: int | None = None  # when the latest attempt began


@dataclass
class Lane:
    """One upstream of an instance. `open` is the state's own, which requests write to."""

    upstream: str
    instance: str
    open: dict[RowKey, int] = field(default_factory=dict)
    batches: list[Sealed] = field(default_factory=list)  # the last is under way
    blocked: dict[RowKey, int] = field(default_factory=dict)
    marks: dict[Scope, Mark] = field(default_factory=dict)
    asides: dict[str, Aside] = field(default_factory=dict)
    base: Counter[str] = field(default_factory=Counter)  # by line, as the other two
    forwarded: Counter[str] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)

    @property
    def under_way(self) -> Sealed | None:
        return self.batches[-1] if self.batches else None

    @property
    def waits(self) -> bool:
        """Whether the forwarder has something to do here, now or later."""
        return bool(self.open or self.batches or self.blocked)

    def seal(self, holder: str, batch: Batch, *, current: bool) -> tuple[Step, Batch | None]:
        if holder != HOLDER or not current:
            return Step.LEASE_LOST, None
        step = Step.GONE
        if not self.batches:
            step = Step.DONE
            self.batches.append(Sealed(batch.id, batch.rows, batch.body))
            move(self.open, batch.rows, -1)
        return step, self.told()

    def begin(self, holder: str, batch: Batch, horizon_ms: int, now_ms: int, last_ms: int) -> Step:
        sealed, step = self._under(holder, batch.id)
        if not sealed or sealed.attempts == batch.attempts + 1:  # a repeat, in the second case
            return step
        if sealed.attempts != batch.attempts:
            return Step.GONE
        if sealed.doubt_ms is not None:
            went_back = now_ms < max(sealed.began_ms or 0, last_ms)
            if went_back or now_ms - sealed.doubt_ms >= horizon_ms:
                return Step.IN_DOUBT
        else:
            sealed.doubt_ms, sealed.doubted = now_ms, batch.attempts + 1
        sealed.began_ms = now_ms
        sealed.attempts += 1
        return Step.DONE

    def clear(self, holder: str, batch: Batch) -> Step:
        sealed, step = self._under(holder, batch.id)
        if not sealed:
            return step
        if sealed.attempts != batch.attempts + 1:
            return Step.GONE
        if sealed.doubted == sealed.attempts:
            sealed.doubt_ms = sealed.doubted = None
        return Step.DONE

    def settle(self, holder: str, batch_id: str) -> Step:
        sealed, step = self._under(holder, batch_id)
        if sealed:
            self.batches.pop()
            self.forwarded.update(units_of(sealed.rows))
        return step

    def refuse(
        self, holder: str, batch_id: str, blocked: Collection[int], marks: Iterable[Mark]
    ) -> Step:
        sealed, step = self._under(holder, batch_id)
        if sealed:
            self.batches.pop()
            for place, row in enumerate(sealed.rows):
                move(self.blocked if place in blocked else self.open, [row])
            self.marks |= {mark.scope: mark for mark in marks}
        return step

    def split(self, holder: str, batch_id: str, first: Batch, second: Batch) -> Step:
        sealed, step = self._under(holder, batch_id)
        if sealed:
            self.batches.pop()
            self.batches += [Sealed(half.id, half.rows, half.body) for half in (second, first)]
        return step

    def set_aside(
        self, holder: str, batch_id: str, standing: Standing, why: str, now_ms: int, most: int
    ) -> Step:
        sealed, step = self._under(holder, batch_id)
        if sealed and len(self.asides) >= most:
            return Step.FULL
        if sealed:
            self.batches.pop()
            self.asides[sealed.id] = Aside(
                sealed.id,
                self.instance,
                self.upstream,
                standing,
                why,
                now_ms,
                sealed.doubt_ms or 0,
                sealed.attempts,
                sealed.rows,
                sealed.body,
            )
        return step

    def unblock(self, holder: str, marks: Collection[Mark]) -> Step:
        if holder != HOLDER:
            return Step.LEASE_LOST
        scopes = [mark.scope for mark in marks]
        keys = [key for key in self.blocked if {(key[0], ""), (key[0], key[2])} & set(scopes)]
        return Step.DONE if self.release(Fate.OPEN, keys, marks) else Step.GONE

    def release(
        self, fate: Fate, keys: Iterable[RowKey], marks: Iterable[Mark]
    ) -> Mapping[str, int] | None:
        """End the waiting of rows; gives the units by line, None when none of them waited."""
        rows = [Row(*key, self.blocked.pop(key)) for key in keys if key in self.blocked]
        if fate is Fate.OPEN:
            move(self.open, rows)
        else:
            self.given_up.update(units_of(rows))
        for mark in marks:
            if self.marks.get(mark.scope) == mark:  # a newer refusal keeps its own
                del self.marks[mark.scope]
        return units_of(rows) if rows else None

    def decide(self, fate: Fate, batch_id: str) -> Mapping[str, int] | None:
        """Carry out a decision; gives the units by line, None when there is no such batch."""
        aside = self.asides.pop(batch_id, None)
        if aside is None:
            return None
        match fate:
            case Fate.OPEN:
                move(self.open, aside.rows)
            case Fate.FORWARDED:
                self.forwarded.update(aside.units)
            case Fate.DEAD:
                self.given_up.update(aside.units)
        return units_of(aside.rows)

    def attach(self, acked: Mapping[str, int], lines: Iterable[str]) -> None:
        """Begin from here: what was acked so far is there before, less what was accounted for."""
        for line in lines:
            self.base[line] = acked.get(line, 0) - self.forwarded[line] - self.given_up[line]

    @property
    def may_go(self) -> bool:
        """Whether the upstream may be detached without anybody giving anything up."""
        return not (self.waits or self.asides)

    def detach(self) -> Mapping[str, int]:
        """Give up all that waits; gives what it came to by line."""
        sums, units = self.sums, Counter[str]()
        for place in ("open", "sealed", "parked"):
            units.update(sums[place])
        self.given_up = sums["dead"]
        self.given_up.update(units)
        for kept in (self.open, self.batches, self.blocked, self.marks, self.asides):
            kept.clear()
        return units

    def told(self) -> Batch | None:
        """Give the batch under way in the words of the store."""
        sealed = self.under_way
        if not sealed:
            return None
        return Batch(
            sealed.id,
            self.upstream,
            self.instance,
            sealed.rows,
            sealed.body,
            sealed.doubt_ms,
            sealed.attempts,
        )

    @property
    def sums(self) -> dict[str, Counter[str]]:
        """What the ledger has to say of this upstream: by place, then by line."""
        sums = {place: Counter[str]() for place in ("open", "sealed", "parked", "dead")}
        for place, rows in (("open", self.open), ("parked", self.blocked)):
            for (line, _, _), units in rows.items():
                sums[place][line] += units
        for sealed in self.batches:
            sums["sealed"].update(units_of(sealed.rows))
        sums["dead"].update(self.given_up)
        for aside in self.asides.values():
            sums[aside.standing].update(units_of(aside.rows))
        return sums | {"base": self.base, "forwarded": self.forwarded}

    def _under(self, holder: str, batch_id: str) -> tuple[Sealed | None, Step]:
        if holder != HOLDER:
            return None, Step.LEASE_LOST
        sealed = self.under_way
        return (sealed, Step.DONE) if sealed and sealed.id == batch_id else (None, Step.GONE)


def move(rows: dict[RowKey, int], moved: Sequence[Row], sign: int = 1) -> None:
    """Add rows to others, with a sign; what comes to nothing is not there."""
    for row in moved:
        key = (row.line, row.hour, row.host)
        rows[key] = rows.get(key, 0) + sign * row.units
        if not rows[key]:
            del rows[key]


def units_of(rows: Iterable[Row]) -> Counter[str]:
    """Add up units by line."""
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row.line] += row.units
    return sums
