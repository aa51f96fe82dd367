"""To scikit-learn and back: every bit of the parameters, and what both predict."""

import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as Reference

from streamgmm import GaussianMixture, InputError, StopReason
from tests.helpers import FAMILY_NAMES, clusters, quiet_fit

ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


@pytest.fixture
def frame():
    return pd.DataFrame(clusters(np.random.default_rng(0), 900), columns=["a", "b", "c"])


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_there_and_back(covariance_type, frame):
    model = GaussianMixture(
        3, covariance_type=covariance_type, init_params="kmeans", random_state=4, reg_covar=1e-5, n_init=2
    ).fit(frame)
    there = model.to_sklearn()
    assert type(there) is Reference
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(there, name), getattr(model, name))
    np.testing.assert_allclose(there.predict_proba(frame), model.predict_proba(frame), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(there.score_samples(frame), model.score_samples(frame), rtol=1e-13)
    assert there.bic(frame) == pytest.approx(model.bic(frame), rel=1e-13)
    assert list(there.feature_names_in_) == ["a", "b", "c"]
    assert (there.n_init, there.reg_covar, there.random_state, there.init_params) == (2, 1e-5, 4, "kmeans")
    back = GaussianMixture.from_sklearn(there)
    assert back == model
    assert (back.converged_, back.n_iter_, back.lower_bound_) == (model.converged_, model.n_iter_, model.lower_bound_)
    assert there.fit(frame).converged_


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_from_scikit_learn_and_on(covariance_type, frame):
    reference = Reference(3, covariance_type=covariance_type, random_state=0, init_params="k-means++").fit(frame)
    model = GaussianMixture.from_sklearn(reference)
    np.testing.assert_array_equal(model.predict(frame), reference.predict(frame))
    np.testing.assert_allclose(model.score_samples(frame), reference.score_samples(frame), rtol=1e-12)
    assert model.stop_reason_ is StopReason.GIVEN
    again = model.to_sklearn()
    for name in (*ARRAYS, "converged_", "n_iter_", "lower_bound_", "feature_names_in_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))
    assert again.get_params() == {**reference.get_params(), "verbose": 0}
    assert model.calibrate(frame).outliers(frame, 0.1).sum() == pytest.approx(90, abs=1)
    assert quiet_fit(model.set_params(warm_start=True), frame).weights_.shape == (3,)


def test_what_is_no_mixture_of_scikit_learn_is_refused(frame):
    for other, said in (
        (BayesianGaussianMixture(), "a BayesianGaussianMixture predicts from a distribution of parameters"),
        (Reference(2), "not fitted"),
        (GaussianMixture(2), "expected a fitted sklearn.mixture.GaussianMixture, got a GaussianMixture"),
    ):
        with pytest.raises(InputError, match=said):
            GaussianMixture.from_sklearn(other)
    with pytest.raises(InputError, match="scikit-learn's mixtures have no clusters"):
        GaussianMixture(3, random_state=0).fit(frame).merge(2).to_sklearn()


def test_criteria_count_the_components_that_there_are():
    """One of three is left of rows of which half are equal."""
    x = np.concatenate([np.zeros((500, 2)), np.random.default_rng(0).normal(size=(500, 2))])
    model = quiet_fit(GaussianMixture(3, reg_covar=0, random_state=0), x)
    assert len(model.weights_) < 3
    there = model.to_sklearn()
    assert there.bic(x) == pytest.approx(model.bic(x), rel=1e-12)
    assert there.aic(x) == pytest.approx(model.aic(x), rel=1e-12)
    before = model.means_.copy()
    there.means_ += 5.0
    np.testing.assert_array_equal(model.means_, before)
