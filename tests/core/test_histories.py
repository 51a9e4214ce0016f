"""What one state of an instance has that another has not, whatever their counts are."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.histories import GONE, State, forgotten, may_have_gone, next_epoch


def state(version: int = 1, blob: bytes = b"a", batches: Any = (), **ledger: int) -> State:
    return State({"since_ms": 77} | ledger, version, blob, frozenset(batches))


def restored(before: State, epoch: int) -> State:
    ledger = dict(before.ledger) | next_epoch(before.ledger, before.version, epoch)
    return State(ledger, before.version + 2000, before.blob, before.batches)


def went_on(before: State, requests: int) -> State:
    return State(
        dict(before.ledger) | {"seq": before.seq + requests}, before.version, before.blob,
        before.batches,
    )  # fmt: skip


def sentences(present: State, other: State) -> tuple[str, ...]:
    loss = forgotten(present, other)
    return loss.sentences if loss else ()


def test_what_is_behind_or_the_same_forgets_nothing() -> None:
    assert forgotten(state(seq=5), state(seq=5)) is None
    assert forgotten(state(seq=5), state(seq=9, version=3, blob=b"b")) is None
    assert forgotten(state(), state(seq=9)) is None


def test_what_is_ahead_is_told_with_its_units() -> None:
    present = State({"since_ms": 77, "seq": 7, "acked|L1": 12, "acked|L2": 1}, 1, b"a", frozenset())
    other = State({"since_ms": 77, "seq": 5, "acked|L1": 10, "acked|L2": 3}, 1, b"a", frozenset())
    loss = forgotten(present, other)
    assert loss is not None
    assert loss.units == {"L1": 2, "L2": -2}
    assert loss.sentences == (
        "2 requests decided",
        "line L1: 2 units acknowledged",
        "line L2: 2 units given back",
    )


def test_what_was_forwarded_or_sealed_since_is_told_though_no_request_came() -> None:
    present = State(
        {"since_ms": 77, "forwarded|L1|up": 9, "dead|L1|up": 2}, 1, b"a", frozenset({"b1", "b2"})
    )
    other = State({"since_ms": 77, "forwarded|L1|up": 4}, 1, b"a", frozenset({"b1"}))
    assert sentences(present, other) == (
        "line L1: 5 units forwarded to up",
        "line L1: 2 units given up of those for up",
        "1 batches sealed, which may have been sent",
    )


def test_batches_that_a_restore_made_are_no_loss() -> None:
    present = state(batches=["restored-1f-up-1"])
    assert forgotten(present, state()) is None
    assert not may_have_gone(present, state())


@pytest.mark.parametrize(
    ("ledger", "batches", "gone"),
    [
        ({"forwarded|L1|up": 4}, ["b1"], False),
        ({"forwarded|L1|up": 3}, [], False),
        ({"forwarded|L1|up": 5}, ["b1"], True),
        ({"forwarded|L1|up": 4, "dead|L1|up": 1}, ["b1"], True),
        ({"forwarded|L1|up": 4}, ["b1", "b2"], True),
        ({"forwarded|L1|up": 4, GONE: 1}, ["b1"], True),
    ],
)
def test_what_waits_elsewhere_may_have_gone_if_anything_went_since(
    ledger: dict[str, int], batches: list[str], gone: bool
) -> None:
    present = State({"since_ms": 77, **ledger}, 1, b"a", frozenset(batches))
    other = State({"since_ms": 77, "forwarded|L1|up": 4}, 1, b"a", frozenset({"b1"}))
    assert may_have_gone(present, other) is gone


def test_a_newer_catalogue_is_told_unless_it_is_the_same() -> None:
    assert sentences(state(version=3, blob=b"b"), state()) == ("its catalogue, version 3",)
    assert forgotten(state(version=3), state()) is None


def test_a_store_that_began_at_another_time_shares_nothing() -> None:
    mine = State({"since_ms": 88, "seq": 5}, 1, b"b", frozenset())
    assert sentences(mine, state(seq=50)) == ("5 requests decided", "its catalogue, version 1")


def test_branches_share_what_is_before_them_and_no_more() -> None:
    root = state(seq=10)
    one, two = restored(root, 1), restored(root, 2)
    assert forgotten(one, root) is None
    assert forgotten(root, one) is None
    assert forgotten(one, two) is None
    assert sentences(went_on(one, 3), went_on(two, 90)) == ("3 requests decided",)
    assert sentences(went_on(one, 3), went_on(root, 90)) == ("3 requests decided",)
    assert sentences(went_on(root, 4), went_on(one, 90)) == ("4 requests decided",)


def test_a_branch_that_went_home_is_known_there() -> None:
    """Backed up here, restored there, gone on there, brought back: nothing is forgotten."""
    root = state(seq=10)
    there = went_on(restored(root, 1), 5)
    again = went_on(restored(there, 2), 1)
    for before in (root, there, restored(root, 1)):
        assert forgotten(before, again) is None
    assert sentences(went_on(there, 1), again) == ("1 requests decided",)
