"""The choice of rows for a batch: nothing gained, nothing lost, one sign, inside all bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import COUNT_MAX, Line, Model
from gateway.core.usage import Choice, Count, Row, choose_rows
from gateway.core.versions import version_key


def line(line_id: str, feature: str, version: str = "1.0", *, retired: bool = False) -> Line:
    return Line(
        id=line_id,
        feature=feature,
        version=version,
        model=Model.METERED,
        count=None,
        capacity=2**53 - 1,
        retired=retired,
    )


LINES = {
    each.id: each
    for each in (
        line("L1", "sessions"),
        line("L2", "sessions", "1"),
        line("L3", "sessions", "2.0"),
        line("L4", "users"),
        line("L5", "pages", retired=True),
    )
}


@pytest.mark.parametrize(
    ("rows", "taken", "counts"),
    [
        pytest.param([], [], [], id="nothing open, nothing chosen"),
        pytest.param(
            [Row("L1", 7, "", 3), Row("L1", 8, "", 4), Row("L2", 7, "", 5)],
            [Row("L1", 7, "", 3), Row("L2", 7, "", 5), Row("L1", 8, "", 4)],
            [Count("sessions", "1", 12)],
            id="lines of one feature and version are summed, however it is spelt",
        ),
        pytest.param(
            [Row("L1", 7, "", 3), Row("L3", 7, "", 4)],
            [Row("L1", 7, "", 3), Row("L3", 7, "", 4)],
            [Count("sessions", "1.0", 3), Count("sessions", "2.0", 4)],
            id="versions are counted apart",
        ),
        pytest.param(
            [Row("L4", 9, "", 3), Row("L4", 8, "", -1), Row("L1", 7, "", -2)],
            [Row("L4", 8, "", -1), Row("L4", 9, "", 3)],
            [Count("users", "1.0", 2)],
            id="an undo is netted, and a negative sum waits for a batch of its own",
        ),
        pytest.param(
            [Row("L1", 7, "", -2), Row("L3", 6, "", -1), Row("L4", 8, "", -5)],
            [Row("L3", 6, "", -1), Row("L4", 8, "", -5)],
            [Count("sessions", "2.0", -1), Count("users", "1.0", -5)],
            id="negative counts go with one version of a name at a time",
        ),
        pytest.param(
            [Row("L1", 7, "", 5), Row("L2", 9, "", -5), Row("L4", 8, "", 1)],
            [Row("L2", 9, "", -5), Row("L1", 7, "", 5), Row("L4", 8, "", 1)],
            [Count("users", "1.0", 1)],
            id="what nets to zero is taken along and not counted",
        ),
        pytest.param(
            [Row("L1", 7, "", 5), Row("L1", 8, "", -5)],
            [Row("L1", 8, "", -5), Row("L1", 7, "", 5)],
            [],
            id="what nets to zero alone needs no sending",
        ),
        pytest.param(
            [Row("L5", 7, "", 5), Row("gone", 7, "", 5)],
            [Row("L5", 7, "", 5)],
            [Count("pages", "1.0", 5)],
            id="a retired line goes on, an unknown one is left alone",
        ),
        pytest.param(
            [Row("L1", 7, "", COUNT_MAX - 1), Row("L1", 8, "", 3), Row("L1", 9, "", 1)],
            [Row("L1", 7, "", COUNT_MAX - 1), Row("L1", 8, "", 1)],
            [Count("sessions", "1.0", COUNT_MAX)],
            id="a sum beyond the bound is split inside a row",
        ),
        pytest.param(
            [Row("L1", 7, "", 3 * COUNT_MAX), Row("L1", 8, "", -2 * COUNT_MAX)],
            [Row("L1", 8, "", -2 * COUNT_MAX), Row("L1", 7, "", 3 * COUNT_MAX)],
            [Count("sessions", "1.0", COUNT_MAX)],
            id="what nets to the bound is not split",
        ),
    ],
)
def test_rows_are_chosen_by_feature_and_sign(
    rows: list[Row], taken: list[Row], counts: list[Count]
) -> None:
    expected = Choice("", tuple(taken), tuple(counts))
    assert expected == choose_rows(rows, LINES)
    assert expected == choose_rows(reversed(rows), LINES)


def test_a_batch_has_one_host_when_the_upstream_is_told_hosts() -> None:
    rows = [Row("L1", 8, "USER:a|b", 1), Row("L1", 7, "STRING:h1", 2), Row("L4", 9, "STRING:h1", 3)]
    choice = choose_rows(rows, LINES, by_host=True)
    assert choice.host == "STRING:h1"
    assert choice.counts == (Count("sessions", "1.0", 2), Count("users", "1.0", 3))
    together = choose_rows(rows, LINES)
    assert together.host == ""
    assert together.counts == (Count("sessions", "1.0", 3), Count("users", "1.0", 3))


def test_a_batch_has_no_more_features_than_a_request_takes() -> None:
    lines = {f"L{n}": line(f"L{n}", f"f{n}") for n in range(70)}
    rows = [Row(name, 70 - at, "", 1) for at, name in enumerate(lines)]
    choice = choose_rows(rows, lines)
    assert [count.name for count in choice.counts] == [f"f{n}" for n in range(69, 5, -1)]
    left = leave(rows, choice)
    assert {"f0", "f5"} <= {count.name for count in choose_rows(left, lines).counts}


def test_a_feature_with_more_rows_than_a_batch_goes_in_parts_of_its_sign() -> None:
    rows = [Row("L1", hour, "", -1 if hour % 3 == 0 else 1) for hour in range(50)]
    sent = 0
    for _ in range(50):
        choice = choose_rows(rows, LINES, rows_max=6)
        if not choice.rows:
            break
        assert len(choice.rows) <= 6
        assert all(count.units > 0 for count in choice.counts)
        sent += sum(count.units for count in choice.counts)
        rows = leave(rows, choice)
    assert (rows, sent) == ([], 16)


units = st.integers(-(2**53) + 1, 2**53 - 1).filter(bool) | st.integers(-9, 9).filter(bool)
outboxes = st.dictionaries(
    st.tuples(
        st.sampled_from([*LINES, "gone"]), st.integers(0, 4), st.sampled_from(["", "STRING:a"])
    ),
    units,
    max_size=30,
).map(lambda found: [Row(*key, value) for key, value in found.items()])


@settings(deadline=None)  # a busy machine is no failure
@given(outboxes, st.integers(1, 4), st.integers(2, 12), st.integers(1, 20), st.booleans())
def test_what_is_chosen_and_what_is_left_are_what_there_was(
    rows: list[Row], features_max: int, rows_max: int, count_max: int, by_host: bool
) -> None:
    choice = choose_rows(
        rows,
        LINES,
        features_max=features_max,
        rows_max=rows_max,
        count_max=count_max,
        by_host=by_host,
    )
    before = {place(row): row.units for row in rows}
    for taken in choice.rows:
        # A part of a row: of its sign, and no more than it has.
        assert 0 < taken.units / before[place(taken)] <= 1
    assert len(choice.rows) == len({place(row) for row in choice.rows})
    sums: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for row in choice.rows:
        sums[LINES[row.line].feature, version_key(LINES[row.line].version)] += row.units
    counted = {(count.name, version_key(count.version)): count.units for count in choice.counts}
    assert counted == {feature: total for feature, total in sums.items() if total}
    assert len({total > 0 for total in counted.values()}) <= 1
    assert all(abs(total) <= count_max for total in counted.values())
    assert len(counted) <= features_max
    assert len(choice.rows) <= rows_max
    assert not by_host or {row.host for row in choice.rows} <= {choice.host}
    # As long as something may be sent, something is.
    assert bool(choice.rows) == any(row.line in LINES for row in rows)


@settings(deadline=None)  # a busy machine is no failure
@given(outboxes)
def test_going_on_sends_everything_and_the_net_is_what_was_used(rows: list[Row]) -> None:
    before: Counter[str] = Counter()
    for row in rows:
        if row.line in LINES:
            before[LINES[row.line].feature] += row.units
    sent: Counter[str] = Counter()
    for _ in range(200):
        choice = choose_rows(rows, LINES, count_max=2**52)
        if not choice.rows:
            break
        for count in choice.counts:
            sent[count.name] += count.units
        rows = leave(rows, choice)
    assert not [row for row in rows if row.line in LINES]
    assert {name: total for name, total in sent.items() if total} == {
        name: total for name, total in before.items() if total
    }


def place(row: Row) -> tuple[str, int, str]:
    return row.line, row.hour, row.host


def leave(rows: Iterable[Row], choice: Choice) -> list[Row]:
    """What is open after a choice is sealed."""
    taken = {place(row): row.units for row in choice.rows}
    after = [Row(*place(row), row.units - taken.get(place(row), 0)) for row in rows]
    return [row for row in after if row.units]
