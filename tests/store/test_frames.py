"""What the calls for an instance have in common: when it is kept, and when it is made anew."""

from __future__ import annotations

import gc
import weakref

import msgspec
import pytest

from gateway.core.calendar import DAY_MS
from gateway.core.catalogue import CatalogueIndex
from gateway.store import frames
from gateway.store.calls import Frame
from gateway.store.frames import Frames, StoreClock
from tests.store.lane_nodes import CLOCK_MS, PARTITIONS, job

ASKED = job()


def _given(kept: Frames, at_s: float, from_ms: int | None = None) -> Frame:
    [(_, frame)] = kept.give([(ASKED, from_ms)], at_s)
    return frame


def _frames() -> Frames:
    return Frames(PARTITIONS, StoreClock(CLOCK_MS, 0.0))


def test_a_frame_is_kept_as_long_as_its_calendar_reaches() -> None:
    kept = _frames()
    first = _given(kept, 0.0)
    assert _given(kept, 1.0) is first
    assert _given(kept, -1e6) is first  # the script's time never goes back
    later = _given(kept, 3 * DAY_MS / 1000)
    assert later is not first
    assert later.calendar.reaches(CLOCK_MS + 3 * DAY_MS)
    assert later.instance_keys is first.instance_keys


def test_a_frame_is_that_of_the_catalogue_s_version() -> None:
    kept = _frames()
    first = _given(kept, 0.0)
    newer = CatalogueIndex(msgspec.structs.replace(ASKED.index.catalogue, version=7))
    asked = [(ASKED, None), (msgspec.structs.replace(ASKED, index=newer), None)]
    [(_, old), (_, new)] = kept.give(asked, 0.0)
    assert old is first
    assert new.calendar.context.version == 7
    assert _given(kept, 0.0) is first


def test_two_readings_of_a_version_are_one_context_of_a_call() -> None:
    kept = _frames()
    again = CatalogueIndex(ASKED.index.catalogue)
    asked = [(ASKED, None), (msgspec.structs.replace(ASKED, index=again), None)]
    [(_, one), (_, other)] = kept.give(asked, 0.0)
    assert one is other


def test_a_calendar_made_anew_reaches_back_to_what_was_asked_for() -> None:
    kept = _frames()
    long_ago_ms = CLOCK_MS - 40 * DAY_MS
    frame = _given(kept, 0.0, long_ago_ms)
    assert frame.calendar.reaches(long_ago_ms)
    made = kept.make(ASKED.index, long_ago_ms, CLOCK_MS)
    assert _given(kept, 0.0) is made


def test_a_frame_goes_with_its_catalogue() -> None:
    kept = _frames()
    index = CatalogueIndex(ASKED.index.catalogue)
    frame = kept.make(index, CLOCK_MS, CLOCK_MS)
    assert index.kept[kept] is frame
    there = weakref.ref(index)
    gc.disable()  # by counting alone: many come and go
    try:
        del index
        assert there() is None
    finally:
        gc.enable()


def test_instances_alike_share_their_days() -> None:
    kept = _frames()
    one, other = job(1).index, job(2).index
    paris = CatalogueIndex(msgspec.structs.replace(one.catalogue, timezone="Europe/Paris"))
    made = [kept.make(index, CLOCK_MS, CLOCK_MS) for index in (one, other, paris)]
    days = [frame.calendar.context.days for frame in made]
    assert days[0] is days[1]
    assert days[2] != days[0]
    assert made[1].calendar.context.instance == other.catalogue.id
    # What one needs from long ago, or on another day, is not everybody's.
    old = kept.make(one, CLOCK_MS - 40 * DAY_MS, CLOCK_MS)
    assert kept.make(other, CLOCK_MS, CLOCK_MS).calendar.context.days is days[0]
    assert len(old.calendar.context.days) > len(days[0])
    later = kept.make(other, CLOCK_MS, CLOCK_MS + DAY_MS)
    assert later.calendar.reaches(CLOCK_MS + DAY_MS)


def test_no_more_spans_are_kept_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SPANS_MAX", 2)
    kept = _frames()
    for name in ("UTC", "Europe/Paris", "Asia/Tokyo", "America/New_York"):
        catalogue = msgspec.structs.replace(ASKED.index.catalogue, timezone=name)
        kept.make(CatalogueIndex(catalogue), CLOCK_MS, CLOCK_MS)
        assert len(kept._spans) <= 2
