"""The books balance when they should, and say where when they do not (SEMANTICS 11, E30)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.errors import InvalidInput
from gateway.core.model import Attachment, Catalogue, Line, Model, Reset
from gateway.service.balance import audit, conservation, judge
from gateway.store.ledgers import Ledger, RowSums, UpstreamSums
from gateway.store.opening import Store
from tests.stores.homes import Home
from tests.vectors.patience import PATIENT_S

NOW_MS = int(datetime(2026, 11, 22, 10, tzinfo=UTC).timestamp() * 1000)


def line(line_id: str, model: Model = Model.METERED, reset: Reset = Reset.NONE) -> Line:
    return Line(
        id=line_id,
        feature=f"feature-{line_id}",
        version="1.0",
        model=model,
        count=100,
        capacity=100,
        reset=reset,
    )


def index(*lines: Line, upstreams: tuple[str, ...] = ("parent",)) -> CatalogueIndex:
    attached = tuple(Attachment(name) for name in upstreams)
    return CatalogueIndex(Catalogue(id="DEMO", version=1, lines=lines, upstreams=attached))


def ledger(
    acked: Mapping[str, int],
    upstreams: Mapping[tuple[str, str], UpstreamSums] | None = None,
    *,
    days: Mapping[str, int] | None = None,
    used: Mapping[str, int] | None = None,
    rows: RowSums | None = None,
) -> Ledger:
    days = acked if days is None else days
    return Ledger(1, NOW_MS, NOW_MS, acked, days, upstreams or {}, used or {}, rows)


def test_units_that_are_all_somewhere_balance() -> None:
    sums = UpstreamSums(forwarded=10, dead=1, parked=2, open=20, sealed=9)
    books = judge(index(line("L1")), ledger({"L1": 42}, {("L1", "parent"): sums}))
    assert books.differences == []
    assert conservation([books]) == "OK"
    (entry,) = books.lines
    assert entry.balanced
    assert entry.acked == entry.forwarded + entry.dead + entry.parked + entry.open + entry.sealed


def test_a_lost_unit_is_named_with_its_line_and_upstream() -> None:
    sums = UpstreamSums(forwarded=10, open=31)
    books = judge(index(line("L1")), ledger({"L1": 42}, {("L1", "parent"): sums}))
    assert not books.lines[0].balanced
    said = conservation([books])
    assert "DEMO line L1 to parent" in said
    assert "42 acked, but 41" in said


def test_what_was_acked_before_an_upstream_was_attached_is_not_its_business() -> None:
    sums = UpstreamSums(base=40, open=2)
    books = judge(index(line("L1")), ledger({"L1": 42}, {("L1", "parent"): sums}))
    assert conservation([books]) == "OK"
    assert books.lines[0].acked == 2


def test_a_carried_negative_in_open_balances() -> None:
    sums = UpstreamSums(forwarded=50, open=-8)
    found = replace(ledger({"L1": 42}, {("L1", "parent"): sums}), carried={("L1", "parent"): -8})
    books = judge(index(line("L1")), found)
    assert conservation([books]) == "OK"
    assert (books.lines[0].open, books.lines[0].carried) == (-8, -8)


def test_acked_that_is_not_the_sum_of_its_days_is_a_difference_without_any_upstream() -> None:
    books = judge(index(line("L1"), upstreams=()), ledger({"L1": 42}, days={"L1": 41}))
    (entry,) = books.lines
    assert entry.upstream is None
    assert not entry.balanced
    assert "42 acked, but 41 in its days" in conservation([books])


def test_each_upstream_has_its_own_entry_and_one_may_be_off_alone() -> None:
    sums = {("L1", "a"): UpstreamSums(open=42), ("L1", "b"): UpstreamSums(open=40)}
    books = judge(index(line("L1"), upstreams=("a", "b")), ledger({"L1": 42}, sums))
    assert [(entry.upstream, entry.balanced) for entry in books.lines] == [
        ("a", True),
        ("b", False),
    ]


def test_seats_are_listed_as_held_and_have_no_usage() -> None:
    books = judge(index(line("L1", Model.CONCURRENT)), ledger({}, used={"L1|0": 3}))
    (entry,) = books.lines
    assert (entry.upstream, entry.used, entry.held, entry.acked) == (None, 3, 3, 0)
    assert entry.balanced


@pytest.mark.parametrize(
    ("reset", "label"),
    [
        (Reset.NONE, "0"),
        (Reset.DAILY, "d20261122"),
        (Reset.WEEKLY, "w20261116"),
        (Reset.MONTHLY, "m20261101"),
        (Reset.ANNUALLY, "a20260101"),
    ],
)
def test_used_is_that_of_the_current_period(reset: Reset, label: str) -> None:
    used = {f"L1|{label}": 7, "L1|m20261001": 90, "L1|d20261121": 91}
    books = judge(index(line("L1", reset=reset), upstreams=()), ledger({}, used=used))
    assert (books.lines[0].used, books.lines[0].held) == (7, 0)


@pytest.mark.parametrize("which", ["days", "open", "sealed", "parked"])
def test_rows_that_do_not_add_up_to_their_sum_are_a_difference(which: str) -> None:
    sums = {("L1", "parent"): UpstreamSums(open=25, sealed=12, parked=5)}
    pair = ("L1", "parent")
    rows = {"days": {"L1": 42}, "open": {pair: 25}, "sealed": {pair: 12}, "parked": {pair: 5}}
    exact = judge(index(line("L1")), ledger({"L1": 42}, sums, rows=RowSums(**rows)))
    assert conservation([exact]) == "OK"
    rows[which] = {}
    books = judge(index(line("L1")), ledger({"L1": 42}, sums, rows=RowSums(**rows)))
    assert not books.lines[0].balanced
    assert "but 0 row by row" in conservation([books])


def test_more_differences_are_counted_in_one_sentence() -> None:
    books = judge(index(line("L1"), line("L2"), upstreams=()), ledger({"L1": 1, "L2": 2}, days={}))
    assert conservation([books]).endswith("(and 1 more)")


def test_an_unknown_instance_is_bad_input_and_makes_nothing(home: Home) -> None:
    async def main() -> None:
        async with home.open(partitions=4, deadline_s=PATIENT_S) as store:
            before = await keys_of(store)
            with pytest.raises(InvalidInput, match="NOBODY"):
                await audit(store.catalogues, "NOBODY", deep=True)
            assert await keys_of(store) == before

    asyncio.run(main())


async def keys_of(store: Store) -> set[bytes]:
    """Give all but those that are written for a millisecond, to try the store out."""
    found: list[bytes] = await store.client.keys("*")
    return {key for key in found if not key.endswith(b":pulse")}


def test_an_upstream_attached_later_starts_from_that_moment(home: Home) -> None:
    async def main() -> None:
        async with home.open(partitions=4, deadline_s=PATIENT_S) as store:
            alone = msgspec.structs.replace(index(line("L1")).catalogue, version=0, upstreams=())
            written = await store.catalogues.put(alone)
            keys = store.catalogues.keys("DEMO")
            await store.client.hset(keys.ledger, mapping={"acked|L1": 42, "days|L1": 42})
            attached = msgspec.structs.replace(written, upstreams=(Attachment("parent"),))
            await store.catalogues.put(attached)
            books = await audit(store.catalogues, "DEMO", deep=False)
            assert conservation([books]) == "OK"
            assert books.lines[0].acked == 0

    asyncio.run(main())
