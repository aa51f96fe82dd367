"""The penalty of the default and what it costs; statistics that are scaled."""

import numpy as np
import pytest
from scipy import optimize

from streamgmm.gaussian.assignment import statistics_of_responsibilities
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.regularization import PenalizedMStep
from tests.helpers import FAMILY_NAMES


@pytest.fixture
def z():
    return np.random.default_rng(0).normal(size=(400, 3))


@pytest.fixture
def resp(z):
    return np.random.default_rng(1).dirichlet(np.ones(2), len(z))


def whitening(family, x):
    return FAMILIES[family].whitening(x.mean(axis=0), np.cov(x.T, bias=True))


def test_the_default_puts_in_so_many_rows(z):
    """2 / sqrt(N), Chen and Tan's, and those that a component lacks."""
    family = FAMILIES["full"]
    assert PenalizedMStep.automatic(family, whitening("full", z), 400.0).strength == pytest.approx(0.1)
    assert PenalizedMStep.automatic(family, whitening("full", z), 400.0, shortage=3.0).strength == pytest.approx(3.1)
    assert PenalizedMStep.additive(family, whitening("full", z), 1e-3).strength == 0.0


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_the_m_step_is_where_likelihood_less_penalty_is_highest(covariance_type, z, resp):
    """Along any direction from it the expected log-likelihood, less the penalty, falls."""
    family = FAMILIES[covariance_type]
    m_step = PenalizedMStep.automatic(family, whitening(covariance_type, z), 4.0, shortage=20.0)
    statistics = statistics_of_responsibilities(family, z, resp, np.ones(len(z)))
    found = m_step.maximize(family, statistics)

    def objective(covariances):
        parameters = MixtureParameters.from_covariances(covariance_type, found.weights, found.means, covariances)
        offsets = z[:, np.newaxis] - parameters.means
        precisions = np.linalg.inv(parameters.full_covariances())
        squares = np.einsum("nki,kij,nkj->nk", offsets, precisions, offsets)
        log_det = np.linalg.slogdet(parameters.full_covariances())[1]
        return -0.5 * (resp * (squares + log_det)).sum() - m_step.penalty(parameters)

    best = objective(found.covariances)
    for factor in (0.97, 0.999, 1.001, 1.03):
        assert objective(factor * found.covariances) < best
    at = optimize.minimize_scalar(lambda f: -objective(f * found.covariances), bounds=(0.5, 2.0), method="bounded").x
    assert at == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_the_penalty_is_zero_at_its_target_and_linear_in_its_strength(covariance_type):
    family = FAMILIES[covariance_type]
    one = family.identity(3)
    covariances = one if family.shared else np.stack([one, one])
    target = MixtureParameters.from_covariances(covariance_type, np.array([0.5, 0.5]), np.zeros((2, 3)), covariances)
    wide = MixtureParameters.from_covariances(
        covariance_type, np.array([0.5, 0.5]), np.zeros((2, 3)), 4.0 * covariances
    )
    m_step = PenalizedMStep(2.0, one, 0.0 * one)
    assert m_step.penalty(target) == pytest.approx(0.0, abs=1e-14)
    # Two components, three directions: 1/4 + log 4 - 1 each, of 2 rows, halved.
    assert m_step.penalty(wide) == pytest.approx(0.5 * 2.0 * 2 * 3 * (0.25 + np.log(4.0) - 1.0))
    assert m_step.scale(3.0).penalty(wide) == pytest.approx(3.0 * m_step.penalty(wide))


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_what_is_added_costs_its_traces(covariance_type):
    family = FAMILIES[covariance_type]
    one = family.identity(3)
    covariances = 2.0 * (one if family.shared else np.stack([one, one]))
    parameters = MixtureParameters.from_covariances(
        covariance_type, np.array([0.25, 0.75]), np.zeros((2, 3)), covariances
    )
    m_step = PenalizedMStep(0.0, one, 0.1 * one)
    assert m_step.cost_of_added(parameters, np.array([25.0, 75.0])) == pytest.approx(0.5 * 100.0 * 3 * 0.1 / 2.0)
    assert PenalizedMStep(0.0, one, 0.0 * one).cost_of_added(parameters, np.array([25.0, 75.0])) == 0.0


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_scaled_statistics_are_those_of_rows_of_other_weights(covariance_type, z, resp):
    family = FAMILIES[covariance_type]
    once = statistics_of_responsibilities(family, z, resp, np.ones(len(z))).scaled(2.5)
    heavy = statistics_of_responsibilities(family, z, resp, np.full(len(z), 2.5))
    np.testing.assert_allclose(once.sums, heavy.sums, rtol=1e-12)
    assert once.sum_weight == pytest.approx(heavy.sum_weight)
    assert once.log_likelihood == pytest.approx(heavy.log_likelihood)
    if heavy.scatter is not None:
        np.testing.assert_allclose(once.scatter, heavy.scatter, rtol=1e-12)
