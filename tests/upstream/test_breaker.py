"""The breaker: how long an upstream is left alone, and who asks first."""

from __future__ import annotations

from gateway.upstream.breaker import PAUSE_S, PAUSE_S_MAX, PROBE_S_MAX, Breaker


def most() -> float:
    return 1.0


def test_the_span_doubles_with_each_failure_up_to_a_bound() -> None:
    breaker, now_s, waits = Breaker(most), 0.0, []
    for _ in range(12):
        breaker.fail(now_s)
        waits.append(breaker.wait_s(now_s))
        now_s = breaker.ready_s
        assert breaker.admit(now_s)
    assert waits[:4] == [PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S, 8 * PAUSE_S]
    assert waits[-1] == PAUSE_S_MAX


def test_jitter_is_full_and_retry_after_is_a_lower_bound() -> None:
    breaker = Breaker(lambda: 0.0)
    breaker.fail(10.0)
    assert breaker.wait_s(10.0) == 0.0
    breaker = Breaker(lambda: 0.0)
    breaker.fail(10.0, 7)
    assert breaker.wait_s(10.0) == 7.0


def test_after_a_pause_one_goes_ahead_and_the_others_wait_for_it() -> None:
    breaker = Breaker(most)
    assert breaker.admit(0.0)
    breaker.fail(0.0)
    assert [breaker.admit(PAUSE_S / 2), breaker.admit(PAUSE_S), breaker.admit(PAUSE_S)] == [
        False,
        True,
        False,
    ]
    assert breaker.succeed()
    assert breaker.admit(PAUSE_S)
    assert not breaker.succeed()


def test_a_probe_that_did_not_happen_or_never_reports_gives_way() -> None:
    breaker = Breaker(most)
    breaker.fail(0.0)
    assert breaker.admit(1.0)
    breaker.give_back(1.0)
    assert breaker.admit(1.0)
    assert not breaker.admit(1.0 + PROBE_S_MAX / 2)
    assert breaker.admit(1.0 + PROBE_S_MAX)


def test_sends_that_fail_together_are_one_failure() -> None:
    breaker = Breaker(most)
    assert breaker.fail(0.0)
    assert not breaker.fail(0.1)
    assert not breaker.fail(0.2, 9)
    assert (breaker.failures, breaker.ready_s) == (1, 9.2)
