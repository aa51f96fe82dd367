"""When to stop: the rate and what is left to gain, on sequences whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgmm.em.convergence import StopReason, estimate_rate, estimate_remaining_gain


@given(rate=st.floats(0.01, 0.99), first=st.floats(1e-9, 1e9), n=st.integers(3, 12))
def test_linear_convergence_gives_its_rate_and_the_sum_of_what_follows(rate, first, n):
    """DeltaQ shrinks by rho^2 from step to step; what is left from the last step on is DeltaQ / (1 - rho)."""
    gains = first * rate ** (2.0 * np.arange(n))
    assert estimate_rate(gains) == pytest.approx(rate, rel=1e-9)
    assert estimate_remaining_gain(gains) == pytest.approx(gains[-1] / (1.0 - rate), rel=1e-6)


@pytest.mark.parametrize("gains", [[], [1.0], [1.0, 0.5]])
def test_fewer_than_three_gains_say_nothing(gains):
    assert estimate_rate(gains) == 1.0
    if gains:
        assert estimate_remaining_gain(gains) == float("inf")


def test_gains_that_grow_leave_everything_open():
    assert estimate_rate([1.0, 2.0, 4.0]) == 1.0
    assert estimate_remaining_gain([1.0, 2.0, 4.0]) == float("inf")


def test_the_slowest_of_the_last_steps_counts_and_older_ones_do_not():
    assert estimate_rate([1.0, 0.01, 0.0081]) == pytest.approx(0.9)
    # The slow step is four ratios back.
    assert estimate_rate([1.0, 0.99, 0.0099, 9.9e-5, 9.9e-7]) == pytest.approx(0.1)


@pytest.mark.parametrize("last", [0.0, -1e-18])
def test_a_step_that_gained_nothing_leaves_nothing(last):
    assert estimate_remaining_gain([1.0, 0.1, last]) == 0.0


def test_every_reason_says_what_to_do_next():
    advice = [reason.advice for reason in StopReason]
    assert all(advice)
    assert len({*advice}) == len(StopReason)
