"""Laws of the covariance families, the frame and the M-step."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.assignment import statistics_of_responsibilities
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import e_step
from streamgmm.gaussian.m_step import factor_moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.regularization import PenalizedMStep
from tests.helpers import model_of


def m_step(family, statistics, regularization):
    return factor_moments(family, regularization.maximize(family, statistics))


def test_coordinates_round_trip(covariance_type, x, rng):
    model, data = model_of(x, 3, covariance_type, rng)
    back = model.parameters.unwhiten(model.whitening)
    np.testing.assert_allclose(back.means, data.means, rtol=1e-12)
    np.testing.assert_allclose(back.covariances, data.covariances, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(back.precisions, data.precisions, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        np.matmul(back.full_precisions_cholesky(), np.swapaxes(back.full_precisions_cholesky(), 1, 2)),
        np.linalg.inv(back.full_covariances()),
        rtol=1e-9,
        atol=1e-12,
    )


def test_the_precision_factor_stays_upper_triangular(x, rng):
    for name in ("full", "tied"):
        model, _ = model_of(x, 3, name, rng)
        factor = model.parameters.unwhiten(model.whitening).precisions_cholesky
        assert (np.tril(factor, -1) == 0).all()


def test_the_frame_makes_the_data_white(covariance_type, x):
    whitening = FAMILIES[covariance_type].whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    z = whitening.whiten(x)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-12)
    covariance = np.cov(z.T, bias=True)
    if covariance_type in ("full", "tied"):
        np.testing.assert_allclose(covariance, np.eye(3), atol=1e-10)
    elif covariance_type == "diag":
        np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-10)
    else:
        assert np.trace(covariance) == pytest.approx(3.0)
    np.testing.assert_allclose(whitening.unwhiten(z), x, rtol=1e-10, atol=1e-10)


def test_a_singular_covariance_gets_a_finite_frame(covariance_type, rng):
    a = rng.normal(size=(100, 2))
    x = np.column_stack([a, a[:, 0] + a[:, 1], np.full(100, 7.0)])
    whitening = FAMILIES[covariance_type].whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    z = whitening.whiten(x)
    assert np.isfinite(z).all()
    assert np.abs(z).max() < 10.0
    if covariance_type != "spherical":
        assert whitening.singular
        assert whitening.constant_features == (3,)


def _perturbed(parameters, rng, size):
    weights = parameters.weights * np.exp(size * rng.normal(size=len(parameters.weights)))
    means = parameters.means + size * rng.normal(size=parameters.means.shape)
    covariances = parameters.covariances.copy()
    if parameters.covariance_type in ("full", "tied"):
        root = np.eye(parameters.n_features) + size * rng.normal(size=(parameters.n_features,) * 2)
        covariances = root @ covariances @ root.T
    else:
        covariances = covariances * np.exp(size * rng.normal(size=covariances.shape))
    return MixtureParameters.from_covariances(parameters.covariance_type, weights / weights.sum(), means, covariances)


@pytest.mark.parametrize("strength", [0.0, 50.0])
def test_the_m_step_is_the_maximum(covariance_type, strength, x, rng):
    """No mixture near the M-step's has a larger expected log-likelihood less the penalty."""
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    z = whitening.whiten(x)
    resp = rng.dirichlet(np.ones(3), len(x))
    statistics = statistics_of_responsibilities(family, z, resp, np.ones(len(x)))
    regularization = PenalizedMStep(strength, family.identity(3), 0.0 * family.identity(3))

    def objective(p):
        expected = family.expected_log_likelihood(statistics, p.weights, p.means, p.precisions_cholesky)
        return expected - regularization.penalty(p)

    best = m_step(family, statistics, regularization)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(5):
            assert objective(_perturbed(best, rng, size)) < objective(best)


def test_the_m_step_equals_weighted_moments(covariance_type, x, rng):
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    resp, weight = rng.dirichlet(np.ones(3), len(x)), rng.uniform(0, 3, len(x))
    statistics = statistics_of_responsibilities(family, whitening.whiten(x), resp, weight)
    found = m_step(family, statistics, PenalizedMStep(0.0, family.identity(3), 0.0 * family.identity(3))).unwhiten(
        whitening
    )
    r = resp * weight[:, np.newaxis]
    means = r.T @ x / r.sum(axis=0)[:, np.newaxis]
    full = np.stack([np.cov(x.T, aweights=r[:, k], bias=True) for k in range(3)])
    diagonal = np.diagonal(full, axis1=1, axis2=2)
    expected = {
        "full": full,
        "tied": np.einsum("k,kij->ij", r.sum(axis=0) / r.sum(), full),
        "diag": diagonal,
        "spherical": diagonal.mean(axis=1),
    }[covariance_type]
    np.testing.assert_allclose(found.weights, r.sum(axis=0) / r.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.means, means, rtol=1e-10)
    np.testing.assert_allclose(found.covariances, expected, rtol=1e-9, atol=1e-10)


def test_the_penalty_draws_towards_the_data(covariance_type, x, rng):
    """With an overwhelming strength every covariance is the data's own, and its penalty is zero."""
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    resp = rng.dirichlet(np.ones(3), len(x))
    statistics = statistics_of_responsibilities(family, whitening.whiten(x), resp, np.ones(len(x)))
    heavy = PenalizedMStep(1e12, family.identity(3), 0.0 * family.identity(3))
    found = m_step(family, statistics, heavy)
    target = np.broadcast_to(family.identity(3), found.covariances.shape)
    np.testing.assert_allclose(found.covariances, target, atol=1e-6)
    assert 0.0 <= heavy.penalty(found) < 1e-3


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 500), max_size=6), name=st.sampled_from(tuple(FAMILIES)))
def test_statistics_of_parts_add_up_to_those_of_the_whole(cuts, name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    model, _ = model_of(x, 3, name, rng)
    whole = e_step(x, None, model)
    edges = [0, *sorted(cuts), 500]
    parts = [e_step(x[a:b], None, model) for a, b in pairwise(edges)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    np.testing.assert_allclose(total.sums, whole.sums, rtol=1e-11, atol=1e-9)
    assert total.sum_weight == whole.sum_weight
    assert total.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)


def test_a_singular_covariance_is_named(covariance_type):
    family = FAMILIES[covariance_type]
    covariances = np.zeros(family.shape(2, 2))
    with pytest.raises(SingularCovarianceError, match="reg_covar"):
        MixtureParameters.from_covariances(covariance_type, np.full(2, 0.5), np.zeros((2, 2)), covariances)


def test_the_number_of_parameters_is_scikit_learns(covariance_type, x, rng):
    from sklearn.mixture import GaussianMixture

    _, data = model_of(x, 3, covariance_type, rng)
    reference = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(x)
    assert data.n_parameters == reference._n_parameters()


@pytest.mark.parametrize(("strength", "added"), [(0.0, 0.0), (20.0, 0.0), (0.0, 0.1)])
def test_the_rise_of_an_m_step_is_the_difference_of_expected_log_likelihoods(covariance_type, strength, added, rng):
    """Both are DeltaQ: one as a sum of divergences, one as a difference."""
    family, z = FAMILIES[covariance_type], rng.normal(size=(500, 3))
    target = 0.3 * family.identity(3)
    regularization = PenalizedMStep(strength, target, added * family.identity(3))

    def of_resp(resp):
        return statistics_of_responsibilities(family, z, resp, np.ones(500))

    old, after = (of_resp(rng.dirichlet([1.0, 1.0], 500)) for _ in range(2))
    before, new = m_step(family, old, regularization), m_step(family, after, regularization)
    n_k = after.component_weights

    def objective(p):
        expected = family.expected_log_likelihood(after, p.weights, p.means, p.precisions_cholesky)
        return expected - regularization.penalty(p) - regularization.cost_of_added(p, n_k)

    rise = regularization.expected_rise(n_k, before, new)
    assert rise == pytest.approx(objective(new) - objective(before), rel=1e-8)
    assert regularization.expected_rise(n_k, new, new) == pytest.approx(0.0, abs=1e-20)
