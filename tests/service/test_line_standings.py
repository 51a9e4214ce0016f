"""How lines stand: what is left of them, in force or not, and in which order they are shown."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.catalogue import CatalogueIndex
from gateway.core.model import UNITS_MAX, Catalogue, Line, Model, Product, Reset
from gateway.service.line_standings import (
    ORDERS,
    LineStanding,
    State,
    found_by,
    fullest_first,
    standings_of,
)

NOW_MS = 1_795_392_000_000  # 2026-11-23


def _line(line_id: str = "L1", **more: Any) -> Line:
    facts: dict[str, Any] = {"feature": line_id, "version": "1", "model": Model.METERED}
    facts |= {"count": 10, "capacity": 10} | more
    return Line(id=line_id, **facts)


def _stand(line: Line, used: int = 0, elsewhere: int = 0) -> LineStanding:
    index = CatalogueIndex(Catalogue(id="A", lines=(line,)))
    return standings_of(index, [line], lambda _: (used, elsewhere), NOW_MS)[0]


@pytest.mark.parametrize(
    ("more", "used", "elsewhere", "told"),
    [
        ({}, 4, 0, (4, 6, 40, 0)),
        ({}, 4, 3, (7, 3, 70, 0)),
        ({"overdraft": "2", "capacity": 12}, 11, 0, (11, 1, 91, 1)),
        ({}, 14, 0, (14, 0, 140, 4)),  # capacity was lowered below what is used
        ({}, -3, 0, (0, 10, 0, 0)),  # more came back than was consumed
        ({"count": None, "capacity": UNITS_MAX}, 14, 0, (14, None, None, 0)),
        ({"overdraft": "unlimited", "capacity": UNITS_MAX}, 14, 0, (14, None, None, 4)),
        ({"count": 0, "capacity": 0}, 0, 0, (0, 0, None, 0)),
    ],
)
def test_what_is_left_is_what_nobody_took(
    more: dict[str, Any], used: int, elsewhere: int, told: tuple[int | None, ...]
) -> None:
    each = _stand(_line(**more), used, elsewhere)
    assert (each.taken, each.available, each.percent, each.overage) == told


def test_only_what_comes_back_is_held() -> None:
    assert _stand(_line(), 4).held is None
    assert _stand(_line(model=Model.CONCURRENT), 4).held == 4
    assert _stand(_line(model=Model.METERED_REUSABLE), 4).held == 4


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, State.IN_FORCE),
        ({"starts_ms": NOW_MS}, State.IN_FORCE),
        ({"starts_ms": NOW_MS + 1}, State.LATER),
        ({"expires_ms": NOW_MS + 1}, State.IN_FORCE),
        ({"expires_ms": NOW_MS}, State.EXPIRED),
        ({"expires_ms": NOW_MS, "retired": True}, State.RETIRED),
    ],
)
def test_a_line_is_in_force_from_its_start_to_its_expiry(
    more: dict[str, Any], state: State
) -> None:
    each = _stand(_line(**more), 10)
    assert each.state is state
    assert each.near is (state is State.IN_FORCE)


def test_the_next_reset_is_that_of_the_line_in_its_own_zone() -> None:
    assert _stand(_line()).resets_ms is None
    daily = _stand(_line(reset=Reset.DAILY, reset_timezone="Etc/GMT-2"))
    assert daily.resets_ms == NOW_MS + 22 * 3_600_000


def test_what_needs_attention_comes_first() -> None:
    some = [
        _stand(_line("b"), 9),
        _stand(_line("a"), 9),
        _stand(_line("free", count=None, capacity=UNITS_MAX), 99),
        _stand(_line("full"), 10),
        _stand(_line("past", expires_ms=1), 10),
    ]
    ordered = [each.line.id for each in sorted(some, key=fullest_first)]
    assert ordered == ["full", "a", "b", "free", "past"]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("feature", ["a", "b", "c"]),
        ("line", ["a", "b", "c"]),
        ("used", ["c", "b", "a"]),
        ("available", ["b", "a", "c"]),
        ("resets", ["b", "a", "c"]),
        ("expires", ["a", "b", "c"]),
    ],
)
def test_each_order_puts_what_has_no_bound_last(order: str, ids: list[str]) -> None:
    some = [
        _stand(_line("c", count=None, capacity=UNITS_MAX), 99),
        _stand(_line("b", reset=Reset.DAILY), 9),
        _stand(_line("a", expires_ms=NOW_MS + 1), 5),
    ]
    assert [each.line.id for each in sorted(some, key=ORDERS[order])] == ids


def test_a_search_looks_at_feature_id_and_product_without_case() -> None:
    some = [
        _stand(_line("L1", feature="Editor")),
        _stand(_line("L2", feature="api", product=Product(name="EDITOR suite"))),
        _stand(_line("editor-3", feature="api")),
        _stand(_line("L4", feature="api")),
    ]
    assert [each.line.id for each in found_by(some, "eDitor")] == ["L1", "L2", "editor-3"]
