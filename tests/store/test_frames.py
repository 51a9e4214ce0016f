"""What the calls for an instance have in common: when it is kept, and when it is made anew."""

from __future__ import annotations

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
    assert (old, new.index) == (first, newer)
    again = _given(kept, 0.0)
    assert again.index is ASKED.index


def test_a_calendar_made_anew_reaches_back_to_what_was_asked_for() -> None:
    kept = _frames()
    long_ago_ms = CLOCK_MS - 40 * DAY_MS
    frame = _given(kept, 0.0, long_ago_ms)
    assert frame.calendar.reaches(long_ago_ms)
    made = kept.make(ASKED.index, long_ago_ms, CLOCK_MS)
    assert _given(kept, 0.0) is made


def test_no_more_frames_are_kept_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAMES_MAX", 3)
    kept = _frames()
    for number in range(10):
        kept.give([(job(number), None)], 0.0)
        assert len(kept._frames) <= 3
