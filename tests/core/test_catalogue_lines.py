"""A line asked for by its id: its table, how long it is held, and what others may take of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.calls import Row, SharedRow
from gateway.core.catalogue import CatalogueIndex, is_shared, period_of
from gateway.core.model import (
    AccessRequest,
    Catalogue,
    FloatingLicense,
    Host,
    Line,
    Model,
    Reset,
    Want,
)

NOW_MS = 1_795_348_800_250  # a Sunday in November 2026
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SOLD = FloatingLicense(license_id=1, license_key="key")


def line(line_id: str = "L1", **more: Any) -> Line:
    said: dict[str, Any] = {"feature": "cad", "version": "2.0", "model": Model.CONCURRENT}
    return Line(id=line_id, **(said | {"count": 3, "capacity": 3} | more))


def index(*lines: Line) -> CatalogueIndex:
    return CatalogueIndex(Catalogue(id="DEMO", lines=lines, borrow_ms=2 * HOUR_MS))


def row(found: CatalogueIndex, **more: int) -> Row:
    (only,) = found.resolve_line(found.line["L1"], **more).table.rows
    return only


def test_a_line_is_a_table_of_its_own_whatever_its_version_and_selectors() -> None:
    found = index(line(selectors={"site": "north"}), line("L2"))
    only = row(found)
    assert (only.id, only.fit, only.selected, only.interval_ms) == ("L1", 1, True, 2 * HOUR_MS)


def test_the_table_of_a_line_is_made_once() -> None:
    found = index(line())
    assert found.resolve_line(found.line["L1"]) is found.resolve_line(found.line["L1"])
    other = found.resolve_line(found.line["L1"], interval_ms=HOUR_MS)
    assert found.resolve_line(found.line["L1"]) is not other


def test_another_interval_takes_the_place_of_the_lines() -> None:
    assert row(index(line(borrow_ms=HOUR_MS)), interval_ms=DAY_MS).interval_ms == DAY_MS


@pytest.mark.parametrize(
    ("expires_ms", "until_ms", "told_ms"),
    [(None, 9, 9), (5, 9, 5), (9, 5, 5), (9, 0, 1), (None, -62_135_596_800_000, 1)],
)
def test_a_moment_brings_the_expiry_nearer_and_none_makes_it_permanent(
    expires_ms: int | None, until_ms: int, told_ms: int
) -> None:
    assert row(index(line(expires_ms=expires_ms)), until_ms=until_ms).expires_ms == told_ms


def test_only_a_line_that_others_may_use_is_longer_on_the_wire() -> None:
    found = index(line(), line("L2", feature="sold", licensespring=SOLD))
    wires = [
        found.resolve(AccessRequest(host=Host("string", "h"), wants=(Want(name, "0", 1),)))[0][0]
        for name in ("cad", "sold")
    ]
    rows: list[list[Any]] = [msgspec.msgpack.decode(each.wire)[1][0] for each in wires]
    assert [len(Row.__struct_fields__), len(SharedRow.__struct_fields__)] == [*map(len, rows)]
    assert [is_shared(each) for each in found.catalogue.lines] == [False, True]


@pytest.mark.parametrize(
    ("reset", "epoch", "told"),
    [
        (Reset.NONE, 0, ("0", 0)),
        (Reset.NONE, 4, ("0.4", 0)),
        (Reset.MONTHLY, 0, ("m20261101", 1_796_083_200_000)),
        (Reset.DAILY, 4, ("d20261122.4", 1_795_392_000_000)),
    ],
)
def test_a_period_has_the_label_of_the_counters_and_an_end(
    reset: Reset, epoch: int, told: tuple[str, int]
) -> None:
    assert told == period_of(line(model=Model.METERED, reset=reset, reset_epoch=epoch), NOW_MS)
