"""The default penalty: it costs honest components nothing, however tight they are, and keeps others from collapsing."""

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.gaussian.assignment import statistics_of_responsibilities
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.m_step import factor_moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.initialization.target import estimate_target
from tests.helpers import quiet_fit

CENTRES = np.array([[-50.0, 10.0], [30.0, -40.0], [5.0, 55.0], [60.0, 20.0]])


def places(rng, deviations, n_each=200):
    """Clusters at the four centres, of these standard deviations."""
    return np.concatenate(
        [c + d * rng.normal(size=(n_each, 2)) for c, d in zip(CENTRES, np.broadcast_to(deviations, 4), strict=True)]
    )


def deviations_of(model):
    """Standard deviations of each component's features, the components in the order of their means."""
    variances = np.diagonal(model._parameters().full_covariances(), axis1=1, axis2=2)
    return np.sqrt(variances)[np.argsort(model.means_[:, 0])]


def assert_as_wide_as_without(model, x, centres):
    """Within 2 % of the standard deviations that no regularisation finds from the true start."""
    free = GaussianMixture(
        len(centres), covariance_type=model.covariance_type, reg_covar=0.0, means_init=centres, random_state=0
    )
    assert len(model.weights_) == len(centres)
    np.testing.assert_allclose(deviations_of(model), deviations_of(quiet_fit(free, x)), rtol=0.02)


@pytest.mark.parametrize("ratio", [10.0, 1e3, 1e6])
def test_tight_clusters_stay_as_tight_as_they_are(covariance_type, ratio, rng):
    x = places(rng, 50.0 / ratio)
    model = quiet_fit(GaussianMixture(4, covariance_type=covariance_type, random_state=0), x)
    assert_as_wide_as_without(model, x, CENTRES)
    assert model.fit_report_.regularized == ()


def test_tight_and_broad_clusters_side_by_side(rng):
    x = places(rng, [5.0, 5.0, 1e-2, 1e-4])
    assert_as_wide_as_without(quiet_fit(GaussianMixture(4, random_state=0), x), x, CENTRES)


def test_one_feature_with_a_few_far_outliers_widens_nothing(rng):
    x = np.concatenate([rng.normal(0.0, 1.0, (600, 2)), rng.normal(8.0, 1.0, (400, 2))])
    x[:6, 1] = [1e7, -3e6, 2e7, 5e5, -8e6, 4e6]
    model = quiet_fit(GaussianMixture(3, random_state=0), x)
    near = model.weights_ > 0.1
    assert near.sum() == 2
    assert np.sqrt(model.covariances_[near, 1, 1]).max() < 1.1


def test_pairs_of_clusters_that_the_whole_data_blurs_are_told_apart(rng):
    """Pairs 20 standard deviations apart, four orders of magnitude closer to each other than to the rest."""
    pairs = np.concatenate([CENTRES, CENTRES + np.array([0.2, 0.0])])
    x = np.concatenate([c + 0.01 * rng.normal(size=(200, 2)) for c in pairs])
    model = quiet_fit(GaussianMixture(8, random_state=0), x)
    distances = np.linalg.norm(model.means_[:, np.newaxis] - pairs, axis=2)
    assert (distances.min(axis=0) < 0.01).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_clusters_of_a_few_rows_are_not_blurred(seed):
    """Each is too small to tell its scale, all together are not; a trace of a far row must not stand against it."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(centre, 1.0, (8, 1)) for centre in (0.0, 12.0, 30.0)])
    model = quiet_fit(GaussianMixture(3, random_state=0), x)
    assert deviations_of(model).max() < 1.5


def test_hours_in_seconds_since_1970_are_a_tight_cluster(rng):
    hour = 3600.0
    x = np.column_stack([1.7e9 + hour * np.repeat([0.0, 24.0, 96.0], 300), np.zeros(900)])
    x += np.array([hour / 6, 1.0]) * rng.normal(size=x.shape)
    model = quiet_fit(GaussianMixture(3, random_state=0), x)
    np.testing.assert_allclose(deviations_of(model)[:, 0], hour / 6, rtol=0.1)


@pytest.mark.parametrize("n_features", [2, 8])
def test_few_rows_of_one_cluster_give_no_component_that_collapses(n_features, rng):
    x = rng.normal(size=(15 * n_features, n_features))
    model = quiet_fit(GaussianMixture(4, random_state=0), x)
    assert np.sqrt(np.linalg.eigvalsh(model.covariances_)).min() > 0.05


def test_repeated_rows_are_no_better_evidence_than_one(rng):
    """Rows that stand there fifty times: components may sit on them, but stay as wide as they are with one of each."""
    once = rng.normal(size=(60, 2))
    model = quiet_fit(GaussianMixture(4, random_state=0), np.repeat(once, 50, axis=0))
    assert np.sqrt(np.linalg.eigvalsh(model.covariances_)).min() > 0.01


def setting(x, labels, family):
    """The problem, the mixture with these labels and the rows, without regularisation but for a little."""
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    z = whitening.whiten(x)
    resp = np.eye(labels.max() + 1)[labels]
    weak = PenalizedMStep(1e-3, family.identity(2), 0.0 * family.identity(2))
    parameters = factor_moments(
        family, weak.maximize(family, statistics_of_responsibilities(family, z, resp, np.ones(len(x))))
    )
    return Problem(whitening, weak, np.full(2, 9.0), False, z, 0), parameters, RowsInMemory(x, np.ones(len(x)))


def test_the_target_is_the_harmonic_mean_of_the_covariances(covariance_type, rng):
    family = FAMILIES[covariance_type]
    x, labels = places(rng, [1.0, 2.0, 3.0, 4.0], n_each=40_000), np.repeat(np.arange(4), 40_000)
    problem, parameters, rows = setting(x, labels, family)
    target = family.unwhiten_covariances(estimate_target(problem, parameters, rows), problem.whitening)
    # tied components have one covariance, the pooled one.
    variance = (
        np.mean(np.square([1.0, 2.0, 3.0, 4.0])) if family.shared else 4.0 / sum(1.0 / v**2 for v in (1, 2, 3, 4))
    )
    np.testing.assert_allclose(target, variance * family.identity(2), rtol=0.02, atol=0.02 * variance)


def test_a_component_on_one_value_says_nothing_of_a_scale(covariance_type, rng):
    """Of 5,000 rows on one point four lie beside it: their variance is tiny, and rests on four rows."""
    family = FAMILIES[covariance_type]
    broad = 3.0 + rng.normal(size=(5000, 2))
    point = np.zeros((5000, 2))
    point[:4] = 1e-3 * rng.normal(size=(4, 2))
    x, labels = np.concatenate([broad, point]), np.repeat([0, 1], 5000)
    problem, parameters, rows = setting(x, labels, family)
    target = family.unwhiten_covariances(estimate_target(problem, parameters, rows), problem.whitening)
    smallest = np.linalg.eigvalsh(target)[0] if target.ndim == 2 else target.min()
    assert smallest > 0.1


@pytest.mark.parametrize(("n_features", "worst"), [(150, 320.0), (99, 240.0), (60, 130.0)])
def test_fewer_rows_than_features_give_a_density_that_is_finite_off_them(n_features, worst, rng):
    """A hundred rows; the truth is 1.42 nats per feature, and the density of the rows' own covariance is nothing."""
    x, new = rng.normal(size=(100, n_features)), rng.normal(size=(500, n_features))
    assert GaussianMixture(random_state=0).fit(x).score(new) > -worst
    assert GaussianMixture(covariance_type="tied", random_state=0).fit(x).score(new) > -worst


def test_the_report_names_components_that_are_mostly_regularisation(rng):
    x = np.concatenate([rng.normal(size=(500, 2)), np.full((100, 2), 20.0)])
    model = quiet_fit(GaussianMixture(2, random_state=0), x)
    on_the_point = int(np.argmax(model.means_[:, 0]))
    assert [component for component, _ in model.fit_report_.regularized] == [on_the_point]
    assert model.fit_report_.regularized[0][1] == pytest.approx(1.0, abs=1e-3)
    assert f"components {on_the_point} (100%)" in str(model.fit_report_)


def test_shares_are_what_a_penalty_makes_up(covariance_type, rng):
    """Sigma = (W + s T) / (N + s): the share of s T / (N + s), along the axis where it is largest."""
    family = FAMILIES[covariance_type]
    x = rng.normal(size=(1000, 2)) * [1.0, 0.1]
    whitening = family.whitening(np.zeros(2), np.eye(2))
    strength = 10.0
    regularization = PenalizedMStep(strength, family.identity(2), 0.0 * family.identity(2))
    statistics = statistics_of_responsibilities(family, whitening.whiten(x), np.ones((1000, 1)), np.ones(1000))
    parameters: MixtureParameters = factor_moments(family, regularization.maximize(family, statistics))
    covariance = parameters.full_covariances()[0]
    expected = strength / (1000 + strength) / np.linalg.eigvalsh(covariance)[0]
    if covariance_type == "diag":
        expected = strength / (1000 + strength) / covariance.diagonal().min()
    assert regularization.regularized_shares(parameters, 1000.0)[0] == pytest.approx(expected, rel=1e-9)
