"""The estimator: scikit-learn's contract, weights, missing values, lazy results, and users' mistakes."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture as Reference
from sklearn.utils.estimator_checks import parametrize_with_checks

import streamgmm
from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError, MissingValuesError, RowsError
from tests.helpers import a_start, quiet_fit


@parametrize_with_checks([GaussianMixture(), GaussianMixture(covariance_type="tied"), GaussianMixture(missing="drop")])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.fixture
def model(x, covariance_type):
    return GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(x)


def as_reference(model, x):
    """scikit-learn's estimator with our parameters."""
    reference = Reference(len(model.weights_), covariance_type=model.covariance_type)
    reference.weights_, reference.means_ = model.weights_, model.means_
    reference.covariances_, reference.precisions_cholesky_ = model.covariances_, model.precisions_cholesky_
    reference.n_features_in_ = x.shape[1]
    return reference


def test_evaluation_equals_scikit_learns(model, x):
    reference = as_reference(model, x)
    np.testing.assert_array_equal(model.predict(x), reference.predict(x))
    np.testing.assert_allclose(model.predict_proba(x), reference.predict_proba(x), atol=1e-10)
    np.testing.assert_allclose(model.score_samples(x), reference.score_samples(x), rtol=1e-10)
    assert model.score(x) == pytest.approx(reference.score(x), rel=1e-12)
    assert model.bic(x) == pytest.approx(reference.bic(x), rel=1e-12)
    assert model.aic(x) == pytest.approx(reference.aic(x), rel=1e-12)


def test_attributes_are_plain_numpy(model, x):
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bounds_"):
        value = getattr(model, name)
        assert type(value) is np.ndarray
        assert value.dtype == np.float64
    assert isinstance(model.lower_bound_, float)
    assert isinstance(model.converged_, bool)
    assert model.lower_bound_ == model.lower_bounds_[-1]
    assert len(model.lower_bounds_) == model.n_iter_


def test_sample_has_the_mixtures_moments(model):
    drawn, labels = model.sample(60_000)
    assert drawn.shape == (60_000, 3)
    np.testing.assert_allclose(np.bincount(labels, minlength=3) / 60_000, model.weights_, atol=0.01)
    for k, covariance in enumerate(model._parameters().full_covariances()):
        rows = drawn[labels == k]
        scale = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose((rows.mean(axis=0) - model.means_[k]) / scale, 0.0, atol=0.05)
        np.testing.assert_allclose((np.cov(rows.T) - covariance) / np.outer(scale, scale), 0.0, atol=0.06)
    again, _ = model.sample(10)
    np.testing.assert_array_equal(again, model.sample(10)[0])


def test_an_integer_weight_is_the_row_that_many_times(covariance_type, x, rng):
    weight = rng.integers(0, 4, len(x))
    repeated = np.repeat(x, weight, axis=0)
    keywords = {
        "covariance_type": covariance_type,
        **a_start(x, 3, covariance_type, rng),
        "tol": 1e-8,
        "max_iter": 2000,
    }
    weighted, plain = GaussianMixture(3, **keywords), GaussianMixture(3, **keywords)
    weighted.fit(x, sample_weight=weight)
    plain.fit(repeated)
    assert weighted.n_iter_ == plain.n_iter_
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(plain, name), rtol=1e-8, atol=1e-8)
    assert weighted.bic(x, weight) == pytest.approx(plain.bic(repeated), rel=1e-10)
    assert weighted.score(x, sample_weight=weight) == pytest.approx(plain.score(repeated), rel=1e-10)


def test_rows_of_weight_zero_are_absent(x):
    weight = np.ones(len(x))
    weight[::3] = 0
    present = GaussianMixture(3, random_state=0).fit(x[weight > 0])
    weighted = GaussianMixture(3, random_state=0).fit(x, sample_weight=weight)
    assert weighted.score(x[weight > 0]) == pytest.approx(present.score(x[weight > 0]), abs=1e-3)


def test_missing_rows_are_left_out_where_asked(x):
    broken = x.copy()
    broken[[5, 700], [0, 2]] = np.nan, np.inf
    with pytest.raises(MissingValuesError, match="row 5"):
        GaussianMixture(3).fit(broken)
    start = {"means_init": x[:3], "tol": 1e-6}
    dropping = GaussianMixture(3, missing="drop", **start).fit(broken)
    clean = GaussianMixture(3, **start).fit(np.delete(x, [5, 700], axis=0))
    assert dropping.n_missing_ == 2
    np.testing.assert_allclose(dropping.means_, clean.means_, rtol=1e-6)
    assert dropping.predict(broken)[[5, 700]].tolist() == [-1, -1]
    assert np.isnan(dropping.score_samples(broken)[[5, 700]]).all()
    assert dropping.score(broken) == pytest.approx(clean.score(np.delete(x, [5, 700], axis=0)))


def test_dask_gives_lazy_dask_of_the_same_chunks(model, x):
    lazy = da.from_array(x, chunks=(700, 2))
    for method, shape in (("predict", (3000,)), ("predict_proba", (3000, 3)), ("score_samples", (3000,))):
        found = getattr(model, method)(lazy)
        assert isinstance(found, da.Array)
        assert found.shape == shape
        assert found.chunks[0] == lazy.chunks[0]
        expected = getattr(model, method)(x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.compute(), expected)
    assert isinstance(GaussianMixture(2, random_state=0).fit_predict(lazy), da.Array)


def test_fit_is_reproducible(covariance_type, x):
    one, two, other = (
        GaussianMixture(3, covariance_type=covariance_type, random_state=seed).fit(x) for seed in (0, 0, 1)
    )
    assert one.means_.tobytes() == two.means_.tobytes()
    assert one.means_.tobytes() != other.means_.tobytes()


@pytest.mark.parametrize("init_params", ["k-means++", "kmeans", "hierarchical", "random", "random_from_data"])
def test_every_start_fits(init_params, covariance_type, x):
    model = GaussianMixture(
        3, covariance_type=covariance_type, init_params=init_params, n_init=3, random_state=0, max_iter=1000
    ).fit(x)
    assert model.converged_
    reference = Reference(3, covariance_type=covariance_type, n_init=3, random_state=0, max_iter=1000).fit(x)
    if init_params != "random":  # of which neither promises anything
        assert model.score(x) > reference.score(x) - 0.05


def test_a_hierarchical_start_is_wards_clusters():
    x = np.concatenate([np.random.default_rng(0).normal(c, 0.3, (2500, 2)) for c in (0.0, 3.0, 9.0)])
    model = GaussianMixture(3, init_params="hierarchical", accelerate=False, max_iter=0).fit(x)
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [0.0, 3.0, 9.0], atol=0.05)
    # Fewer different rows than components, and a single row.
    for rows in (np.repeat([[0.0], [5.0]], 10, axis=0), [[1.0]]):
        few = quiet_fit(GaussianMixture(min(3, len(rows)), init_params="hierarchical", random_state=0), rows)
        assert np.isfinite(few.score_samples(rows)).all()


def test_order_of_the_rows_does_not_matter(covariance_type, x):
    start = {"random_state": 0, "covariance_type": covariance_type, "tol": 1e-9, "max_iter": 2000}
    shuffled = np.random.default_rng(0).permutation(x)
    one, other = GaussianMixture(3, **start).fit(x), GaussianMixture(3, **start).fit(shuffled)
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-5, atol=1e-5)


def test_warm_start_goes_on(x):
    model = GaussianMixture(3, max_iter=3, tol=0, random_state=0, warm_start=True, reg_covar=1e-6).fit(x)
    first = model.lower_bounds_
    model.fit(x)
    assert model.lower_bounds_[0] >= first[-1] - 1e-12
    longer = GaussianMixture(3, max_iter=6, tol=0, random_state=0, reg_covar=1e-6).fit(x)
    np.testing.assert_allclose(model.means_, longer.means_, rtol=1e-9)


def attributes(model):
    return {name: value for name, value in vars(model).items() if name.endswith("_") or name.startswith("_")}


@pytest.mark.parametrize("bad", ["missing", "huge", "few", "time", "names"])
def test_a_refit_that_fails_leaves_the_model_as_it_was(bad, x):
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(w=1.0)
    model = GaussianMixture(3, random_state=0).fit(frame, sample_weight="w")
    before, labels = attributes(model), model.predict(frame)
    rows = {
        "missing": np.full((10, 2), np.nan),
        "huge": np.full((10, 2), 1e200),
        "few": np.zeros((2, 2)),
        "time": np.zeros((10, 1), "datetime64[s]"),
        "names": pd.DataFrame({"other": np.full(10, np.nan)}),
    }
    with pytest.raises(InputError):
        model.set_params(covariance_type="diag").fit(rows[bad])
    after = attributes(model)
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    np.testing.assert_array_equal(model.predict(frame), labels)


def test_a_fit_that_fails_leaves_no_half_model():
    model = GaussianMixture(2)
    with pytest.raises(InputError):
        model.fit(np.full((10, 3), np.nan))
    assert not attributes(model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"covariance_type": "diag"}, "covariance_type='diag' is not that of the fit before"),
        ({"n_components": 4}, "the fit before had n_components=3 and this one has 4"),
    ],
)
def test_a_warm_start_with_other_settings_is_refused(changed, message, x):
    model = GaussianMixture(3, random_state=0, warm_start=True).fit(x)
    with pytest.raises(InputError, match=message):
        model.set_params(**changed).fit(x)
    assert model.set_params(**changed, warm_start=False).fit(x).means_.shape == (changed.get("n_components", 3), 3)


def test_a_warm_start_goes_on_where_components_were_lost():
    x = np.repeat([[0.0], [10.0]], 20, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(3, random_state=0, warm_start=True).fit(x)
        assert len(model.fit(x).weights_) <= 3


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("n_init", [1, 3])
def test_without_iterations_the_start_is_the_fit(given, n_init, covariance_type, x, rng, tmp_path):
    keywords = {"covariance_type": covariance_type, "max_iter": 0, "random_state": 0, "n_init": n_init}
    start = a_start(x, 3, covariance_type, rng) if given else {"init_params": "k-means++"}
    # (scikit-learn's has no covariances where precisions are given, and fails.)
    expected = Reference(3, init_params="k-means++", **keywords).fit(x)
    model = GaussianMixture(3, **keywords, **start).fit(x)
    assert (model.n_iter_, model.converged_, model.lower_bound_) == (0, False, -np.inf)
    assert (expected.n_iter_, expected.converged_, expected.lower_bound_) == (0, False, -np.inf)
    assert len(model.lower_bounds_) == 0
    if given:
        for name in ("weights", "means", "precisions"):
            np.testing.assert_allclose(getattr(model, f"{name}_"), start[f"{name}_init"], rtol=1e-9, atol=1e-12)
    assert "max_iter reached" in str(model.fit_report_)
    streamgmm.save(model, tmp_path / "model.safetensors")
    again = streamgmm.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize(("dtype", "remedy"), [("datetime64[s]", "np.datetime64"), ("timedelta64[ms]", "X / np.")])
def test_times_are_refused_with_their_remedy(dtype, remedy):
    with pytest.raises(RowsError, match=f"which is time: .*{remedy}"):
        GaussianMixture(1).fit(np.arange(10).astype(dtype)[:, np.newaxis])


def test_names_of_features_travel(x):
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(w=1.0)
    model = GaussianMixture(2, random_state=0).fit(frame, sample_weight="w")
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_array_equal(model.predict(frame), model.predict(frame[["a", "b", "c"]]))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["a", "b"]])
    model.fit(x)
    assert not hasattr(model, "feature_names_in_")


def test_callback_and_what_it_raises(x):
    states = []
    GaussianMixture(2, random_state=0, max_iter=4, tol=0, callback=states.append).fit(x)
    assert [state.n_iter for state in states] == [1, 2, 3, 4]
    assert states[-1].parameters.n_components == 2

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GaussianMixture(2, callback=stop).fit(x)


def test_verbose_prints_lines_on_standard_error(x, capsys):
    GaussianMixture(2, random_state=0, max_iter=4, tol=0, verbose=2, verbose_interval=2).fit(x)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["iteration 2", "iteration 4", "stopped after 4 iterations"]
    assert "nats/row" in lines[0]


MISTAKES = [
    ({"n_components": 0}, "n_components must be an integer of at least 1, got 0"),
    ({"n_components": 2.5}, "n_components must be an integer"),
    ({"covariance_type": "round"}, "'full', 'tied', 'diag', 'spherical'; got 'round'"),
    ({"init_params": "guess"}, "'k-means\\+\\+', 'kmeans'"),
    ({"missing": "ignore"}, "'raise', 'drop'"),
    ({"tol": -1}, "tol must be a finite number of at least 0, got -1"),
    ({"reg_covar": "none"}, "'auto'; got 'none'"),
    ({"reg_covar": -1.0}, "reg_covar must be"),
    ({"max_iter": -1}, "max_iter must be an integer of at least 0, got -1"),
    ({"n_init": 0}, "n_init"),
    ({"callback": 3}, "callback must be callable"),
    ({"memory_limit": "much"}, "memory_limit must be bytes.*'much'"),
    ({"memory_limit": -5}, "must be positive"),
    ({"weights_init": [0.5, 0.6]}, "sum to 1"),
    ({"weights_init": [1.0]}, r"weights_init must have shape \(2,\), got \(1,\)"),
    ({"means_init": np.zeros((2, 2))}, r"means_init must have shape \(2, 3\), got \(2, 2\): one row per component"),
    ({"means_init": np.full((2, 3), np.nan)}, "means_init has NaN"),
    ({"precisions_init": np.zeros((2, 3, 3))}, "positive definite; that of component 0"),
    ({"precisions_init": np.triu(np.ones((2, 3, 3)))}, "symmetric"),
]


@pytest.mark.parametrize(("parameters", "message"), MISTAKES)
def test_mistakes_are_named(parameters, message, x):
    with pytest.raises(InputError, match=message):
        GaussianMixture(**{"n_components": 2, **parameters}).fit(x)


def test_rows_that_do_not_fit_the_model(x):
    model = GaussianMixture(2, random_state=0)
    with pytest.raises(NotFittedError):
        model.predict(x)
    model.fit(x)
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        model.predict(x[:, :2])
    with pytest.raises(RowsError, match="X has 2 features, but GaussianMixture is expecting 3"):
        model.predict(da.from_array(x[:, :2]))
    with pytest.raises(InputError, match="n_samples"):
        GaussianMixture(10).fit(x[:5])
    with pytest.raises(InputError, match=r"sums to 0\.3"):
        GaussianMixture(2).fit(x[:3], sample_weight=[0.1, 0.1, 0.1])
    with pytest.raises(InputError, match="at least one sample"):
        model.sample(0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([["1.0", "2.0"]] * 9), "dtype <U3, which is text"),
        (np.array([["a", 1.0]] * 9, dtype=object), "could not convert string to float: 'a'"),
        (np.ones((9, 2)) * 1j, "Complex data not supported"),
        (scipy.sparse.eye_array(9, format="csr"), "Sparse data was passed"),
        (np.zeros((0, 2)), r"0 sample\(s\)"),
        (np.zeros(9), "Expected 2D array"),
        (pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2021-01-01"])}), "column 'when'.*datetime64"),
        (da.from_array(np.array([["1", "2"]] * 9)), "dtype <U1"),
        (None, "Expected 2D array"),
    ],
)
def test_rows_of_no_use_are_refused(rows, message):
    with pytest.raises((ValueError, TypeError), match=message):
        GaussianMixture().fit(rows)


def test_clone_and_parameters():
    model = GaussianMixture(5, covariance_type="diag", memory_limit="1GB")
    assert clone(model).get_params() == model.get_params()
