"""Importing: what is told of used counts, by model, count and expiry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.core.importing import import_features
from tests.core.features_answers import METERED, SEATS, catalogue

ENDS = datetime(2026, 1, 1, tzinfo=UTC)  # of what expires on 2025-12-31
ENDS_MS = int(ENDS.timestamp() * 1000)
ENDING = METERED | {"expiry": "2025-12-31", "used": 42}
REUSABLE = METERED | {"meteredReusable": True}


def notes_of(element: dict[str, Any], now_ms: int | None = ENDS_MS) -> tuple[str, ...]:
    """Give the notes on an element; it is carried, as a line that can be applied."""
    data = json.dumps([element]).encode()
    made = import_features(data, instance="I", timezone="UTC", default=False, now_ms=now_ms)
    assert len(catalogue(made).lines) == 1
    return made.notes


@pytest.mark.parametrize("element", [METERED, REUSABLE, SEATS])
def test_expired_line_is_named_and_nothing_is_to_be_posted_to_it(element: dict[str, Any]) -> None:
    named, history = notes_of(element | {"expiry": "2025-12-31", "used": 42})
    assert "it has expired (2025-12-31)" in named
    assert "LICENSE_LAPSED" in named
    assert "used 42 is not carried, and nothing can be posted" in history
    assert not any("post 42" in note or "renew;" in note for note in (named, history))


def test_expired_line_of_which_nothing_was_used_is_named_once() -> None:
    (note,) = notes_of(ENDING | {"used": 0})
    assert "it has expired (2025-12-31)" in note


def test_line_is_expired_at_its_expiry_itself_and_not_before() -> None:
    assert len(notes_of(ENDING, ENDS_MS)) == 2
    (note,) = notes_of(ENDING, ENDS_MS - 1)
    assert "post 42 once" in note
    assert "expired" not in note


def test_without_a_moment_the_reader_is_told_when_a_post_is_denied() -> None:
    (note,) = notes_of(ENDING, None)
    assert "post 42 once" in note
    assert note.endswith("a post is denied once the line has expired (2025-12-31)")
    (note,) = notes_of(METERED | {"used": 42}, None)
    assert "expired" not in note


def test_count_is_lowered_only_where_there_is_one_that_can_be() -> None:
    (counted,) = notes_of(METERED | {"used": 1000})
    assert "or lower count by 1000" in counted
    (beyond,) = notes_of(METERED | {"used": 1001})
    assert "post 1001 once" in beyond
    assert "lower count" not in beyond
    (uncounted,) = notes_of(METERED | {"used": 42, "featureCount": "uncounted"})
    assert (
        "it is uncounted, so that denies nobody; where reports are to show it, post 42" in uncounted
    )
    assert "lower count" not in uncounted


def test_only_what_renews_is_said_to() -> None:
    (seats,) = notes_of(SEATS | {"used": 3})
    assert "at the latest when they renew" in seats
    (reusable,) = notes_of(REUSABLE | {"used": 3})
    assert "posts its total again" in reusable
    assert "renew" not in reusable
