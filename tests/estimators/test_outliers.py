"""Outliers by the quantiles of the log-density that a fit keeps."""

import dask.array as da
import numpy as np
import pytest

import streamgmm
from streamgmm import GaussianMixture, InputError
from streamgmm.predict.calibration import calibrate
from tests.estimators.test_handmade import by_hand
from tests.helpers import FAMILY_NAMES, quiet_fit


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_the_share_of_outliers_among_new_rows_is_the_rate(covariance_type, tmp_path):
    truth = by_hand(covariance_type, random_state=0)
    x = truth.sample(60_000, chunks=60_000)[0].compute()
    model = quiet_fit(
        GaussianMixture(3, covariance_type=covariance_type, init_params="kmeans", random_state=0), x[:30_000]
    )
    streamgmm.save(model, tmp_path / "model")
    model = streamgmm.load(tmp_path / "model")
    for rate in (0.001, 0.013, 0.2):
        found = model.outliers(x[30_000:], rate)
        assert found.dtype == bool
        assert abs(found.mean() - rate) < 5 * np.sqrt(2.0 * rate / 30_000)
    lazy = model.outliers(da.from_array(x[30_000:], chunks=(7_000, 3)), 0.013)
    np.testing.assert_array_equal(lazy.compute(), model.outliers(x[30_000:], 0.013))
    by_threshold = model.outliers(x, threshold=model.calibration_.threshold(0.2))
    np.testing.assert_array_equal(by_threshold, model.outliers(x, 0.2))


def test_a_rate_that_the_rows_can_not_tell_is_refused():
    x = by_hand(random_state=0).sample(500)[0]
    model = GaussianMixture(random_state=0).fit(x)
    with pytest.raises(
        InputError, match=r"rate=0.001: the 500 rows .* tell these from 0.022 to 0.977613; calibrate the model"
    ):
        model.outliers(x, 0.001)
    assert model.outliers(x, 0.03).sum() == pytest.approx(15, abs=3)
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(InputError, match="rate must lie between 0 and 1"):
            model.outliers(x, rate)
    for both in ({}, {"rate": 0.1, "threshold": -3.0}):
        with pytest.raises(InputError, match="give rate or threshold, one of them"):
            model.outliers(x, **both)
    few = GaussianMixture().fit(x[:9])
    with pytest.raises(InputError, match="at no rate"):
        few.outliers(x, 0.5)


def test_mixtures_without_rows_are_calibrated_by_some():
    model = by_hand(random_state=0)
    x = model.sample(4000)[0]
    with pytest.raises(InputError, match="was not fitted to rows: calibrate it"):
        model.outliers(x, 0.1)
    assert model.calibrate(da.from_array(x, chunks=(500, 3))).outliers(x, 0.1).mean() == pytest.approx(0.1, abs=1e-3)
    heavy = np.where(model.score_samples(x) < np.median(model.score_samples(x)), 3.0, 1.0)
    assert model.calibrate(x, heavy).outliers(x, 0.75).mean() == pytest.approx(0.5, abs=0.01)


def test_rows_that_can_not_be_scored_are_no_outliers():
    model = by_hand(missing="drop", random_state=0)
    x = model.sample(200)[0]
    x[3, 0], x[4, 1] = np.nan, 1e6
    assert np.flatnonzero(model.outliers(x, threshold=-1e4)).tolist() == [4]


def test_quantiles_are_those_of_rows_repeated_by_their_weights():
    rng = np.random.default_rng(0)
    log_density, times = rng.normal(size=3000), rng.integers(0, 3, 3000)
    weighted, repeated = (
        calibrate(log_density, times.astype(float)),
        calibrate(np.repeat(log_density, times), np.ones(times.sum())),
    )
    shared = np.intersect1d(weighted.levels, repeated.levels)
    assert len(shared) > 50
    of = [one.log_densities[np.isin(one.levels, shared)] for one in (weighted, repeated)]
    np.testing.assert_array_equal(*of)
    # A density that is infinite or missing tells nothing.
    assert calibrate(np.array([-np.inf, np.nan, 0.0]), np.ones(3)).n_rows == 1


def test_equal_rows_are_as_many_rows_as_they_are():
    """Counts have few values: the sample has each once, with its weight."""
    x = np.random.default_rng(0).poisson(5, size=(50_000, 1)).astype(float)
    model = GaussianMixture(1).fit(x)
    assert model.calibration_.n_rows == 50_000
    assert model.outliers(x, 0.02).mean() == pytest.approx(0.02, abs=0.02)
    assert model.calibrate(x).calibration_.n_rows == 50_000
