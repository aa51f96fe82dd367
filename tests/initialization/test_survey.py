"""The survey: moments equal NumPy's, the sample depends on the rows' indices alone, faults of the rows are named."""

import weakref

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError, MissingValuesError, RowsError
from streamgmm.initialization.sampling import hash_index
from streamgmm.initialization.survey import Survey, survey_rows
from streamgmm.sources.open import open_rows


def surveyed(x, *, sample_weight=None, sample_size=100, seed=0, missing="raise"):
    rows = open_rows(x, sample_weight=sample_weight)
    found, _ = survey_rows(rows, sample_size=sample_size, seed=seed, full_scatter=True, missing=missing)
    return found


@settings(max_examples=25, deadline=None)
@given(chunk=st.integers(1, 400), distance=st.sampled_from([0.0, 1e8]), weighted=st.booleans())
def test_moments_and_sample_whatever_the_chunks(chunk, distance, weighted):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 3)) + distance
    weight = rng.integers(0, 3, 700).astype(float) if weighted else np.ones(700)
    found = surveyed(da.from_array(x, chunks=(chunk, 2)), sample_weight=weight)
    assert (found.n_rows, found.n_used, found.sum_weight) == (700, (weight > 0).sum(), weight.sum())
    np.testing.assert_allclose(found.mean, np.average(x, axis=0, weights=weight), rtol=1e-14, atol=1e-14)
    # With a mean of 1e8 deviations the rows themselves have eight digits after the point.
    expected = np.cov((x - distance).T, aweights=weight, bias=True)
    np.testing.assert_allclose(
        found.covariance, expected, rtol=1e-6 if distance else 1e-12, atol=1e-6 if distance else 1e-14
    )
    whole = surveyed(x, sample_weight=weight)
    np.testing.assert_array_equal(found.choose_sample().x, whole.choose_sample().x)
    np.testing.assert_array_equal(found.choose_sample().weight, whole.choose_sample().weight)


def test_the_sample_is_uniform_over_sorted_rows():
    x = np.arange(200_000.0)[:, np.newaxis]
    sample = surveyed(x, sample_size=5000).choose_sample().x[:, 0]
    assert len(np.unique(sample)) == 5000
    counts, _ = np.histogram(sample, bins=20, range=(0, 200_000))
    assert np.abs(counts - 250).max() < 5 * np.sqrt(250)
    assert not np.array_equal(sample, surveyed(x, sample_size=5000, seed=1).choose_sample().x[:, 0])


def test_a_smaller_sample_is_the_beginning_of_one_that_holds_all_rows():
    # Some rows are equal, as they are in measurements of few digits: a fit begins its search with the same ones.
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(19_000, 2)), rng.normal(size=(250, 2)).repeat(4, axis=0)])
    whole, part = surveyed(x, sample_size=20_000), surveyed(x, sample_size=5000)
    assert whole.complete
    assert not part.complete
    for name in ("x", "weight"):
        np.testing.assert_array_equal(getattr(part.choose_sample(), name), getattr(whole.choose_sample(), name)[:5000])


@pytest.mark.parametrize("sample_size", [5000, 100])
def test_what_is_drawn_of_float32_takes_half_and_is_the_same(sample_size):
    x = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    x[7, 2] = np.nan
    narrow, wide = (surveyed(rows, sample_size=sample_size, missing="ignore") for rows in (x, x.astype(np.float64)))
    for name in ("by_value", "by_place"):
        for drawn, expected in zip(getattr(narrow, name).parts, getattr(wide, name).parts, strict=True):
            assert (drawn.x.dtype, expected.x.dtype) == (np.float32, np.float64)
            np.testing.assert_array_equal(drawn.x, expected.x)
    sample, expected = narrow.choose_sample(), wide.choose_sample()
    assert sample.x.dtype == np.float64
    np.testing.assert_array_equal(sample.x, expected.x)
    np.testing.assert_array_equal(narrow.scatter, wide.scatter)


def test_parts_of_either_width_are_one_sample():
    x = np.random.default_rng(0).normal(size=(600, 2))
    x[:300] = x[:300].astype(np.float32)
    parts = [surveyed(half, sample_size=40) for half in (x[:300].astype(np.float32), x[300:])]
    assert [part.by_value.parts[0].x.dtype for part in parts] == [np.float32, np.float64]
    np.testing.assert_array_equal(Survey.merged(parts).choose_sample().x, surveyed(x, sample_size=40).choose_sample().x)


def test_of_a_piece_that_was_added_only_its_rows_are_kept():
    """A task of many pieces of rows with many features holds one matrix of their products, not one for each."""
    x = np.random.default_rng(0).normal(size=(600, 2))
    alive = []

    def one_by_one():
        for start in range(0, 600, 100):
            assert sum(matrix() is not None for matrix in alive) <= 2
            piece = surveyed(x[start : start + 100])
            alive.append(weakref.ref(piece.scatter))
            yield piece
            del piece

    np.testing.assert_allclose(Survey.merged(one_by_one()).covariance, np.cov(x.T, bias=True), rtol=1e-12)


def test_the_sample_has_no_rows_that_do_not_count():
    x = np.arange(50_000.0)[:, np.newaxis]
    weight = np.zeros(50_000)
    weight[::100] = 2.0
    x[:100:200] = np.nan
    found = surveyed(x, sample_weight=weight, sample_size=300, missing="drop")
    assert len(found.choose_sample().x) == 300
    assert np.isin(found.choose_sample().x[:, 0], np.arange(0, 50_000, 100)).all()
    assert len(np.unique(found.choose_sample().weight)) == 1


def test_hashes_of_different_rows_differ():
    keys = hash_index(np.arange(100_000, dtype=np.uint64), 5)
    assert len(np.unique(keys)) == 100_000


def test_the_first_missing_value_is_named():
    x = np.zeros((1000, 3)) + np.arange(3)
    x[700, 2], x[800, 0] = np.inf, np.nan
    for source in (x, da.from_array(x, chunks=(123, 2))):
        with pytest.raises(MissingValuesError, match=r"2 row\(s\), the first at row 700, column 2.*missing='drop'"):
            surveyed(source)
    assert surveyed(x, missing="drop").n_missing == 2


def test_the_name_of_the_column_is_given():
    import pandas as pd

    whitening = pd.DataFrame({"height": [1.0, 2.0], "weight": [3.0, np.nan]})
    with pytest.raises(MissingValuesError, match=r"row 1, column 1 \('weight'\)"):
        surveyed(whitening)


def test_rows_of_unknown_number_are_named_by_their_chunk():
    x = np.zeros((100, 2))
    x[55, 1] = np.nan
    unknown = da.from_array(x, chunks=(10, 2))[da.ones(100, dtype=bool, chunks=10)]
    with pytest.raises(MissingValuesError, match="row 5 of chunk 5"):
        surveyed(unknown)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_bad_weights_are_named(value):
    weight = np.ones(50)
    weight[20] = value
    with pytest.raises(InputError, match=f"sample_weight is {value} at row 20"):
        surveyed(np.zeros((50, 1)), sample_weight=weight)


def test_no_row_left():
    with pytest.raises(MissingValuesError, match="no row left"):
        surveyed(np.full((5, 2), np.nan), missing="drop")
    with pytest.raises(MissingValuesError, match="weight of the others is zero"):
        surveyed(np.zeros((5, 2)), sample_weight=np.zeros(5))
    empty = da.zeros((10, 2), chunks=5)[da.zeros(10, dtype=bool, chunks=5)]
    with pytest.raises(MissingValuesError):
        surveyed(empty)


@pytest.mark.parametrize("kind", ["array", "frame", "dask", "weighted", "float64 parquet"])
def test_values_whose_squares_overflow_are_named(kind, covariance_type, tmp_path, rng):
    x = rng.normal(size=(1000, 2))
    x[617, 1] = -1e160
    whitening, weight = pd.DataFrame(x, columns=["a", "b"]), None
    if kind == "weighted":
        x[3, 0], weight = 1e200, np.where(np.arange(1000) == 3, 0.0, 2.0)
    whitening.to_parquet(tmp_path / "x.parquet")
    rows = {"array": x, "weighted": x, "frame": whitening, "dask": da.from_array(x, chunks=(300, 2))}
    model = GaussianMixture(2, covariance_type=covariance_type, missing="drop")
    with pytest.raises(RowsError, match=r"-1e\+160 at row 617, column 1.* up to 1e\+140"):
        model.fit(rows.get(kind, str(tmp_path / "x.parquet")), sample_weight=weight)


def test_weights_that_make_the_sums_overflow_are_named(rng):
    with pytest.raises(InputError, match="scale the weights"):
        GaussianMixture(1).fit(1e130 * rng.normal(size=(50, 2)), sample_weight=np.full(50, 1e100))


def test_large_values_that_can_be_squared_are_fitted(covariance_type, rng):
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    x = rng.normal(size=(200, 2)) + 6.0 * rng.integers(0, 2, (200, 1))
    small, large = model.fit(x).means_, clone(model).fit(1e138 * x).means_
    np.testing.assert_allclose(large, 1e138 * small, rtol=1e-6)
