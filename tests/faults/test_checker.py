"""The checker finds each kind of violation, and nothing where all agrees."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.checker import Evidence, Journal, violations
from tests.faults.ledger import Accepted, Seen


def entry(**changes: Any) -> dict[str, Any]:
    """A line of which 50 were acked and forwarded."""
    line = {"id": "L1", "feature": "sessions", "upstream": "parent", "acked": 50, "forwarded": 50}
    sums = {"dead": 0, "parked": 0, "open": 0, "sealed": 0, "used": 50, "held": 0}
    return {**line, **sums, "balanced": True, **changes}


def told(*lines: dict[str, Any], conservation: str = "OK") -> dict[str, Any]:
    return {"instances": [{"id": "DEMO", "lines": [*lines]}], "conservation": conservation}


def accepted(batch: str, units: int, feature: str = "sessions", *, again: bool = False) -> Accepted:
    return Accepted(batch, batch, batch * 8, {feature: units}, again)


def evidence(*entries: Accepted, seen: tuple[Seen, ...] = (), **aside: str) -> Evidence:
    arrived = [Seen(each.id, each.sha256) for each in entries]
    return Evidence(entries, [*arrived, *seen], "feature", aside)


WHOLE = evidence(accepted("a", 20), accepted("b", 30))


def judged(books: dict[str, Any], found: Evidence = WHOLE) -> list[str]:
    return violations(books, None, {"parent": found}, drained=True)


def test_nothing_is_found_where_all_agrees() -> None:
    journal = Journal()
    journal.grant("DEMO", "L1", 50)
    assert violations(told(entry()), journal, {"parent": WHOLE}, drained=True) == []


def test_a_sum_that_does_not_add_up_is_found_though_the_gateway_says_it_does() -> None:
    (found,) = violations(told(entry(forwarded=49)))
    assert found.startswith("I3: DEMO line L1 to parent: 50 acked, 49 accounted for")


def test_what_verify_itself_finds_is_passed_on() -> None:
    assert violations(told(entry(), conservation="3 open, but 4 row by row")) == [
        "I3: verify says 3 open, but 4 row by row"
    ]


def test_a_grant_that_is_not_acked_is_found() -> None:
    journal = Journal()
    journal.grant("DEMO", "L1", 51)
    journal.unseen("DEMO", "L1", 9)  # may have been counted, so it excuses nothing that is missing
    (found,) = violations(told(entry()), journal)
    assert found == "I1: DEMO line L1: 51 granted in answers, only 50 acked"


def test_a_grant_on_a_line_that_the_books_do_not_have_is_found() -> None:
    journal = Journal()
    journal.grant("DEMO", "L9", 1)
    assert "I1: DEMO line L9" in " ".join(violations(told(), journal))


@pytest.mark.parametrize(("unseen", "count"), [(9, 1), (10, 0), (11, 0)])
def test_more_acked_than_answered_is_excused_by_what_nobody_saw_only(
    unseen: int, count: int
) -> None:
    journal = Journal()
    journal.grant("DEMO", "L1", 40)
    journal.unseen("DEMO", "L1", unseen)
    found = violations(told(entry()), journal)
    assert [each[:2] for each in found] == ["I2"] * count


def test_an_unseen_undo_may_have_lowered_what_is_acked() -> None:
    journal = Journal()
    journal.grant("DEMO", "L1", 53)
    journal.unseen("DEMO", "L1", -3)
    assert violations(told(entry()), journal) == []


def test_one_id_with_two_contents_is_found_though_only_one_was_taken() -> None:
    two_faced = evidence(accepted("a", 50), seen=(Seen("a", "another"),))
    assert judged(told(entry()), two_faced) == ["I7: parent saw a with 2 contents"]
    assert violations(told(entry()), None, {"parent": two_faced}) != []  # at any moment


def test_what_was_counted_twice_under_one_id_is_found() -> None:
    twice = evidence(accepted("a", 50), accepted("a", 50, again=True))
    assert judged(told(entry()), twice) == ["parent counted a 2 times"]


def test_what_arrived_under_two_ids_is_found() -> None:
    (found,) = judged(told(entry()), evidence(accepted("a", 50), accepted("b", 50)))
    assert found.endswith(
        "100 accepted, each id once, but acked − dead − parked is 50: 50 too many"
    )


def test_what_was_settled_and_never_arrived_is_found() -> None:
    (found,) = judged(told(entry()), evidence(accepted("a", 20)))
    assert found.endswith("20 accepted, each id once, but acked − dead − parked is 50: 30 lost")


def test_what_arrived_of_a_feature_that_nobody_used_is_found() -> None:
    stray = evidence(accepted("a", 50), accepted("b", 1, "users"))
    (found,) = judged(told(entry()), stray)
    assert found.startswith("parent feature users: 1 accepted")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"forwarded": 40, "sealed": 10}, "10 sealed"),
        ({"forwarded": 40, "open": 10}, "10 open"),
        ({"forwarded": 40, "open": 10, "carried": 0}, "10 open"),
        ({"forwarded": 60, "open": -10, "carried": 0}, "-10 open"),
        ({"forwarded": 60, "open": -10, "carried": -5}, "-10 open"),
    ],
)
def test_what_is_left_after_a_drain_is_found(changes: dict[str, int], what: str) -> None:
    line = entry(**changes)
    found = judged(told(line), evidence(accepted("a", line["forwarded"])))
    assert found == [f"not drained: DEMO line L1 to parent: {what}"]
    assert violations(told(line), None, {"parent": WHOLE}) == []  # before the drain it may be so


def test_a_carried_negative_is_no_rest_and_is_still_counted_upstream() -> None:
    carried = entry(forwarded=60, open=-10)
    assert judged(told(carried), evidence(accepted("a", 60))) == []
    assert judged(told({**carried, "carried": -10}), evidence(accepted("a", 60))) == []
    assert judged(told(carried), evidence(accepted("a", 50))) != []


def test_a_parked_batch_may_have_arrived_or_not() -> None:
    books = told(entry(forwarded=20, parked=30))
    assert judged(books, evidence(accepted("a", 20), accepted("b", 30), b="parked")) == []
    assert judged(books, evidence(accepted("a", 20), b="parked")) == []
    # Not known to be parked, it is too many: that is what the ids are for.
    assert judged(books, evidence(accepted("a", 20), accepted("b", 30))) != []


def test_a_dead_batch_that_arrived_is_found() -> None:
    books = told(entry(forwarded=20, dead=30))
    assert judged(books, evidence(accepted("a", 20), b="dead")) == []
    found = judged(books, evidence(accepted("a", 20), accepted("b", 30), b="dead"))
    assert found[0] == "parent accepted b, which is dead"
    assert found[1].endswith("30 too many")


def test_lines_of_one_feature_are_summed_where_the_upstream_takes_features() -> None:
    lines = (entry(acked=20, forwarded=20), entry(id="L2", acked=30, forwarded=30))
    assert judged(told(*lines)) == []
    by_line = Evidence(WHOLE.accepted, WHOLE.seen, "line")
    assert [each.split(":")[0] for each in judged(told(*lines), by_line)] == [
        "parent line L1",
        "parent line L2",
        "parent line sessions",
    ]


def test_each_upstream_is_judged_by_its_own_ledger() -> None:
    books = told(entry(), entry(upstream="meter"))
    found = violations(books, None, {"parent": WHOLE, "meter": evidence()}, drained=True)
    assert [each.split(":")[0] for each in found] == ["meter feature sessions"]
