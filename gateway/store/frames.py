"""What the calls for an instance have in common, kept ready from one call to the next.

Decided here: for how long a frame is good (its catalogue's version, and as far as its calendar
reaches), and by which clock that is judged. A frame is kept with the catalogue that it is of, and
goes with it; what many instances have in common of their calendars is made once. Not decided here:
what a frame holds (calls.py), which catalogues are kept (catalogues.py), and which moment counts:
that is the script's, which asks for another calendar where this one ends. Source: DESIGN 3 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.core.calendar import DAY_MS, Calendar, Span, make_span
from gateway.core.catalogue import CatalogueIndex, PeriodRule
from gateway.store.calls import Frame, Job
from gateway.store.keys import InstanceKeys

SPANS_MAX: Final = 1_000  # time zones with reset rules whose days and periods are kept


@dataclass(slots=True)
class StoreClock:
    """The store's time as last heard, carried on by this process's monotonic clock."""

    heard_ms: int = 0
    heard_at_s: float = 0.0

    def hear(self, clock_ms: int, at_s: float) -> None:
        self.heard_ms, self.heard_at_s = clock_ms, at_s

    def now_ms(self, at_s: float) -> int:
        return self.heard_ms + int((at_s - self.heard_at_s) * 1000)


@dataclass(eq=False, slots=True)
class Frames:
    """The frames of the catalogues in use; `at_s` is monotonic everywhere."""

    partitions: int
    clock: StoreClock
    _spans: dict[tuple[str, tuple[PeriodRule, ...]], Span] = field(default_factory=dict)

    def give(self, asked: Iterable[tuple[Job, int | None]], at_s: float) -> list[tuple[Job, Frame]]:
        """Give each job its frame: in one call, one for all that were resolved against a version.

        Two contexts of one instance would each count from what the store held before the call.
        Beside a job is the moment in ms that the script asked its calendar to reach back to.
        """
        frames: dict[tuple[str, int], Frame] = {}
        given: list[tuple[Job, Frame]] = []
        for job, from_ms in asked:
            catalogue = job.index.catalogue
            version = (catalogue.id, catalogue.version)
            if version not in frames:
                frames[version] = self._find(job.index, at_s, from_ms)
            given.append((job, frames[version]))
        return given

    def make(self, index: CatalogueIndex, from_ms: int, now_ms: int) -> Frame:
        """Make an instance's frame anew, with a calendar from `from_ms` or earlier."""
        known = self._known(index)
        keys = known.instance_keys if known else InstanceKeys(index.catalogue.id, self.partitions)
        calendar = Calendar.over(self._span(index, from_ms, now_ms), index)
        frame = index.kept[self] = Frame.make(calendar, keys)
        return frame

    def _known(self, index: CatalogueIndex) -> Frame | None:
        frame: Frame | None = index.kept.get(self)
        return frame

    def _span(self, index: CatalogueIndex, from_ms: int, now_ms: int) -> Span:
        """Give days and periods from `from_ms` or earlier; from long ago, for this one alone."""
        yesterday_ms = now_ms - DAY_MS
        if from_ms < yesterday_ms:
            return make_span(index, from_ms, now_ms)
        shared = (index.catalogue.timezone, tuple(index.rules))
        span = self._spans.get(shared)
        if span is None or not span.reaches(now_ms) or span.from_ms > yesterday_ms:
            if len(self._spans) >= SPANS_MAX:
                self._spans.clear()
            span = self._spans[shared] = make_span(index, yesterday_ms, now_ms)
        return span

    def _find(self, index: CatalogueIndex, at_s: float, from_ms: int | None) -> Frame:
        frame = self._known(index)
        now_ms = self.clock.now_ms(at_s)
        # The script's time never goes back, so a store's clock put back asks for no other day.
        if frame is not None and frame.calendar.reaches(max(now_ms, frame.calendar.from_ms)):
            return frame
        # A midnight between the script's answer and now must not cut off what it has asked for.
        return self.make(index, now_ms - DAY_MS if from_ms is None else from_ms, now_ms)
