"""Fits compared: at one optimum or not, and whether a split of a component would still describe something."""

import numpy as np

from streamgmm.components.relocate import relocate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.initialization.comparison import compare_fits, is_well_described
from tests.helpers import a_bad_optimum, fitted, problem_of


def test_only_the_mixture_that_the_rows_are_of_leaves_nothing(three_clusters):
    problem, bad, rows = a_bad_optimum(three_clusters, "full")
    assert not is_well_described(problem, bad, rows)
    best, _ = relocate(problem, bad, rows, tol=1e-5, seed=0, n_steps=1000)
    assert is_well_described(problem, best, rows)


def test_rows_of_no_mixture_leave_something(rng):
    x = rng.standard_t(3.0, size=(6000, 2))
    problem = problem_of(x, "full")
    means, covariances = np.array([[-0.5, 0.0], [0.5, 0.0]]), np.stack([np.eye(2)] * 2)
    start = MixtureParameters.from_covariances("full", np.full(2, 0.5), means, covariances)
    state, rows = fitted(problem, x, start)
    assert not is_well_described(problem, state, rows)


def test_fits_at_one_optimum_count_once(covariance_type, three_clusters):
    problem, bad, rows = a_bad_optimum(three_clusters, covariance_type)
    best, _ = relocate(problem, bad, rows, tol=1e-5, seed=0, n_steps=1000)
    again, _ = relocate(problem, bad, rows, tol=1e-5, seed=1, n_steps=1000)
    compared = compare_fits(problem, [bad, best, again], rows)
    assert [compared.count_same(state) for state in (bad, best, again)] == [1, 2, 2]
    first, *others = compared.distinct().states
    assert first.lower_bound == max(best.lower_bound, again.lower_bound)
    assert others == [bad]
