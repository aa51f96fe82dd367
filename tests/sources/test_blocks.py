"""What a user's graph gives is what Dask says of it, or one error names the chunk, what came and what was expected."""

import os
import warnings
from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture
from streamgmm.exceptions import MissingValuesError, RowsError
from streamgmm.execution.passes import run_pass
from streamgmm.sources.open import open_rows

N_EXAMPLES = int(os.environ.get("STREAMGMM_EXAMPLES", "50"))
X = np.random.default_rng(0).normal(size=(60, 2))


@pytest.fixture(scope="module")
def model():
    return GaussianMixture(2, random_state=0, reg_covar=0.1).fit(X)


@pytest.fixture(scope="module")
def model_of_frame():
    return GaussianMixture(2, random_state=0, reg_covar=0.1).fit(pd.DataFrame(X, columns=["a", "b"]))


class Listed(list):
    """Blocks of all tasks, in their order; adds up."""

    def __add__(self, other):
        return Listed([*self, *other])


def blocks_of(rows):
    return run_pass(rows, lambda blocks, _: Listed(blocks), None)


def values_of(rows):
    return np.concatenate([block.x for block in blocks_of(rows)])


def lying(change, number=1, x=X, chunks=(20, 2), dtype=float):
    """A Dask array one of whose chunks is another than Dask says."""

    def chunk(block, block_id=None):
        return change(block) if block_id[0] == number else block

    array = da.from_array(x, chunks=chunks)
    return da.map_blocks(chunk, array, dtype=dtype, chunks=array.chunks, meta=np.empty((0, 0), dtype=dtype))


class OnDevice:
    """As arrays of CuPy: they have the interface of an array, and refuse to become one."""

    shape, ndim, dtype = (20, 2), 2, np.dtype(float)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")


WRONG = {
    "wider": (lambda b: np.hstack([b, b[:, :1]]), r"has 3 column\(s\), shape \(20, 3\), where Dask says \(20, 2\)"),
    "narrower": (lambda b: b[:, :1], r"has 1 column\(s\), shape \(20, 1\)"),
    "one dimension": (lambda b: b[:, 0], r"has 1 dimension\(s\), shape \(20,\)"),
    "three dimensions": (lambda b: b[..., np.newaxis], r"has 3 dimension\(s\), shape \(20, 2, 1\)"),
    "fewer rows": (lambda b: b[1:], r"has 19 row\(s\), shape \(19, 2\)"),
    "more rows": (lambda b: np.vstack([b, b]), r"has 40 row\(s\)"),
    "objects": (lambda b: b.astype(object), "has dtype object"),
    "text": (lambda b: b.astype(str), "has dtype <U32"),
    "complex": (lambda b: b.astype(complex), "has dtype complex128"),
    "dates": (lambda b: b.astype("M8[s]"), r"has dtype datetime64\[s\]"),
    "sparse": (scipy.sparse.csr_matrix, r"is a scipy\.sparse\._csr\.csr_matrix.*toarray\(\)"),
    "nothing": (lambda b: None, "is a NoneType, and not a NumPy array"),
    "on a device": (lambda b: OnDevice(), r"is a .*OnDevice.*Implicit conversion.*convert it with map_blocks"),
}  # fmt: skip


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_chunk_that_is_not_as_dask_says(kind, scheduler):
    change, message = WRONG[kind]
    with dask.config.set(scheduler=scheduler), pytest.raises(RowsError, match=f"chunk 1 of the Dask array X {message}"):
        blocks_of(open_rows(lying(change)))


@pytest.mark.parametrize("kind", ["wider", "narrower", "fewer rows"])
def test_every_command_names_the_chunk(kind, model):
    """One error, at once: a cluster's or a store's failures would be tried again, with waits."""
    array = lying(WRONG[kind][0])
    commands = [
        lambda: GaussianMixture(2).fit(array),
        lambda: GaussianMixture(2, persist=True).fit(array),
        lambda: GaussianMixture(2, memory_limit="1MB").fit(array),
        lambda: GaussianMixture(2).plan(array),
        lambda: model.score(array),
        lambda: model.bic(array),
        lambda: model.score(array, sample_weight=np.ones(60)),
        lambda: model.predict(array).compute(),
        lambda: model.predict_proba(array).compute(),
        lambda: model.score_samples(array)[25:30].compute(),
    ]
    for command in commands:
        with pytest.raises(RowsError, match=rf"chunk 1 of the Dask array X {WRONG[kind][1]}"):
            command()
    # What is not read is not looked at.
    np.testing.assert_array_equal(model.predict(array)[:20].compute(), model.predict(X[:20]))


def test_some_tasks_name_the_chunk_of_the_whole():
    rows = open_rows(lying(WRONG["wider"][0], number=2)).some_tasks([2])
    with pytest.raises(RowsError, match="chunk 2 of"):
        blocks_of(rows)


@pytest.mark.parametrize("kind", ["wider", "narrower", "one dimension", "fewer rows", "sparse", "nothing"])
def test_chunks_along_the_features_are_looked_at_before_they_are_put_together(kind):
    x = np.hstack([X, X])
    array = lying(WRONG[kind][0], x=x, chunks=(20, 2))
    with pytest.raises(RowsError, match=r"chunk \(1, 0\) of the Dask array X"):
        blocks_of(open_rows(array))
    np.testing.assert_array_equal(values_of(open_rows(da.from_array(x, chunks=(7, 3)))), x)


@pytest.mark.parametrize("kind", ["wider", "narrower", "one dimension"])
def test_chunks_of_unknown_lengths(kind):
    known = lying(WRONG[kind][0])
    array = known[da.from_array(np.ones(60, dtype=bool), chunks=20)] if kind == "nothing" else unknown(known)
    with pytest.raises(RowsError, match=r"chunk 1 of .*where Dask says \(any, 2\)"):
        blocks_of(open_rows(array))
    # Their lengths may differ.
    fewer = unknown(lying(WRONG["fewer rows"][0]))
    assert [len(block.x) for block in blocks_of(open_rows(fewer))] == [20, 19, 20]


def unknown(array):
    """The same array of which Dask knows no lengths."""
    lengths = (np.nan,) * array.numblocks[0]
    return da.Array(array.dask, array.name, (lengths, *array.chunks[1:]), meta=array._meta)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool", ">f8", ">i4"])
def test_any_real_dtype_will_do_whatever_was_said(dtype):
    x = np.arange(120).reshape(60, 2) % 2
    rows = open_rows(lying(lambda b: b.astype(dtype), x=x.astype(float)))
    np.testing.assert_array_equal(values_of(rows), x)


@pytest.mark.parametrize("convert", [pd.DataFrame, np.ndarray.tolist, np.asfortranarray])
def test_what_numpy_takes_for_an_array_will_do(convert):
    np.testing.assert_array_equal(values_of(open_rows(lying(convert))), X)
    np.testing.assert_array_equal(values_of(open_rows(lying(convert), sample_weight=np.ones(60))), X)


def refused(source, message, **keywords):
    with pytest.raises(RowsError, match=message):
        open_rows(source, **keywords)


def test_what_dask_says_is_refused_before_anything_is_computed():
    array = da.from_array(X, chunks=(20, 2))
    refused(array.map_blocks(scipy.sparse.csr_matrix), r"scipy\.sparse\._csr\.csr_matrix.*toarray\(\)")
    refused(
        array[:, da.from_array(np.array([True, True]), chunks=1)], "unknown number of features.*compute_chunk_sizes"
    )
    refused(dd.from_pandas(pd.DataFrame(X, columns=["a", "b"]), npartitions=2).a, r"Dask Series.*X\.to_frame\(\)")
    twice = pd.DataFrame(np.hstack([X, X]), columns=["a", "b", "b", "w"])
    refused(dd.from_pandas(twice, npartitions=2), "2 columns named 'b'")


# Weights


def test_weights_whose_chunks_are_others(model):
    picked, weights = X[:, 0] > 0, da.ones(60, chunks=((10, 30, 20),))
    known = da.from_array(X, chunks=(20, 2))
    array = known[da.from_array(picked, chunks=20)]
    weights = weights[da.from_array(picked, chunks=((10, 30, 20),))]
    message = r"sample_weight of chunk \d of the Dask array X has shape \(\d+,\), and there are \d+ rows"
    with pytest.raises(RowsError, match=message):
        model.score(array, sample_weight=weights)
    with pytest.raises(RowsError, match=message):
        GaussianMixture(2).fit(array, sample_weight=weights)
    refused(array, r"sample_weight has 2 chunk\(s\).* 3 of rows", sample_weight=da.ones(30, chunks=15))
    # Known lengths on either side are rows' and weights' own.
    of_rows = [int(picked[start : start + 20].sum()) for start in range(0, 60, 20)]
    good = da.ones(sum(of_rows), chunks=(tuple(of_rows),))
    assert model.score(array, sample_weight=good) == pytest.approx(model.score(X[picked]))
    full = da.ones(60, chunks=20)[da.from_array(np.ones(60, dtype=bool), chunks=20)]
    assert model.score(known, sample_weight=full) == pytest.approx(model.score(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:-1], r"has shape \(19,\), and there are 20 rows"),
        (lambda w: w[:, np.newaxis], r"has shape \(20, 1\)"),
        (lambda w: w.astype(object), "has dtype object"),
        (lambda w: None, "is a NoneType"),
        (lambda w: np.ma.masked_array(w, mask=np.arange(20) == 7), r"is masked in 1 row\(s\), the first at row 7"),
    ],
)
def test_weights_that_are_not_as_dask_says(change, message):
    weights = da.ones(60, chunks=20)
    lie = da.map_blocks(lambda w, block_id=None: change(w) if block_id[0] == 1 else w, weights, meta=np.empty(0))
    with pytest.raises(RowsError, match=f"sample_weight of chunk 1 of the Dask array X {message}"):
        blocks_of(open_rows(da.from_array(X, chunks=(20, 2)), sample_weight=lie))


def test_masked_weights_in_memory_name_the_row():
    with pytest.raises(RowsError, match=r"sample_weight is masked in 2 row\(s\), the first at row 3"):
        GaussianMixture(1).fit(X, sample_weight=np.ma.masked_array(np.ones(60), mask=np.isin(np.arange(60), [3, 5])))


# DataFrames


def frame_of(*partitions, meta=None):
    """A Dask DataFrame of partitions as they are, of which Dask believes the first."""
    meta = partitions[0].iloc[:0] if meta is None else meta
    return dd.from_map(lambda number: partitions[number], list(range(len(partitions))), meta=meta)


def partition(columns="ab", dtype=float, n=30):
    return pd.DataFrame(np.arange(n * len(columns)).reshape(n, -1), columns=list(columns)).astype(dtype)


def test_columns_are_found_by_name_in_every_partition(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b"])
    frame[:30].to_csv(tmp_path / "0.csv", index=False)
    frame[30:].assign(c=1e3)[["c", "b", "a"]].to_csv(tmp_path / "1.csv", index=False)
    read = dd.read_csv(f"{tmp_path}/*.csv")
    np.testing.assert_allclose(values_of(open_rows(read)), X, rtol=1e-12)
    np.testing.assert_allclose(values_of(open_rows(read, columns=["b"])), X[:, 1:], rtol=1e-12)
    blocks = blocks_of(open_rows(read, sample_weight="a"))
    np.testing.assert_allclose(np.concatenate([block.sample_weight for block in blocks]), X[:, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (partition("a"), "has no column 'b'; it has 'a'"),
        (partition("abb"), "has 2 columns named 'b'"),
        (partition().assign(b="x"), "column 'b' of partition 1.* not numeric"),
        (partition().assign(b=pd.Timestamp(0)), "column 'b' of partition 1.* not numeric"),
        (partition().a, r"is a pandas\..*Series; expected a DataFrame with the columns 'a', 'b'"),
        (np.ones((30, 2)), "is a numpy.ndarray; expected a DataFrame"),
        (None, "NoneType; expected a DataFrame"),
    ],
)
def test_a_partition_that_is_not_as_dask_says(second, message, model_of_frame):
    frame = frame_of(partition(), second, partition())
    for command in (
        lambda: blocks_of(open_rows(frame)),
        lambda: GaussianMixture(2).fit(frame),
        lambda: model_of_frame.predict(frame).compute(),
    ):
        with pytest.raises(RowsError, match=message) as caught:
            command()
        assert "partition 1 of the Dask DataFrame X" in str(caught.value)


def test_a_partition_that_lacks_a_column_that_was_asked_for():
    """Also where not all columns were: Dask itself would raise an error that names no partition."""
    frame = frame_of(partition("abw"), partition("ac"))
    with pytest.raises(RowsError, match=r"partition 1 of .* has no column 'b'; it has 'a', 'c'"):
        blocks_of(open_rows(frame, columns=["b"]))
    with pytest.raises(RowsError, match=r"partition 1 of .* has no column 'w'"):
        blocks_of(open_rows(frame, columns=["a"], sample_weight="w"))


def test_partitions_without_rows_need_no_columns():
    frame = frame_of(partition(), pd.DataFrame(), partition().iloc[:0].astype(object), partition())
    np.testing.assert_array_equal(values_of(open_rows(frame)), np.vstack([partition().to_numpy()] * 2))


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's, with pandas 3.1
def test_only_the_columns_that_are_needed_are_read_from_parquet(tmp_path):
    (tmp_path / "p").mkdir()
    for number in range(3):
        partition("abcd")[10 * number : 10 * number + 10].to_parquet(tmp_path / "p" / f"{number}.parquet", index=False)
    rows = open_rows(dd.read_parquet(tmp_path / "p"), columns=["c", "a"])
    raw = rows.array.to_delayed().ravel()[0].compute()
    assert sorted(raw.columns) == ["a", "c"]
    np.testing.assert_array_equal(values_of(rows), partition("abcd")[["c", "a"]])


@pytest.mark.parametrize("dtype", ["Float64", "Int32", "boolean", "int64[pyarrow]", "double[pyarrow]", "bool[pyarrow]"])
@pytest.mark.parametrize("missing", [False, True])
def test_nullable_and_arrow_backed_columns(dtype, missing):
    """Features and weights, without a warning of Dask's."""
    values = [1, 0, 1, 1]
    column = pd.array([*values[:3], None] if missing else values, dtype=dtype)
    frame = pd.DataFrame({"a": column, "w": pd.array(values, dtype=dtype)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blocks = blocks_of(open_rows(dd.from_pandas(frame, npartitions=2), sample_weight="w"))
    expected = [1.0, 0.0, 1.0, np.nan if missing else 1.0]
    np.testing.assert_array_equal(np.concatenate([block.x[:, 0] for block in blocks]), expected)
    np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in blocks]), values)


def test_integers_with_a_missing_value_in_one_partition():
    """A file of integers, and one of them with a hole: Dask says int64, pandas read float64."""
    frame = frame_of(partition(dtype="int64"), partition().mask(partition() == 3.0))
    values = values_of(open_rows(frame))
    assert np.isnan(values).sum() == 1
    np.testing.assert_array_equal(values[:30], partition())


def test_a_dask_series_of_weights(model_of_frame):
    frame = pd.DataFrame(X, columns=["a", "b"])
    weights = pd.Series(np.arange(60.0) % 3).astype("Float64")
    lazy, lazy_weights = dd.from_pandas(frame, npartitions=3), dd.from_pandas(weights, npartitions=3)
    found = model_of_frame.score(lazy, sample_weight=lazy_weights)
    assert found == pytest.approx(model_of_frame.score(frame, sample_weight=np.arange(60.0) % 3))


# Masks, xarray


def masked(x=X, dtype=float):
    mask = np.zeros(x.shape, dtype=bool)
    mask[::10, 0] = True
    return np.ma.masked_array(np.where(mask, -99, x).astype(dtype), mask=mask)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
@pytest.mark.parametrize("lazy", [False, True])
def test_masked_entries_are_missing(dtype, lazy):
    whole = masked(np.arange(120).reshape(60, 2), dtype)
    source = da.from_array(whole, chunks=(20, 2), asarray=False) if lazy else whole
    rows = open_rows(source)
    found = values_of(rows) if lazy else rows.array
    assert rows.dtype == (np.float64 if np.dtype(dtype).kind in "ib" else dtype) == found.dtype
    np.testing.assert_array_equal(found, whole.astype(float).filled(np.nan))


@pytest.mark.parametrize("lazy", [False, True])
def test_masked_rows_are_dropped_or_named(lazy, model):
    whole = masked()
    source = da.from_array(whole, chunks=(20, 2), asarray=False) if lazy else whole
    fitted = GaussianMixture(1, missing="drop").fit(source)
    assert fitted.n_missing_ == 6
    np.testing.assert_allclose(fitted.means_[0], np.delete(X, np.s_[::10], axis=0).mean(axis=0), atol=1e-6)
    with pytest.raises(MissingValuesError, match=r"6 row\(s\), the first at row 0, column 0"):
        GaussianMixture(1).fit(source)
    with pytest.raises(MissingValuesError):
        np.asarray(model.predict(source))


def test_a_mask_without_entries_changes_nothing():
    counts = np.ma.masked_array(np.arange(12).reshape(6, 2))
    assert open_rows(counts).dtype == counts.dtype
    assert GaussianMixture(1).fit(counts).n_missing_ == 0


def test_a_list_of_masked_rows():
    with pytest.raises(MissingValuesError, match="row 1, column 0"):
        GaussianMixture(1).fit([np.ma.masked_array([1.0, 2.0]), np.ma.masked_array([3.0, 4.0], mask=[True, False])])


def test_arrays_of_xarray(model):
    xr = pytest.importorskip("xarray")
    computed = []

    def chunk(block):
        computed.append(len(block))
        return block

    lazy = da.from_array(X, chunks=(20, 2)).map_blocks(chunk, meta=np.empty((0, 0)))
    predicted = model.predict(xr.DataArray(lazy, dims=("time", "feature")))
    assert isinstance(predicted.data, da.Array)
    assert predicted.dims == ("time",)
    assert not computed
    np.testing.assert_array_equal(predicted.compute(), model.predict(X))
    in_memory = xr.DataArray(X, dims=("time", "feature"))
    np.testing.assert_array_equal(model.predict(in_memory), model.predict(X))
    weights = xr.DataArray(np.arange(60.0), dims="time")
    expected = model.score(X, sample_weight=np.arange(60.0))
    assert model.score(in_memory, sample_weight=weights) == pytest.approx(expected)
    assert model.score(xr.DataArray(lazy), sample_weight=weights.chunk(time=7)) == pytest.approx(expected)
    assert GaussianMixture(1).fit(in_memory).n_features_in_ == 2


def test_of_xarray_what_is_no_matrix_is_refused(model):
    """By what opens matrices; fits and predictions take grids too, tests/sources/test_grids.py."""
    xr = pytest.importorskip("xarray")
    cube = xr.DataArray(np.zeros((4, 3, 2)), dims=("time", "lat", "lon"))
    for source, message in (
        (cube, r"3 dimensions, \('time', 'lat', 'lon'\); expected two.*X\.stack"),
        (cube[0, 0], r"1 dimensions, \('lon',\)"),
        (xr.DataTree(xr.Dataset({"t2m": cube})), "an xarray DataTree"),
        (xr.Dataset({"t2m": cube}), r"an xarray Dataset of t2m \('time', 'lat', 'lon'\): give one DataArray"),
    ):
        with pytest.raises(RowsError, match=message):
            open_rows(source)
    for command in (GaussianMixture(1).fit, model.predict):
        with pytest.raises(RowsError, match="an xarray DataTree"):
            command(xr.DataTree(xr.Dataset({"t2m": cube})))


# Any collection


def cuts(draw, n):
    places = draw(st.sets(st.integers(1, n - 1), max_size=5)) if n > 1 else set()
    edges = [0, *sorted(places), n]
    return tuple(b - a for a, b in pairwise(edges))


@st.composite
def dask_arrays(draw):
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from(["f8", "f4", "f2", ">f8", "i1", "u2", ">i4", "i8", "u8", "b1"]))
    x = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 100, (n, d)).astype(dtype)
    is_masked = draw(st.booleans())
    if is_masked:
        x = np.ma.masked_array(x, mask=np.random.default_rng(1).random((n, d)) < 0.2)
    if draw(st.booleans()):
        x = np.asfortranarray(x) if not is_masked else x
    array = da.from_array(x, chunks=(cuts(draw, n), cuts(draw, d)), asarray=False)
    if draw(st.booleans()):
        keep = np.random.default_rng(2).random(n) < 0.7
        x, array = x[keep], array[da.from_array(keep, chunks=(array.chunks[0],))]
    expected = x.astype(float).filled(np.nan) if is_masked else x.astype(float)
    return array, expected


@settings(max_examples=N_EXAMPLES, deadline=None)
@given(case=dask_arrays())
def test_any_dask_array_gives_its_own_values(case):
    array, expected = case
    rows = open_rows(array)
    np.testing.assert_array_equal(values_of(rows).astype(float), expected)
    weights = da.map_blocks(lambda block: np.arange(len(block)), array[:, 0], dtype=int, meta=np.empty(0, dtype=int))
    blocks = blocks_of(open_rows(array, sample_weight=weights))
    assert all((block.sample_weight == np.arange(len(block.x))).all() for block in blocks)


_COLUMN_DTYPES = ["f8", "f4", "i2", "u8", "bool", "Int64", "Float32", "boolean", "int32[pyarrow]", "double[pyarrow]"]


@st.composite
def dask_frames(draw):
    n = draw(st.integers(1, 30))
    names = draw(st.lists(st.sampled_from(["a", "b", "c", "x y", "0", "ü"]), min_size=1, max_size=4, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    columns = {}
    for name in names:
        dtype = draw(st.sampled_from(_COLUMN_DTYPES))
        column = pd.Series(rng.integers(0, 2, n), dtype=dtype)
        if dtype[0].isupper() or "pyarrow" in dtype or dtype == "boolean":
            column[rng.random(n) < 0.2] = pd.NA
        columns[name] = column
    frame = pd.DataFrame(columns)
    lengths = cuts(draw, n)
    edges = np.cumsum([0, *lengths])
    parts = [frame.iloc[start:stop][draw(st.permutations(names))] for start, stop in pairwise(edges)]
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, unique=True)) if draw(st.booleans()) else None
    return frame, parts, chosen


@settings(max_examples=N_EXAMPLES, deadline=None)
@given(case=dask_frames())
def test_any_dask_dataframe_gives_the_values_of_pandas(case):
    frame, parts, chosen = case
    lazy = frame_of(*parts, meta=frame.iloc[:0])
    expected = frame[chosen or list(frame.columns)].astype(object).fillna(np.nan).astype(float)
    rows = open_rows(lazy, columns=chosen)
    np.testing.assert_array_equal(values_of(rows).astype(float), expected)
    assert rows.feature_names == tuple(expected.columns)
    even = open_rows(dd.from_pandas(frame, npartitions=3), columns=chosen)
    np.testing.assert_array_equal(values_of(even).astype(float), expected)
