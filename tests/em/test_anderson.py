"""Coordinates in which every vector is a mixture, Anderson's extrapolation, and accelerated fits against plain EM."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture
from streamgmm.em.anderson import History
from streamgmm.gaussian.assignment import statistics_of_responsibilities
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.m_step import factor_moments
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.gaussian.unconstrained import fisher_metric, from_unconstrained, to_unconstrained
from tests.helpers import FAMILY_NAMES, clusters, model_of


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(FAMILY_NAMES), size=st.floats(0.0, 3.0))
def test_every_vector_is_a_mixture_and_has_its_coordinates(seed, name, size):
    rng = np.random.default_rng(seed)
    model, _ = model_of(clusters(rng, n_rows=200), 3, name, rng)
    u = to_unconstrained(model.parameters)
    back = from_unconstrained(u, name, 3, 3)
    np.testing.assert_allclose(back.weights, model.parameters.weights, rtol=1e-12)
    np.testing.assert_allclose(back.means, model.parameters.means, rtol=1e-12)
    np.testing.assert_allclose(back.covariances, model.parameters.covariances, rtol=1e-9, atol=1e-12)
    moved = from_unconstrained(u + size * rng.normal(size=u.shape), name, 3, 3)
    assert moved.weights.sum() == pytest.approx(1.0)
    assert (FAMILIES[name].smallest_eigenvalues(moved.covariances) > 0).all()


def test_the_metric_measures_the_loss_of_likelihood(covariance_type, x, rng):
    """|W du|^2 / 2 is the expected loss of complete-data likelihood of a small step from an M-step's optimum.

    To first order in the correlations of the features, which the diagonal leaves out: these are small here.
    """
    family = FAMILIES[covariance_type]
    white = rng.normal(size=(4000, 3))
    resp = np.eye(2)[(np.arange(4000) % 3 == 0).astype(int)]
    statistics = statistics_of_responsibilities(family, white, resp, np.ones(4000))
    best = factor_moments(
        family, PenalizedMStep(0.0, family.identity(3), 0.0 * family.identity(3)).maximize(family, statistics)
    )

    def expected(p):
        return family.expected_log_likelihood(statistics, p.weights, p.means, p.precisions_cholesky) / 4000

    u, weight = to_unconstrained(best), fisher_metric(best)
    for at in range(2, len(u)):  # weights are normalised: single ones are no free direction
        du = np.zeros_like(u)
        du[at] = 1e-3
        loss = expected(best) - expected(from_unconstrained(u + du, covariance_type, 2, 3))
        assert loss == pytest.approx(0.5 * float((weight * du) @ (weight * du)), rel=0.1)


def test_a_linear_map_is_solved_in_as_many_steps_as_it_has_directions(rng):
    """Anderson's extrapolation is GMRES where the map is linear (Walker & Ni 2011)."""
    n = 6
    matrix = np.diag(np.linspace(0.1, 0.99, n))
    target = rng.normal(size=n)
    u, history = np.zeros(n), History()
    for _ in range(n + 1):
        image = matrix @ (u - target) + target
        history = history.push(image - u, image)
        u = history.extrapolated(np.ones(n))
    np.testing.assert_allclose(u, target, atol=1e-8)


def quiet(model, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x)


@pytest.mark.parametrize("tol", [1e-4, 1e-7])
def test_accelerated_ends_no_lower_than_plain_and_sooner(covariance_type, tol, rng):
    x = clusters(rng, n_rows=4000, n_components=4, spread=1.5)
    keywords = {"covariance_type": covariance_type, "init_params": "k-means++", "random_state": 2, "max_iter": 3000}
    plain = quiet(GaussianMixture(4, accelerate=False, tol=tol, **keywords), x)
    fast = quiet(GaussianMixture(4, accelerate=True, tol=tol, **keywords), x)
    assert fast.converged_
    assert fast.lower_bound_ >= plain.lower_bound_ - tol
    assert fast.n_iter_ < plain.n_iter_


@pytest.mark.parametrize("seed", range(4))
def test_accepted_bounds_never_fall(covariance_type, seed, rng):
    x = clusters(rng, n_rows=3000, n_components=5, spread=1.0)
    for dtype in (np.float64, np.float32):
        model = GaussianMixture(
            5, covariance_type=covariance_type, init_params="random_from_data", random_state=seed, tol=1e-8, max_iter=60
        )
        bounds = quiet(model, x.astype(dtype)).lower_bounds_
        assert (np.diff(bounds) >= -1e-12 * np.abs(bounds[:-1])).all()
        assert len(bounds) == model.n_iter_ == len(model.fit_report_.iterations)


@pytest.mark.parametrize("apart", [0.3, 0.5])
def test_a_saddle_is_left(apart, rng):
    """From two nearly equal components EM hardly moves at first; the fit must not end there.

    (From so near that the first gains are a hundredth of `tol`, it does: nothing tells that from an optimum.)
    """
    x = np.concatenate([rng.normal(-2, 1, (2000, 1)), rng.normal(2, 1, (2000, 1))])
    means = x.mean(axis=0) + np.array([[-apart], [apart]])
    model = quiet(
        GaussianMixture(2, means_init=means, weights_init=[0.5, 0.5], precisions_init=np.full((2, 1, 1), 0.2)), x
    )
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [-2, 2], atol=0.2)
