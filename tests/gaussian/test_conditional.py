"""Marginals and conditionals against integrals of the density that SciPy computes, on a grid."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from streamgmm.gaussian.conditional import marginalize, regress
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.univariate import cumulative, quantile
from tests.helpers import FAMILY_NAMES

N_COMPONENTS, N_FEATURES = 3, 3


def a_mixture(covariance_type, seed=0, scale=1.0, n_features=N_FEATURES):
    rng = np.random.default_rng(seed)
    factors = np.eye(n_features) + 0.5 * rng.normal(size=(N_COMPONENTS, n_features, n_features))
    matrices = scale**2 * np.einsum("kij,klj->kil", factors, factors)
    covariances = {
        "full": matrices,
        "tied": matrices[0],
        "diag": np.diagonal(matrices, axis1=1, axis2=2).copy(),
        "spherical": matrices[:, 0, 0].copy(),
    }[covariance_type]
    means = scale * rng.normal(size=(N_COMPONENTS, n_features))
    return MixtureParameters.from_covariances(covariance_type, rng.dirichlet(np.ones(N_COMPONENTS)), means, covariances)


def density(parameters, x):
    covariances = parameters.full_covariances()
    return sum(
        weight * multivariate_normal.pdf(x, mean, covariance)
        for weight, mean, covariance in zip(parameters.weights, parameters.means, covariances, strict=True)
    )


def grid(parameters, feature, n_nodes=300):
    """Nodes and weights of Gauss and Legendre where a feature can be, to 1e-20 of its mass."""
    deviations = np.sqrt(parameters.variances()[:, feature])
    low = (parameters.means[:, feature] - 9.5 * deviations).min()
    high = (parameters.means[:, feature] + 9.5 * deviations).max()
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    return 0.5 * (high - low) * nodes + 0.5 * (high + low), 0.5 * (high - low) * weights


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_a_marginal_is_the_density_with_the_others_integrated_out(covariance_type, scale):
    parameters = a_mixture(covariance_type, scale=scale)
    y, w = grid(parameters, 1)
    at = parameters.means[:, [2, 0]] + 0.3 * scale
    x = np.empty((len(at), len(y), 3))
    x[..., 2], x[..., 0], x[..., 1] = at[:, [0]], at[:, [1]], y
    integral = density(parameters, x) @ w
    found = density(marginalize(parameters, np.array([2, 0])), at)
    np.testing.assert_allclose(found, integral, rtol=1e-10)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_means_and_covariances_of_targets_are_their_integrals(covariance_type, scale):
    parameters = a_mixture(covariance_type, scale=scale)
    targets, given = np.array([2, 0]), np.array([1])
    values = scale * np.array([[-1.0], [0.2], [2.5]])
    regression = regress(parameters, targets, given)
    mean, covariance = regression.mean(values), regression.covariance(values)
    (y2, w2), (y0, w0) = grid(parameters, 2), grid(parameters, 0)
    t = np.stack(np.meshgrid(y2, y0, indexing="ij"), axis=-1)
    w = w2[:, None] * w0
    for row, value in enumerate(values[:, 0]):
        x = np.empty((*t.shape[:2], 3))
        x[..., 2], x[..., 0], x[..., 1] = t[..., 0], t[..., 1], value
        mass = w * density(parameters, x)
        mass /= mass.sum()
        expected = np.einsum("ij,ijt->t", mass, t)
        offsets = t - expected
        np.testing.assert_allclose(mean[row], expected, rtol=1e-8, atol=1e-8 * scale)
        second = np.einsum("ij,ijt,ijs->ts", mass, offsets, offsets)
        np.testing.assert_allclose(covariance[row], second, rtol=1e-8, atol=1e-8 * scale**2)
        at, _ = regression.at(np.array([value]))
        np.testing.assert_allclose(density(at, t[::40, ::40]), (mass / w)[::40, ::40], rtol=1e-8, atol=1e-10 / scale**2)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_features_that_are_neither_given_nor_targets_are_integrated_out(covariance_type):
    parameters = a_mixture(covariance_type)
    values = np.array([[0.4]])
    whole = regress(parameters, np.array([0, 1]), np.array([2])).mean(values)
    part = regress(parameters, np.array([1]), np.array([2])).mean(values)
    np.testing.assert_allclose(part[:, 0], whole[:, 1], rtol=1e-12)


def test_far_from_all_components_the_nearest_says_what_to_expect():
    """Densities there underflow; their ratio does not."""
    parameters = MixtureParameters.from_covariances(
        "full", np.array([0.5, 0.5]), np.array([[0.0, 0.0], [10.0, 5.0]]), np.array([[[1.0, 0.9], [0.9, 1.0]]] * 2)
    )
    found = regress(parameters, np.array([1]), np.array([0])).mean(np.array([[1000.0]]))
    np.testing.assert_allclose(found, [[5.0 + 0.9 * 990.0]], rtol=1e-12)


def test_cumulative_probabilities_and_quantiles_undo_each_other_deep_in_the_tails():
    weights, means, deviations = np.array([0.3, 0.7]), np.array([-40.0, 2.0]), np.array([1e-3, 5.0])
    probability = np.array([1e-300, 1e-12, 0.01, 0.3, 0.5, 0.99, 1 - 1e-12])
    many = (np.broadcast_to(of, (len(probability), 2)) for of in (weights, means, deviations))
    y = quantile(probability, *many)
    assert (np.diff(y) > 0).all()
    expected = (weights * norm.cdf(y[:, None], means, deviations)).sum(axis=1)
    np.testing.assert_allclose(cumulative(y, weights, means, deviations), expected, rtol=1e-13)
    np.testing.assert_allclose(expected[:-1], probability[:-1], rtol=1e-10)
    np.testing.assert_allclose(cumulative(y[-1:], weights, means, deviations, upper=True), 1e-12, rtol=1e-3)


def test_quantiles_of_components_that_are_the_same_but_for_rounding():
    """The bracket is then narrower than what the cumulative probability can tell."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights, means = rng.dirichlet(np.ones(3)), 1e-17 * rng.normal(size=3)
        found = quantile(np.array([0.5, 0.1]), *(np.tile(of, (2, 1)) for of in (weights, means, np.ones(3))))
        np.testing.assert_allclose(found, norm.ppf([0.5, 0.1]), atol=1e-14)
