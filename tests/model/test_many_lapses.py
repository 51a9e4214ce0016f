"""Lapses by the hundred and lapses of long ago: swept in bounded calls, each at its own moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.calls import Reply, Verdict
from gateway.core.model import AccessRequest, Catalogue, Host, Line, Model, Want
from gateway.store.calls import Job
from tests.model.asked import Asked
from tests.model.bench import Bench
from tests.model.laws import check_laws
from tests.model.pools import BEGIN_MS, BY_HOST, DAY_MS, HOUR_MS, SECOND_MS, TO_ONE
from tests.model.stored import Dump
from tests.model.twins import Twin, World

SWEEP_MAX = 256  # of apply.lua
HOSTS = SWEEP_MAX + 60  # the specification copies its state for each of them


def _line(line_id: str, feature: str, model: Model, **more: Any) -> Line:
    return Line(
        id=line_id, feature=feature, version="1.0", model=model, count=4_000, capacity=4_000, **more
    )


LINES = (
    _line("S", "seats", Model.CONCURRENT),
    _line("P", "pool", Model.METERED_REUSABLE, borrow_ms=40 * DAY_MS),
    _line("U", "calls", Model.METERED, undo_ms=HOUR_MS),
)


def request(number: int, *wants: Want, interval_s: int = 3_600) -> AccessRequest:
    host = Host("string", f"h{number}")
    return AccessRequest(host=host, wants=wants, incremental=True, interval_s=interval_s)


def open_world(bench: Bench, name: str, *others: str) -> tuple[World, Twin]:
    world = World(bench.store, BEGIN_MS)
    upstreams = (TO_ONE, BY_HOST)
    catalogue = Catalogue(id=name, timezone="Europe/Paris", lines=LINES, upstreams=upstreams)
    quiet = {other: Catalogue(id=other, lines=LINES) for other in others}
    bench.do(world.open({name: catalogue} | quiet))
    return world, world.twins[name]


def ask(bench: Bench, world: World, twin: Twin, *requests: AccessRequest) -> None:
    sent = len(twin.names)
    bench.do(
        world.ask(
            Asked(twin, twin.index, each, f"n{sent + at}") for at, each in enumerate(requests)
        )
    )


def compare(bench: Bench, world: World, twin: Twin) -> Dump:
    found = bench.do(world.compare())
    check_laws(twin, {}, found, world.clock_ms)
    return found


@pytest.mark.slow
def test_more_lapses_than_one_call_may_sweep_are_back_before_the_answer(bench: Bench) -> None:
    """All that has lapsed is in the pool again, however many calls that takes."""
    world, twin = open_world(bench, "MANY")
    # Half of the hosts hold a second line that lapses later, some of them within the same sweep.
    several = [
        request(
            number,
            Want("seats", "0", 3),
            *[Want("pool", "0", 2), Want("calls", "0", 1)][: number % 3],
            interval_s=60 + number // 7,
        )
        for number in range(HOSTS)
    ]
    ask(bench, world, twin, *several)
    compare(bench, world, twin)
    bench.do(world.set_clock(BEGIN_MS + HOUR_MS // 2))
    before = bench.store.lane.calls
    ask(bench, world, twin, request(9_999, Want("seats", "0", 4_000)), request(1))
    assert bench.store.lane.calls - before >= 2
    assert list(twin.state.holds) == ["STRING:h9999"]
    compare(bench, world, twin)


@pytest.mark.slow
def test_one_instances_lapses_keep_the_other_in_order(bench: Bench) -> None:
    world, twin = open_world(bench, "BUSY", "QUIET")
    ask(bench, world, twin, *(request(n, Want("seats", "0", 1)) for n in range(HOSTS)))
    bench.do(world.set_clock(BEGIN_MS + 2 * HOUR_MS))
    other = world.twins["QUIET"]
    asked = [
        Asked(each, each.index, request(number, Want("seats", "0", 1_500)), f"mixed-{number}")
        for number in range(8)
        for each in (twin, other)
    ]
    bench.do(world.ask(asked))
    compare(bench, world, twin)


def test_lapses_of_long_ago_are_written_where_they_happened(bench: Bench) -> None:
    """Months later, in the day and the hour of each lapse, as if somebody had been there."""
    world, twin = open_world(bench, "LONG")
    for days in (1, 3, 35):
        wants = (Want("seats", "0", 1), Want("pool", "0", 5))
        ask(bench, world, twin, request(days, *wants, interval_s=days * 86_400))
    bench.do(world.set_clock(BEGIN_MS + 500 * DAY_MS))
    ask(bench, world, twin, request(1))
    found = compare(bench, world, twin)
    assert all(twin.keys.days(month) in found for month in (202603, 202604, 202605))
    for days in (1, 3, 35):
        hour = (BEGIN_MS + days * DAY_MS + SECOND_MS) // HOUR_MS
        assert found[twin.keys.open("two")][f"P|{hour}|STRING:h{days}"] == -5


@pytest.mark.slow
def test_a_background_sweep_reaches_back_too(bench: Bench) -> None:
    """More than one call's worth, of months ago, and nobody asks."""
    world, twin = open_world(bench, "ASLEEP")
    wants = (Want("pool", "0", 1),)
    ask(bench, world, twin, *(request(n, *wants, interval_s=60 + n) for n in range(HOSTS)))
    bench.do(world.set_clock(BEGIN_MS + 100 * DAY_MS))
    bench.do(world.sweep(twin))
    assert twin.state.holds == {}
    compare(bench, world, twin)


def test_a_background_sweep_by_an_old_catalogue_says_so(bench: Bench) -> None:
    world, twin = open_world(bench, "STALE")
    old = twin.index
    bench.do(world.change(twin, lambda catalogue, _: msgspec.structs.replace(catalogue, name="x")))
    sweep = Asked(twin, old, request(1), "").job(sweep_only=True)
    reply = bench.do(_answer(bench, sweep))
    assert (Verdict.STALE, twin.index.catalogue.version) == (reply.verdict, reply.version)
    compare(bench, world, twin)


async def _answer(bench: Bench, job: Job) -> Reply:
    return await bench.store.lane.submit(job)


def test_a_clock_put_back_by_days_stops_nothing(bench: Bench) -> None:
    """The transaction time stays where it was; requests are served all the same."""
    world, twin = open_world(bench, "BACK")
    ask(bench, world, twin, request(1, Want("seats", "0", 1)))
    for back_ms in (HOUR_MS, 3 * DAY_MS, 400 * DAY_MS):
        bench.do(world.set_clock(BEGIN_MS - back_ms))
        ask(bench, world, twin, request(1, Want("calls", "0", 1)))
        assert twin.state.last_ms == BEGIN_MS
        compare(bench, world, twin)
