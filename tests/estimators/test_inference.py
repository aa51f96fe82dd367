"""Questions to a mixture: by name, of any source, in any chunks; against the formulas' own tests in tests/gaussian."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import zarr
from scipy import integrate, stats

from streamgmm import GaussianMixture, InputError, MissingValuesError, RowsError
from streamgmm.gaussian.conditional import regress
from streamgmm.gaussian.sampling import draw_rows
from tests.estimators.test_handmade import by_hand
from tests.gaussian.test_conditional import a_mixture
from tests.helpers import FAMILY_NAMES

NAMES = ["a", "b", "c"]


def rows_with_holes(n_rows=2000, share=0.3):
    rng = np.random.default_rng(5)
    x = by_hand(random_state=0).sample(n_rows)[0]
    rng.shuffle(x)
    holes = rng.random(x.shape) < share
    holes[:5] = True
    return x, np.where(holes, np.nan, x)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_marginals_and_conditionals_keep_names_family_and_density(covariance_type):
    model = by_hand(covariance_type, feature_names=NAMES, missing="drop")
    part = model.marginal(["c", "a"])
    assert part.covariance_type == covariance_type
    assert part.missing == "drop"
    assert list(part.feature_names_in_) == ["c", "a"]
    assert model.marginal("b").n_features_in_ == 1
    # p(a, b, c) = p(a, c) p(b | a, c)
    row = pd.DataFrame([[0.3, -0.2, 0.7]], columns=NAMES)
    rest = model.condition({"a": 0.3, 2: 0.7})
    assert list(rest.feature_names_in_) == ["b"]
    together = part.score_samples(row) + rest.score_samples(row)
    np.testing.assert_allclose(together, model.score_samples(row), rtol=1e-11)


def test_features_are_found_by_name_first_and_by_place_then():
    model = by_hand(feature_names=[2, 1, 0])
    np.testing.assert_array_equal(model.marginal(2).means_[:, 0], model.means_[:, 0])
    tuples = by_hand(feature_names=[("t", 0), ("t", 1), ("t", 2)])
    np.testing.assert_array_equal(tuples.marginal(("t", 1)).means_[:, 0], tuples.means_[:, 1])
    for wrong in ("d", 3, -1, True, ["a", "a"], ["a", 0], []):
        with pytest.raises(
            InputError, match=r"there is no feature|at least one feature, and none twice|True is neither"
        ):
            by_hand(feature_names=NAMES).marginal(wrong)


def test_conditions_that_are_none_are_refused():
    model = by_hand(feature_names=NAMES)
    for values, said in (
        ({}, "condition takes the values"),
        (["a"], "condition takes the values"),
        ({"a": np.nan}, "the value of 'a' is nan"),
        ({"a": 0, "b": 0, "c": 0}, "nothing is left"),
    ):
        with pytest.raises(InputError, match=said):
            model.condition(values)


def test_components_that_a_condition_rules_out_are_left_out():
    model = GaussianMixture.from_parameters(
        [0.5, 0.5], [[0.0, 0.0], [100.0, 1.0]], [1.0, 1.0], covariance_type="spherical"
    )
    assert model.condition({0: 0.0}).n_components == 1
    assert model.condition({0: 50.0}).n_components == 2


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_regression_gives_the_same_of_every_source(covariance_type, tmp_path):
    model = by_hand(covariance_type, feature_names=NAMES)
    x = rows_with_holes()[0]
    parameters = model._parameters()
    regression = regress(parameters, np.array([1]), np.array([0, 2]))
    frame = pd.DataFrame(x, columns=NAMES)
    frame[["c", "a"]].to_parquet(tmp_path / "part.parquet", row_group_size=300)
    zarr.save(tmp_path / "x.zarr", x)
    part = by_hand(covariance_type)
    for what, expected in (
        ("mean", regression.mean(x[:, [0, 2]])),
        ("covariance", regression.covariance(x[:, [0, 2]])),
        ("quantiles", None),
    ):
        found = model.regress(frame, "b", what=what)
        if expected is not None:
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
        for other in (
            model.regress(frame[["c", "a"]], ["b"], what=what),
            model.regress(str(tmp_path / "part.parquet"), "b", what=what),
            model.regress(dd.from_pandas(frame, npartitions=3), "b", what=what),
            part.regress(x, 1, what=what),
            part.regress(x[:, [0, 2]], 1, what=what),
            part.regress(da.from_array(x, chunks=(333, 2)), 1, what=what),
            part.regress(str(tmp_path / "x.zarr"), 1, what=what),
        ):
            assert isinstance(other, np.ndarray) or other.dask
            np.testing.assert_allclose(np.asarray(other), found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_quantiles_are_those_of_the_conditional_distribution(covariance_type):
    model = by_hand(covariance_type)
    given = np.array([[0.5, -0.2], [30.0, 2.0]])
    found = model.regress(given, [1], what="quantiles", quantiles=[0.01, 0.5, 0.999])
    for row, values in enumerate(given):
        rest = model.condition({0: values[0], 2: values[1]})
        np.testing.assert_allclose(rest.cdf(found[row, 0][:, None]), [0.01, 0.5, 0.999], atol=1e-12)
    spread = model.regress(given, [1], what="quantiles", quantiles=np.linspace(0.05, 0.95, 19))
    assert (np.diff(spread[:, 0]) > 0).all()


def test_features_that_are_not_given_are_integrated_out():
    model = by_hand(feature_names=NAMES)
    frame = pd.DataFrame({"c": [0.3, -1.0]})
    expected = model.marginal(["b", "c"]).regress(frame, "b")
    np.testing.assert_allclose(model.regress(frame, "b", given="c"), expected, rtol=1e-12)
    whole = frame.assign(a=9.0, b=9.0)
    np.testing.assert_allclose(model.regress(whole, "b", given=["c"]), expected, rtol=1e-12)
    np.testing.assert_allclose(by_hand().regress([[0.3], [-1.0]], 1, given=2), expected, rtol=1e-12)
    # In the order in which they are given.
    both = by_hand().regress([[0.3, 0.1]], 1, given=[2, 0])
    np.testing.assert_allclose(both, by_hand().regress([[0.1, 0.3]], 1), rtol=1e-12)


def test_regression_says_what_is_wrong():
    model, x = by_hand(), rows_with_holes(50)[0]
    for keywords, said in (
        ({"targets": [0, 1, 2]}, "all features are targets"),
        ({"targets": [0, 1], "given": [1, 2]}, "or some are given"),
        ({"targets": 1, "what": "median"}, "what must be one of 'mean', 'covariance', 'quantiles'"),
        ({"targets": 1, "quantiles": [0.0]}, "quantiles must lie between 0 and 1"),
    ):
        with pytest.raises(InputError, match=said):
            model.regress(x, **keywords)
    with pytest.raises(RowsError, match="expecting 2 or 3 features"):
        model.regress(x[:, :1], 1)
    x[7, 0] = np.nan
    with pytest.raises(MissingValuesError, match="row 7"):
        model.regress(x, 1)
    x[7, 0], x[8, 1] = 0.0, np.nan
    assert np.isfinite(model.regress(x, 1)).all()
    x[7, 0] = np.nan
    assert np.flatnonzero(np.isnan(by_hand(missing="drop").regress(x, 1)[:, 0])).tolist() == [7]
    unknown = by_hand(missing="drop").regress(x, 1, what="quantiles")
    assert np.flatnonzero(np.isnan(unknown[:, 0, 0])).tolist() == [7]


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_missing_values_become_their_mean_given_the_others(covariance_type):
    model = by_hand(covariance_type)
    _, x = rows_with_holes(200)
    found = model.impute(x)
    known = np.isfinite(x)
    np.testing.assert_array_equal(found[known], x[known])
    parameters = model._parameters()
    for row, values in enumerate(x):
        targets, given = np.flatnonzero(~known[row]), np.flatnonzero(known[row])
        if not len(given):
            expected = parameters.weights @ parameters.means
        elif len(targets):
            expected = regress(parameters, targets, given).mean(values[given][None])[0]
        else:
            continue
        np.testing.assert_allclose(found[row, targets], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("how", ["mean", "draw"])
def test_imputed_values_do_not_depend_on_chunks_or_source(how, tmp_path):
    model, (_, x) = by_hand(random_state=3), rows_with_holes()
    found = model.impute(x, how=how)
    zarr.save(tmp_path / "x.zarr", x)
    for other in (da.from_array(x, chunks=(97, 3)), da.from_array(x, chunks=(1999, 3)), str(tmp_path / "x.zarr")):
        np.testing.assert_allclose(model.impute(other, how=how), found, rtol=1e-12, atol=1e-12)
    for other in (x.astype(np.float32), np.where(np.isnan(x), np.inf, x), np.ma.masked_invalid(x)):
        np.testing.assert_allclose(model.impute(other, how=how), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_draws_have_the_distribution_of_the_data(covariance_type):
    """Complete rows of which a feature was hidden and drawn again are rows of the mixture."""
    model = by_hand(covariance_type, random_state=0)
    x = model.sample(40_000, chunks=10_000)[0].compute()
    hidden = x.copy()
    hidden[: len(x) // 2, 1] = np.nan
    hidden[len(x) // 2 :, [0, 2]] = np.nan
    drawn = model.impute(hidden, how="draw", random_state=1)
    assert len(np.unique(drawn[:, 1])) == len(x)
    for feature in range(3):
        assert stats.ks_2samp(drawn[:, feature], x[:, feature]).pvalue > 1e-4
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), atol=0.1 * np.cov(x.T).max())
    assert not np.array_equal(drawn, model.impute(hidden, how="draw", random_state=2))
    with pytest.raises(InputError, match="'mean' or 'draw'"):
        model.impute(x, how="median")


def test_cumulative_probabilities_and_intervals_of_one_feature():
    model = by_hand().marginal(1)
    y = np.linspace(-5, 5, 7)
    found = model.cdf(y[:, None])
    for at, probability in zip(y, found, strict=True):
        expected = integrate.quad(lambda t: np.exp(model.score_samples([[t]])[0]), -40, at, epsabs=1e-12, limit=500)
        assert probability == pytest.approx(expected[0], abs=1e-9)
    np.testing.assert_array_equal(model.cdf([[np.inf], [-np.inf]]), [1.0, 0.0])
    low, high = model.interval(0.9)
    np.testing.assert_allclose(model.cdf([[low], [high]]), [0.05, 0.95], rtol=1e-12)
    assert model.quantile(0.5).shape == ()
    np.testing.assert_allclose(model.cdf(da.from_array(y[:, None], chunks=2)), found, rtol=1e-14)
    with pytest.raises(MissingValuesError):
        model.cdf([[np.nan]])
    for ask in (lambda: by_hand().cdf(np.zeros((1, 3))), lambda: by_hand().interval(), lambda: by_hand().quantile(0.5)):
        with pytest.raises(InputError, match=r"take one of them first, model\.marginal"):
            ask()


def test_entropy_and_divergences_are_within_their_standard_errors():
    one = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 2.0]]], random_state=0)
    other = GaussianMixture.from_parameters([1.0], [[1.0, 0.0]], [[[2.0, 0.0], [0.0, 1.0]]], random_state=0)
    a, b, d = one.covariances_[0], other.covariances_[0], np.array([1.0, 0.0])
    entropy = 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * a))
    kl = 0.5 * (np.trace(np.linalg.solve(b, a)) + d @ np.linalg.solve(b, d) - 2 + np.log(2.0 / np.linalg.det(a)))
    for found, expected in ((one.entropy(), entropy), (one.kl_divergence(other), kl)):
        assert abs(found.value - expected) < 4 * found.standard_error
        assert 0 < found.standard_error < 0.02
    js, back = one.js_divergence(other), other.js_divergence(one, random_state=7)
    assert abs(js.value - back.value) < 4 * np.hypot(js.standard_error, back.standard_error)
    assert str(one.kl_divergence(one)) == "0 ± 0"
    far = GaussianMixture.from_parameters([1.0], [[1e3, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    assert one.js_divergence(far).value == pytest.approx(np.log(2), abs=1e-12)
    assert one.js_divergence(one).value == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(InputError, match="this mixture has 2 features and the other 3"):
        one.kl_divergence(by_hand())
    with pytest.raises(InputError, match="must be a fitted GaussianMixture"):
        one.kl_divergence("other")
    with pytest.raises(InputError, match="n_samples must be an integer of at least 2"):
        one.entropy(n_samples=1)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_a_long_sample_is_the_same_in_any_chunks_and_has_the_distribution(covariance_type):
    model = by_hand(covariance_type, random_state=5)
    x, y = model.sample(9_000, chunks=2_000)
    assert x.chunks == ((2_000, 2_000, 2_000, 2_000, 1_000), (3,))
    other, its = model.sample(9_000, chunks=1_025)
    np.testing.assert_array_equal(x.compute(), other.compute())
    np.testing.assert_array_equal(y.compute(), its.compute())
    np.testing.assert_array_equal(x[5_345:5_400].compute(), other.compute()[5_345:5_400])
    value, labels = a_mixture(covariance_type), y.compute()
    for k in range(3):
        rows = x.compute()[labels == k]
        assert abs(len(rows) / 9_000 - value.weights[k]) < 0.02
        standard = np.linalg.solve(np.linalg.cholesky(value.full_covariances()[k]), (rows - value.means[k]).T)
        assert all(stats.kstest(z, "norm").pvalue > 1e-4 for z in standard)
    assert model.sample(10**12, chunks="auto")[0].shape == (10**12, 3)


def test_features_come_in_any_list():
    model = by_hand(feature_names=NAMES)
    for features in (pd.Index(["a", "b"]), {"a": 1, "b": 2}.keys(), np.array(["a", "b"]), ("a", "b")):
        assert list(model.marginal(features).feature_names_in_) == ["a", "b"]
    assert model.condition(pd.Series({"a": 1.0})) == model.condition({"a": 1.0})
    with pytest.raises(InputError, match="a set has no order"):
        model.marginal({"a", "b"})
    with pytest.raises(InputError, match=r"names or places, and .*True.* is neither"):
        by_hand().marginal(np.array([True, False, True]))


def test_other_mixtures_are_compared_by_the_names_of_their_features():
    model = by_hand(feature_names=NAMES, random_state=0)
    turned = model.marginal(["c", "b", "a"])
    assert abs(model.kl_divergence(turned, n_samples=1000).value) < 1e-12
    assert model.reorder([2, 0, 1]).reorder(turned) == model
    with pytest.raises(InputError, match="the other mixture has other features: d"):
        model.kl_divergence(by_hand(feature_names=["a", "b", "d"]))


def test_what_is_small_about_samples_and_draws():
    wide = GaussianMixture.from_parameters([1.0], np.zeros((1, 30)), np.ones((1, 30)), covariance_type="diag")
    assert wide.sample(100, chunks=np.int64(10))[0].compute().shape == (100, 30)
    model = by_hand(random_state=0)
    # Rows without any value are rows of the sequence, each at its place.
    x = np.full((3000, 3), np.nan)
    x[[5, 1500]] = 0.0
    drawn, rows = model.impute(x, how="draw", random_state=1), np.isnan(x[:, 0])
    seed = int(np.random.RandomState(1).randint(2**31 - 1))
    np.testing.assert_array_equal(drawn[rows], draw_rows(model._parameters(), 0, 3000, seed)[0][rows])
    merged = model.merge(2)
    merged.metadata_["k"] = 1
    assert model.metadata_ == {}
