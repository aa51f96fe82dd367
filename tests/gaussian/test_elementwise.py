"""exp and log of the kernels, against NumPy's in units in the last place."""

import numba
import numpy as np

from streamgmm.gaussian.kernels.elementwise import EXP_UNDERFLOW, exp, log


@numba.njit
def _exp_of(values):
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = exp(values[i])
    return out


@numba.njit
def _log_of(values):
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = log(values[i])
    return out


def test_exp_is_within_two_ulp_where_the_softmax_meets_it(rng):
    values = np.concatenate([-rng.uniform(0, 707, 200_000), -rng.uniform(0, 1, 100_000), -np.logspace(-300, 2, 10_000)])
    expected = np.exp(values)
    assert np.abs((_exp_of(values) - expected) / np.spacing(expected)).max() <= 2.0


def test_exp_at_the_ends():
    assert _exp_of(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    below = _exp_of(np.array([EXP_UNDERFLOW, -745.0, -1e5, -1e300, -np.inf]))
    assert below.tolist() == [0.0] * 5


def test_log_is_within_two_ulp(rng):
    values = np.concatenate([rng.uniform(1, 1025, 200_000), 1.0 + np.logspace(-16, -1, 10_000), [1.0, 2.0, np.sqrt(2)]])
    expected = np.log(values)
    error = np.abs(_log_of(values) - expected)
    assert (error <= 2.0 * np.spacing(np.maximum(expected, np.finfo(float).tiny))).all()
