"""New rows against those of a fit: alarms as seldom as asked where nothing has changed, and what changed is named."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest

from streamgmm import GaussianMixture, load, save
from streamgmm.exceptions import InputError, MissingValuesError
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.fisher import FisherScores
from tests.helpers import FAMILY_NAMES
from tests.predict.test_information import mixture

MEANS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def draw(n, rng, *, shift=0.0, turned=0.0, weights=(0.5, 0.3, 0.2)):
    """Rows of three clusters: one mean may be shifted, one covariance turned, weights changed."""
    kind = rng.choice(3, size=n, p=weights)
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    covariances = np.array([turn @ np.diag([2.0, 0.5]) @ turn.T, [[0.8, 0.3], [0.3, 0.8]], [[2.3, 0.3], [0.3, 2.3]]])
    means = MEANS + np.array([[0.0, 0.0], [0.0, shift], [0.0, 0.0]])
    return means[kind] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[kind], rng.normal(size=(n, 2)))


@pytest.fixture(scope="module")
def fitted():
    x = draw(20_000, np.random.default_rng(7))
    frame = pd.DataFrame(x, columns=["a", "b"])
    options = {"random_state": 0, "init_params": "kmeans", "n_init": 3}
    return GaussianMixture(3, **options).fit(frame).reorder("weight")


def as_frame(x):
    return pd.DataFrame(x, columns=["a", "b"])


@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_a_sum_of_scores_is_that_of_each_rows(kind, rng):
    parameters = mixture(kind, rng)
    x, weight = 3.0 * rng.normal(size=(50, 3)), rng.uniform(0.5, 2.0, 50)
    resp = evaluate(x, parameters, resp=True).resp
    scores = FisherScores(parameters)
    np.testing.assert_allclose(scores.total(x, resp * weight[:, None]), weight @ scores.of(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_times", [300, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_alarms_are_as_seldom_as_asked(kind, n_times, rng):
    """Of a family that the rows have, and of one that they don't have; each fit has errors of its own."""
    n_alarms = 0
    for _ in range(10):
        model = GaussianMixture(3, covariance_type=kind, random_state=0, init_params="kmeans", n_init=3)
        model.fit(draw(20_000, rng))
        found = [model.compare(draw(2000, rng), level=0.05) for _ in range(n_times // 10)]
        n_alarms += sum(one.drifted for one in found)
    # Three deviations of a binomial number, and half a percent for the distribution of the fits.
    assert abs(n_alarms / n_times - 0.05) < 3.0 * np.sqrt(0.05 * 0.95 / n_times) + 0.005


def test_a_shift_of_a_mean_is_found_and_named(fitted, rng):
    report = fitted.compare(as_frame(draw(20_000, rng, shift=0.2)))
    assert report.drifted
    assert report.p_value < 1e-6
    by_group = {test.group: test for test in report.tests}
    assert by_group["means"].p_adjusted < 1e-6
    assert by_group["weights"].p_adjusted > 0.01
    by_feature = {test.group: test for test in report.features}
    assert by_feature["b"].p_adjusted < 1e-6
    assert by_feature["a"].p_adjusted > 0.01
    moved = int(np.argmin(np.abs(fitted.means_ - [4.0, 0.0]).sum(axis=1)))
    expected = np.zeros((3, 2))
    expected[moved, 1] = 0.2
    assert (np.abs(report.mean_shifts - expected) < 4.5 * report.mean_shift_errors).all()
    assert report.gain == pytest.approx(0.3 * 0.5 * 0.2**2 / 0.6875, rel=0.3)
    # With so little to gain it need not matter.
    assert not fitted.compare(as_frame(draw(20_000, rng, shift=0.2)), min_gain=0.1).drifted


def test_a_turn_and_weights_are_found_and_named(fitted, rng):
    report = fitted.compare(as_frame(draw(20_000, rng, turned=0.3)))
    assert min(report.tests, key=lambda test: test.p_value).group == "covariances"
    assert report.drifted
    report = fitted.compare(as_frame(draw(20_000, rng, weights=(0.4, 0.4, 0.2))))
    assert report.drifted
    assert min(report.tests, key=lambda test: test.p_value).group == "weights"
    assert (np.abs(report.weights - fitted.weights_) > 10 * report.weight_errors).sum() == 2


def test_log_densities_and_ranges(fitted, rng):
    x = draw(20_000, rng)
    report = fitted.compare(as_frame(x))
    np.testing.assert_allclose(report.shares, report.levels, atol=4.0 * np.sqrt(0.25 / 10_000))
    below = np.mean(fitted.score_samples(as_frame(x))[:, None] <= report.log_densities, axis=0)
    np.testing.assert_allclose(report.shares, below, atol=1e-12)
    x[:7, 0], x[5:9, 1] = 1e3, -1e3
    report = fitted.compare(as_frame(x))
    assert report.n_outside == 9 + report.outside.sum() - 11
    assert (report.outside >= [7, 4]).all()


def test_weights_are_repeats_and_missing_values_are_counted(fitted, rng):
    x = draw(3000, rng)
    times = rng.integers(0, 4, len(x))
    one = fitted.compare(as_frame(np.repeat(x, times, axis=0)))
    other = fitted.compare(as_frame(x), sample_weight=times.astype(float))
    assert other.n_rows == times.sum()
    assert other.p_value == pytest.approx(one.p_value, rel=1e-6)
    np.testing.assert_allclose(other.shares, one.shares)
    x[:5, 0] = np.nan
    with pytest.raises(MissingValuesError):
        fitted.compare(as_frame(x))
    model = fitted.reorder("weight")
    model.missing = "drop"
    report = model.compare(as_frame(x))
    assert (report.n_missing, report.n_rows) == (5, 2995)
    assert report.p_value == pytest.approx(fitted.compare(as_frame(x[5:])).p_value, rel=1e-9)


def test_any_source_and_a_model_that_was_loaded_say_the_same(fitted, rng, tmp_path):
    x = draw(5000, rng)
    as_frame(x).to_parquet(tmp_path / "new.parquet")
    save(fitted, tmp_path / "m")
    expected = fitted.compare(as_frame(x))
    for model, source, options in (
        (fitted, str(tmp_path / "new.parquet"), {}),
        (load(tmp_path / "m"), as_frame(x), {}),
        (fitted, str(tmp_path / "new.parquet"), {"where": "a > -1e9"}),
    ):
        found = model.compare(source, **options)
        assert found.p_value == pytest.approx(expected.p_value, rel=1e-9)
        np.testing.assert_allclose(found.mean_shifts, expected.mean_shifts, rtol=1e-9, atol=1e-12)
    by_place = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    lazy = by_place.compare(da.from_array(x, chunks=(700, 2)))
    assert lazy.p_value == pytest.approx(by_place.compare(x).p_value, rel=1e-9)


def test_mistakes_are_named(fitted, rng):
    made = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [1.0], covariance_type="spherical")
    x = draw(2000, rng)
    with pytest.raises(InputError, match="estimate_standard_errors"):
        made.compare(x)
    assert made.estimate_standard_errors(x).compare(x).p_value > 0.99
    for options in ({"level": 1.5}, {"level": float("nan")}, {"min_gain": -1.0}, {"min_gain": float("inf")}):
        with pytest.raises(InputError, match=next(iter(options))):
            fitted.compare(as_frame(x), **options)
