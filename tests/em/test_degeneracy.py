"""Components that starve or collapse never end a fit with NaN or a crash."""

import warnings

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.exceptions import ComponentWarning, SingularCovarianceError
from tests.helpers import clusters, quiet_fit


def assert_sound(model, x):
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_"):
        assert np.isfinite(getattr(model, name)).all()
    assert model.weights_.sum() == pytest.approx(1.0)
    assert (model.weights_ > 0).all()
    assert np.isfinite(model.score(x))


def test_a_mean_far_from_all_rows_is_seeded_again(covariance_type, x):
    start = np.concatenate([x[:2], [[1e6, 1e6, 1e6]]])
    model = quiet_fit(GaussianMixture(3, covariance_type=covariance_type, means_init=start, random_state=0), x)
    assert_sound(model, x)
    assert len(model.weights_) == 3
    assert np.abs(model.means_).max() < 100


@pytest.mark.parametrize("reg_covar", ["auto", 1e-6])
def test_more_components_than_distinct_rows(covariance_type, reg_covar, rng):
    x = np.repeat(rng.normal(size=(4, 2)), 25, axis=0)
    model = quiet_fit(GaussianMixture(8, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0), x)
    assert_sound(model, x)


@pytest.mark.parametrize("reg_covar", ["auto", 1e-6])
def test_a_constant_and_a_dependent_feature(covariance_type, reg_covar, rng):
    a = clusters(rng, n_features=2)
    x = np.column_stack([a, a[:, 0] - a[:, 1], np.full(len(a), 3.0)])
    model = quiet_fit(GaussianMixture(3, covariance_type=covariance_type, reg_covar=reg_covar, random_state=0), x)
    assert_sound(model, x)


def test_without_regularisation_a_singular_covariance_is_an_error(rng):
    import pandas as pd

    x = pd.DataFrame({"good": rng.normal(size=100), "flat": np.ones(100)})
    with pytest.raises(SingularCovarianceError, match="'auto'") as caught:
        GaussianMixture(2, reg_covar=0).fit(x)
    assert "flat never vary" in str(caught.value)


def test_a_component_that_collapses_again_and_again_is_left_out_with_a_warning(rng):
    """Half the rows are one point: with no regularisation components collapse onto it, wherever they are seeded."""
    x = np.concatenate([np.zeros((500, 2)), rng.normal(size=(500, 2))])
    with pytest.warns(ComponentWarning, match=r"2 of 3 components starved or collapsed .* left out.*n_components"):
        model = GaussianMixture(3, reg_covar=0, random_state=0).fit(x)
    assert_sound(model, x)
    assert len(model.weights_) == 1


def test_a_starved_component_is_seeded_again_without_a_warning(rng):
    """Two clusters, and a third component that starts where there are no rows: it comes to describe some."""
    x = np.concatenate(
        [rng.normal(-8.0, 1.0, (400, 2)), rng.normal(8.0, 1.0, (400, 2)), rng.normal(0.0, 1.0, (400, 2))]
    )
    start = [[-8.0, -8.0], [8.0, 8.0], [500.0, -500.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GaussianMixture(3, means_init=start, random_state=0).fit(x)
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [-8.0, 0.0, 8.0], atol=0.3)


def test_identical_rows(covariance_type):
    x = np.full((30, 2), 5.0)
    model = quiet_fit(GaussianMixture(2, covariance_type=covariance_type), x)
    assert_sound(model, x)
    np.testing.assert_allclose(model.means_, 5.0)


def test_an_outlier_far_away(covariance_type, x):
    x[0] = 1e9
    assert_sound(quiet_fit(GaussianMixture(3, covariance_type=covariance_type, random_state=0), x), x)


@pytest.mark.parametrize("scale", [1e-150, 1e-12, 1e12, 1e100])
def test_units_do_not_matter(covariance_type, scale, x):
    """The same fit in any unit: the penalty, the start and the kernels know none."""
    one = quiet_fit(GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-8), x)
    other = quiet_fit(GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-8), x * scale)
    np.testing.assert_allclose(other.means_ / scale, one.means_, rtol=1e-6, atol=1e-8)
    assert (one.predict(x) == other.predict(x * scale)).mean() > 0.9999


def test_a_number_for_reg_covar_is_not_overruled():
    """Three values six times each have no variance but what is added to it."""
    x = np.repeat([[0.0], [1000.0], [5000.0]], 6, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GaussianMixture(3, reg_covar=1e-3, random_state=0).fit(x)
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [0.0, 1000.0, 5000.0])
    np.testing.assert_allclose(model.covariances_, 1e-3)


def test_a_small_tight_cluster_is_kept_where_reg_covar_is_a_number():
    rng = np.random.default_rng(2)
    broad = [rng.normal(0, 3000, (400, 2)), rng.normal(20000, 2000, (400, 2))]
    x = np.concatenate([*broad, rng.normal([60000, -20000], 0.3, (15, 2))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GaussianMixture(3, reg_covar=1e-6, random_state=0).fit(x)
    assert np.round(model.weights_ * len(x)).min() == 15


@pytest.mark.parametrize("n_rows", [9, 4])
@pytest.mark.parametrize("reg_covar", ["auto", 1e-6])
def test_components_that_are_given_stay(n_rows, reg_covar):
    """One of them has a single row: that is what was asked for."""
    x = np.r_[np.full(n_rows - 1, 0.2), 0.9][:, np.newaxis]
    model = GaussianMixture(
        2, reg_covar=reg_covar, weights_init=[0.5, 0.5], means_init=[[0.2], [0.9]], precisions_init=np.ones((2, 1, 1))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x)
    assert len(model.weights_) == 2
