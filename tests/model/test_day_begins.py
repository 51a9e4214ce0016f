"""Seats that go as a day begins were not held on it, however many calls their sweep takes.

Law: SEMANTICS 3: what expires at a moment is not held at it. Script and specification agree.
"""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Want
from tests.model.bench import Bench
from tests.model.pools import BEGIN_MS, HOUR_MS
from tests.model.stored import Dump
from tests.model.test_many_lapses import HOSTS, ask, compare, open_world, request
from tests.model.twins import Twin

MIDNIGHT_MS = BEGIN_MS + HOUR_MS // 2 - 250  # in Paris, the 28th of March
UNTIL_MIDNIGHT_S = 1_799  # rounded up to a whole second
CALLS = Want("calls", "0", 1)


def seats(count: int) -> Want:
    return Want("seats", "0", count)


def told(found: Dump, twin: Twin) -> tuple[int, int]:
    """Give the peak of the 28th, and what was held at last."""
    days = found[twin.keys.days(202603)]
    return days["S|20260328|p"], days["S|20260328|h"]


@pytest.mark.parametrize("hosts", [3, pytest.param(HOSTS, marks=pytest.mark.slow)])
def test_what_lapses_at_midnight_is_no_peak_of_the_day(bench: Bench, hosts: int) -> None:
    world, twin = open_world(bench, f"MIDNIGHT-{hosts}")
    several = [request(n, seats(2), interval_s=UNTIL_MIDNIGHT_S) for n in range(hosts)]
    ask(bench, world, twin, *several)
    held = twin.state.holds["STRING:h0"]["S"]
    assert held.lapses_ms == MIDNIGHT_MS
    bench.do(world.set_clock(MIDNIGHT_MS + HOUR_MS))
    ask(bench, world, twin, request(0, CALLS))
    assert told(compare(bench, world, twin), twin) == (0, 0)
    ask(bench, world, twin, request(0, seats(1)))
    ask(bench, world, twin, request(0, seats(-1)))
    assert told(compare(bench, world, twin), twin) == (1, 0)


@pytest.mark.parametrize(("more", "peak"), [(1, 2), (5, 5)])
def test_what_stays_is_a_peak_of_the_day(bench: Bench, more: int, peak: int) -> None:
    """Some lapse at midnight, one a second later, in one sweep with what is asked after it."""
    world, twin = open_world(bench, f"STAYS-{more}")
    some = [request(n, seats(2), interval_s=UNTIL_MIDNIGHT_S + (n == 2)) for n in range(3)]
    ask(bench, world, twin, *some)
    bench.do(world.set_clock(MIDNIGHT_MS + HOUR_MS))
    ask(bench, world, twin, request(0, seats(more)))
    assert told(compare(bench, world, twin), twin) == (peak, more)


def test_all_that_happens_at_midnight_happens_at_once(bench: Bench) -> None:
    """In one call or in several: seats taken and given back in the day's first ms were not held."""
    world, twin = open_world(bench, "AT-ONCE")
    bench.do(world.set_clock(MIDNIGHT_MS))
    ask(bench, world, twin, request(0, seats(3)), request(1, seats(2)))
    ask(bench, world, twin, request(0, seats(-3)))
    assert told(compare(bench, world, twin), twin) == (2, 2)
    bench.do(world.set_clock(MIDNIGHT_MS + 1))
    ask(bench, world, twin, request(1, seats(-2)))
    assert told(compare(bench, world, twin), twin) == (2, 0)


def test_a_hold_cut_back_to_midnight_takes_nothing_from_the_day_that_has_begun(
    bench: Bench,
) -> None:
    """The walk that cuts holds may come by after others were granted; their peak stays."""
    world, twin = open_world(bench, "CUT-BACK")
    ask(bench, world, twin, request(0, seats(4), interval_s=40_000))
    bench.do(world.set_clock(MIDNIGHT_MS + HOUR_MS))
    ask(bench, world, twin, request(1, seats(5), interval_s=40_000))
    hold = twin.state.holds["STRING:h0"]["S"]
    hold.lapses_ms = MIDNIGHT_MS
    packed = msgspec.msgpack.encode([("S", hold.count, hold.lapses_ms, hold.model)])
    client = bench.store.client
    bench.do(client.hset(twin.keys.holds, "STRING:h0", packed))
    bench.do(client.zadd(twin.keys.lapse, {"STRING:h0": MIDNIGHT_MS}))
    bench.do(client.zadd(twin.keys.due, {twin.keys.instance: MIDNIGHT_MS}))
    ask(bench, world, twin, request(1, CALLS))
    assert told(compare(bench, world, twin), twin) == (9, 5)
