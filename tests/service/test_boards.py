"""The board of several workers: whoever is asked tells the sum, whoever has died in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.core.meters import UNSET
from gateway.core.metrics import Layout
from gateway.service.boards import Board

LAYOUT = Layout(["parent"])
GRANTED = ("gateway_access_requests_total", "cmapi", "granted")
DEPTH = ("gateway_lane_depth",)
OTHER_WORKER = """
import sys
from gateway.core.metrics import Layout
from gateway.service.boards import Board
board = Board.shared(Layout(["parent"]), int(sys.argv[1]), 1)
board.meters.answered("cmapi", "granted")
board.meters.set("gateway_lane_depth", 5)
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def fd() -> Iterator[int]:
    made = Board.make(LAYOUT, 3)
    yield made
    os.close(made)


@pytest.fixture
def other(fd: int) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has counted one request and is alive."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(fd)],
        pass_fds=(fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        yield process
        process.kill()


def test_one_tells_the_sum_of_all(fd: int, other: subprocess.Popen[str]) -> None:
    board = Board.shared(LAYOUT, fd, 0)
    board.meters.answered("cmapi", "granted")
    board.meters.set("gateway_lane_depth", 2)
    assert (of(board, *GRANTED), of(board, *DEPTH)) == (2, 7)
    assert of(board, "gateway_workers") == 2


def test_who_died_counts_for_ever_and_says_nothing_of_the_present(
    fd: int, other: subprocess.Popen[str]
) -> None:
    board = Board.shared(LAYOUT, fd, 0)
    other.kill()
    other.wait()
    assert (of(board, *GRANTED), of(board, *DEPTH)) == (1, UNSET)
    assert of(board, "gateway_workers") == 1


def test_who_follows_counts_on_in_the_same_slot(fd: int, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    follower = Board.shared(LAYOUT, fd, 1)
    follower.meters.answered("cmapi", "granted")
    assert (of(follower, *GRANTED), of(follower, *DEPTH)) == (2, UNSET)
    assert of(follower, "gateway_worker_starts_total") == 2


def test_a_death_is_counted_for_the_dead_and_stays_with_who_follows(
    fd: int, other: subprocess.Popen[str]
) -> None:
    board = Board.shared(LAYOUT, fd, 0)
    other.kill()
    other.wait()
    Board.count_death(LAYOUT, fd, 1)
    assert of(board, "gateway_worker_deaths_total") == 1
    assert (of(board, "gateway_workers"), of(board, *GRANTED)) == (1, 1)
    follower = Board.shared(LAYOUT, fd, 1)
    assert of(follower, "gateway_worker_deaths_total") == 1
    assert of(follower, "gateway_workers") == 2


def test_who_died_before_it_took_its_slot_is_counted_too(fd: int) -> None:
    board = Board.shared(LAYOUT, fd, 0)
    Board.count_death(LAYOUT, fd, 2)
    assert of(board, "gateway_worker_deaths_total") == 1
    assert of(board, "gateway_workers") == 1


def test_a_slot_that_nobody_took_says_nothing(fd: int) -> None:
    board = Board.shared(LAYOUT, fd, 2)
    assert (of(board, "gateway_workers"), of(board, *DEPTH)) == (1, UNSET)


def test_a_gauge_is_the_sum_of_who_is_alive_or_not_known(
    fd: int, other: subprocess.Popen[str]
) -> None:
    board = Board.shared(LAYOUT, fd, 0)
    assert board.gauge("gateway_upstream_away", "parent") is None
    board.meters.set("gateway_upstream_away", 0, "parent")
    assert board.gauge("gateway_upstream_away", "parent") == 0
    board.meters.set("gateway_lane_depth", 2)
    assert board.gauge(*DEPTH) == 7


def of(board: Board, *series: str) -> int:
    return board.totals()[LAYOUT.places[series]]
