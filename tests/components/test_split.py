"""Splits: what they gain is what the likelihood gains, and putting one in changes one component alone."""

import numpy as np
import pytest

from streamgmm.components.split import apply_split, covariance_of_group, find_splits
from streamgmm.em.passes import RowsInMemory
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from tests.helpers import problem_of


def one_component(x, covariance_type):
    """The data's own Gaussian, whitened."""
    family, n_features = FAMILIES[covariance_type], x.shape[1]
    identity = family.identity(n_features)
    covariances = identity if family.shared else identity[np.newaxis]
    return MixtureParameters.from_covariances(covariance_type, np.ones(1), np.zeros((1, n_features)), covariances)


def rows_of(x):
    return RowsInMemory(x, np.ones(len(x)))


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_a_split_of_two_clusters_finds_them_and_its_gain(covariance_type, rng):
    x = np.concatenate([rng.normal(-6.0, 1.0, (1500, 2)), rng.normal(6.0, 1.0, (500, 2))])
    problem, parameters = problem_of(x, covariance_type), one_component(x, covariance_type)
    (split,) = find_splits(problem, parameters, rows_of(x), np.random.default_rng(0))
    means = problem.whitening.unwhiten(split.means)
    two, z = apply_split(parameters, split), problem.whitening.whiten(x)
    assert np.sort(split.shares) == pytest.approx([0.25, 0.75], abs=0.02)
    np.testing.assert_allclose(np.sort(means[:, 0]), [-6.0, 6.0], atol=0.3)
    gained = evaluate(z, two, log_prob=True).log_prob.mean() - evaluate(z, parameters, log_prob=True).log_prob.mean()
    assert split.gain == pytest.approx(gained, abs=0.1)
    assert split.gain > 0.5


def test_of_a_shared_covariance_only_the_means_are_split(rng):
    """They are found with balls of their own, where the shared covariance is one."""
    x = np.concatenate([rng.normal([-6.0, 0.0], 1.0, (1000, 2)), rng.normal([6.0, 0.0], 1.0, (1000, 2))])
    problem, parameters = problem_of(x, "tied"), one_component(x, "tied")
    (split,) = find_splits(problem, parameters, rows_of(x), np.random.default_rng(0))
    assert split.covariances is None
    means = np.sort(problem.whitening.unwhiten(split.means)[:, 0])
    assert means[0] < -4.0 < 4.0 < means[1]
    np.testing.assert_array_equal(apply_split(parameters, split).covariances, parameters.covariances)


def test_rows_of_one_gaussian_gain_next_to_nothing(covariance_type, rng):
    x = rng.normal(size=(3000, 3))
    splits = find_splits(problem_of(x, covariance_type), one_component(x, covariance_type), rows_of(x), rng)
    assert all(split.gain < 0.02 for split in splits)


def test_the_component_that_gains_most_comes_first(rng):
    single, double = rng.normal(0.0, 1.0, (1000, 2)), rng.normal([40.0, 0.0], 1.0, (1000, 2))
    double[::2] += [0.0, 12.0]
    x = np.concatenate([single, double])
    problem = problem_of(x, "full")
    z = problem.whitening.whiten(x)
    halves = [z[:1000], z[1000:]]
    parameters = MixtureParameters.from_covariances(
        "full",
        np.array([0.5, 0.5]),
        np.array([half.mean(axis=0) for half in halves]),
        np.array([np.cov(half.T) for half in halves]),
    )
    first, *_ = find_splits(problem, parameters, rows_of(x), rng)
    assert first.component == 1
    two = apply_split(parameters, first)
    np.testing.assert_array_equal(two.means[0], parameters.means[0])
    np.testing.assert_array_equal(two.covariances[0], parameters.covariances[0])
    assert two.weights[0] == parameters.weights[0]
    assert two.weights.sum() == pytest.approx(1.0)
    assert two.n_components == 3


def test_only_the_components_that_were_asked_for_are_split(rng):
    x = rng.normal(size=(2000, 2))
    parameters = MixtureParameters.from_covariances(
        "diag", np.array([0.5, 0.5]), np.array([[-0.5, 0.0], [0.5, 0.0]]), np.ones((2, 2))
    )
    found = find_splits(problem_of(x, "diag"), parameters, rows_of(x), rng, [1])
    assert [split.component for split in found] == [1]


def test_too_few_rows_are_not_split(covariance_type, rng):
    x = rng.normal(size=(3, 2))
    assert find_splits(problem_of(x, covariance_type), one_component(x, covariance_type), rows_of(x), rng) == []


def test_the_covariance_of_a_group_is_that_of_numpy(covariance_type, rng):
    z, weight = rng.normal(size=(50, 3)), rng.uniform(0.5, 2.0, 50)
    center = np.average(z, axis=0, weights=weight)
    found = covariance_of_group(FAMILIES[covariance_type], z, center, weight)
    full = np.cov(z.T, aweights=weight, bias=True)
    np.testing.assert_allclose(found, full if found.ndim == 2 else np.diag(full), rtol=1e-12)
