"""The rate of a key: a second's worth at once, then as each is due; nobody else's is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols import problem
from gateway.service import rates
from gateway.service.rates import BURST_S, KeyRates, TooFast


class At:
    """Rates at a clock that a test sets."""

    def __init__(self, per_s: int) -> None:
        self.now_s = 1_000.0
        self.rates = KeyRates(per_s, lambda: self.now_s)

    def wait_s(self, requests: int = 1, key: tuple[str, str] = ("I", "k")) -> int:
        """Spend, or give the seconds that one is told to wait; 0: spent."""
        try:
            self.rates.spend(*key, requests)
        except TooFast as refused:
            return refused.retry_after_s
        return 0


def test_without_a_rate_nothing_is_counted() -> None:
    at = At(0)
    assert [at.wait_s() for _ in range(10_000)] == [0] * 10_000
    assert at.wait_s(10**9) == 0
    assert not at.rates._full_at_s


def test_a_second_s_worth_goes_at_once_and_then_one_as_each_is_due() -> None:
    at = At(10)
    assert [at.wait_s() for _ in range(12)] == [0] * 10 + [1, 1]
    at.now_s += 0.1
    assert [at.wait_s() for _ in range(2)] == [0, 1]
    at.now_s += 0.25
    assert [at.wait_s() for _ in range(3)] == [0, 0, 1]
    at.now_s += 3_600
    assert [at.wait_s() for _ in range(11)] == [0] * 10 + [1]  # nothing is saved up


def test_what_is_refused_costs_nothing() -> None:
    at = At(2)
    assert [at.wait_s() for _ in range(1_002)] == [0, 0] + [1] * 1_000
    at.now_s += 0.5
    assert at.wait_s() == 0


def test_each_key_of_each_instance_has_its_own() -> None:
    at = At(1)
    keys = [("I", "a"), ("I", "b"), ("J", "a")]
    assert [at.wait_s(key=key) for key in keys] == [0, 0, 0]
    assert [at.wait_s(key=key) for key in keys] == [1, 1, 1]


def test_a_batch_costs_its_lines_and_may_be_paid_off_afterwards() -> None:
    at = At(10)
    assert at.wait_s(1_000) == 0  # more than a second's worth: from a full bucket only
    assert at.wait_s() == 100  # 99 s of debt, and what one costs
    assert at.wait_s(5) == 100
    at.now_s += 99.1
    assert [at.wait_s(1_000), at.wait_s(), at.wait_s()] == [1, 0, 1]
    at.now_s += 0.5
    assert [at.wait_s(6), at.wait_s(5)] == [1, 0]


def test_the_seconds_told_are_enough() -> None:
    at = At(3)
    for _ in range(20):
        while not (told_s := at.wait_s(2)):
            pass
        at.now_s += told_s
        assert at.wait_s(2) == 0


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 200)), min_size=1, max_size=60),
)
def test_over_any_span_no_more_passes_than_the_rate_and_a_burst(
    per_s: int, tried: list[tuple[float, int]]
) -> None:
    """A debt of the last one aside, which is paid off before another passes."""
    at = At(per_s)
    began_s, passed = at.now_s, 0
    for pause_s, requests in tried:
        at.now_s += pause_s
        if at.wait_s(requests) == 0:
            allowed = per_s * (at.now_s - began_s + BURST_S)
            assert passed + min(requests, per_s * BURST_S) <= allowed + 1e-3
            passed += requests


def test_keys_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEYS_MAX", 3)
    at = At(1)
    for kid in "abc":
        assert at.wait_s(key=("I", kid)) == 0
    at.now_s += 1
    assert at.wait_s(key=("I", "a")) == 0  # seen lately
    assert at.wait_s(key=("I", "d")) == 0  # and "b" is forgotten
    assert [kid for _, kid in at.rates._full_at_s] == ["c", "a", "d"]
    assert [at.wait_s(key=("I", kid)) for kid in "ad"] == [1, 1]


def test_the_refusal_is_a_429_that_says_when_and_that_nothing_was_applied() -> None:
    status, headers, body = problem.render(TooFast(7))
    assert (status, headers["Retry-After"]) == (429, "7")
    assert body == (
        b'{"key":"gateway.tooManyRequests","message":"This key makes more requests than it may",'
        b'"arguments":["not_applied"]}'
    )
