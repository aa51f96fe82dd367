"""Scores go next to their keys: each row once, in order, equal to what `predict` says; whole or not at all."""

import os

import dask.array as da
import dask.dataframe as dd
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr

from streamgmm import GaussianMixture, write_predictions
from streamgmm.exceptions import InputError, MissingValuesError
from streamgmm.predict.scores import SCORES
from tests.predict.scored import expected_scores, named, read, write_table


@pytest.mark.parametrize("layout", ["ragged row groups", "one row group", "small files"])
def test_scores_join_back_by_key(layout, model, table, x, tmp_path):
    """With pandas, polars and DuckDB: every row once, equal to what the model says of it."""
    source = write_table(table, tmp_path / "in", layout)
    found = write_predictions(
        model, source, tmp_path / "out.parquet", write=SCORES, keep=["id", "name"], outlier_threshold=-6.0
    )
    expected = expected_scores(model, x)
    assert (found.n_rows, found.n_missing, found.n_outliers) == (len(x), 0, expected["outlier"].sum())
    assert os.listdir(tmp_path) == ["in", "out.parquet"] or sorted(os.listdir(tmp_path)) == ["in", "out.parquet"]
    keys = table.select(["id"]).append_column("at", pa.array(np.arange(len(x))))
    joined = pd.read_parquet(tmp_path / "out.parquet").merge(keys.to_pandas(), on="id", validate="1:1")
    by_polars = pl.read_parquet(tmp_path / "out.parquet").join(pl.from_arrow(keys), on="id", validate="1:1")
    scored = f"'{tmp_path}/out.parquet/*.parquet'"
    by_duckdb = duckdb.sql(f"select * from {scored} join keys using (id)").df()
    for one in (joined, by_polars.to_pandas(), by_duckdb):
        assert len(one) == len(x)
        for name, values in expected.items():
            np.testing.assert_array_equal(one[name].to_numpy(), values[one["at"]])
    # And in the order of the rows.
    assert read(tmp_path / "out.parquet")["id"].equals(table["id"])


def tables_of(table, tmp_path):
    frame = table.to_pandas()
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=700)
    yield "pandas", frame
    yield "an index of pandas", frame.set_index("id")
    yield "pyarrow", table
    yield "polars", pl.from_arrow(table)
    yield "a dataset", pads.dataset(tmp_path / "in.parquet")
    yield "Dask", dd.from_pandas(frame, npartitions=4, sort=False)
    yield "an index of Dask", dd.from_pandas(frame.set_index("id"), npartitions=3, sort=False)
    yield "Dask of files", dd.read_parquet(tmp_path / "in.parquet")


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # Dask's own
def test_all_kinds_of_tables_can_be_written(model, table, x, tmp_path):
    expected = expected_scores(model, x)
    keep = ["id", "day", "kind"]
    for what, source in tables_of(table, tmp_path):
        write_predictions(
            model, source, tmp_path / "o.parquet", write=SCORES, keep=keep, outlier_threshold=-6.0, overwrite=True
        )
        found = pd.read_parquet(tmp_path / "o.parquet")
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=what)
        for name in keep:
            assert found[name].astype(str).tolist() == table[name].to_pandas().astype(str).tolist(), what
        write_predictions(
            model, source, tmp_path / "o.zarr", write=["log_density"], keep=["id", "seen", "kind"], overwrite=True
        )
        with xr.open_zarr(tmp_path / "o.zarr") as arrays:
            np.testing.assert_array_equal(arrays.log_density, expected["log_density"], err_msg=what)
            np.testing.assert_array_equal(arrays.id, table["id"].to_numpy())
            np.testing.assert_array_equal(arrays.seen, table["seen"].cast(pa.timestamp("us")).to_numpy())
            assert arrays.kind.values.tolist() == table["kind"].to_pylist()


def test_dask_arrays_of_known_and_unknown_lengths_can_be_written(x, tmp_path):
    model = GaussianMixture(3, random_state=0, init_params="kmeans", max_iter=3, tol=0).fit(x)
    array = da.from_array(x, chunks=((401, 0, 1, 558, len(x) - 960), 3))
    unknown = array[da.from_array(x[:, 0] > x[:1500, 0].max() - 100, chunks=array.chunks[0])]
    for number, source in enumerate((array, unknown)):
        for suffix in (".zarr", ".parquet"):
            output = tmp_path / f"{number}{suffix}"
            found = write_predictions(model, source, output, write=["label", "responsibilities"])
            assert found.n_rows == len(x)
            proba = (
                zarr.open_group(output)["proba"][:]
                if suffix == ".zarr"
                else read(output).select(["proba_0", "proba_1", "proba_2"]).to_pandas().to_numpy()
            )
            np.testing.assert_array_equal(proba, model.predict_proba(x))


def test_missing_values_are_counted_and_keep_their_keys(model, table, x, tmp_path):
    holes = table.set_column(table.column_names.index("a"), "a", pc.if_else(pc.less(table["id"], 5), None, table["a"]))
    source = write_table(holes, tmp_path / "in", "ragged row groups")
    with pytest.raises(MissingValuesError, match="at least"):
        write_predictions(model, source, tmp_path / "o.parquet", keep=["id"])
    assert os.listdir(tmp_path) == ["in"]
    model.missing = "drop"
    found = write_predictions(model, source, tmp_path / "o.parquet", write=SCORES, keep=["id"], outlier_threshold=-6.0)
    assert (found.n_rows, found.n_missing) == (len(x), 5)
    scored = pd.read_parquet(tmp_path / "o.parquet").sort_values("id")
    without = scored[:5]
    assert (without.label == -1).all()
    assert not without.outlier.any()
    assert without[["probability", "log_density", "proba_0"]].isna().all().all()
    assert scored[5:].notna().all().all()


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_all_scores_of_one_reading_are_those_asked_for_alone(family, x, tmp_path):
    model = GaussianMixture(4, covariance_type=family, random_state=0, init_params="kmeans").fit(x)
    for fitted in (model, model.merge(2)):
        write_predictions(fitted, x, tmp_path / "o.parquet", write=SCORES, outlier_threshold=-6.0, overwrite=True)
        found = pd.read_parquet(tmp_path / "o.parquet")
        for name, values in expected_scores(fitted, x).items():
            np.testing.assert_array_equal(found[name], values)


def test_floats_can_be_single(model, table, x, tmp_path):
    write_predictions(model, table, tmp_path / "o.parquet", write=["label", "log_density"], float_type="float32")
    found = read(tmp_path / "o.parquet")
    assert found.schema.field("log_density").type == pa.float32()
    np.testing.assert_array_equal(
        found["log_density"].to_numpy(), model.score_samples(named(model, x)).astype(np.float32)
    )


@pytest.mark.parametrize("n_labels", [1, 128, 129, 32_768, 32_769])
def test_labels_have_the_smallest_dtype_that_holds_them_all(n_labels):
    from streamgmm.predict.scores import smallest_label_dtype

    dtype = smallest_label_dtype(n_labels)
    assert np.iinfo(dtype).max >= n_labels - 1
    smaller = {2: np.int8, 4: np.int16}.get(dtype.itemsize)
    assert smaller is None or np.iinfo(smaller).max < n_labels - 1


def test_mistakes_are_named(model, table, tmp_path):
    output = tmp_path / "o.parquet"
    for options, match in (
        ({"write": ["labels"]}, "'labels'; expected some of 'label'"),
        ({"write": []}, "names nothing"),
        ({"write": ["label", "label"]}, "'label' 2 times"),
        ({"write": "outlier"}, "outlier_rate or outlier_threshold"),
        ({"outlier_rate": 0.1}, "name 'outlier' in write"),
        ({"write": "outlier", "outlier_rate": 1e-9}, "rate=1e-09"),
        ({"write": "outlier", "outlier_threshold": float("nan")}, "outlier_threshold must be a number"),
        ({"prefix": "a\0"}, "prefix must be a text"),
        ({"prefix": 3}, "prefix must be a text"),
        ({"if_exists": "append"}, "'fail', 'skip', 'replace'"),
        ({"float_type": "float16"}, "float_type"),
        ({"compression": "zip"}, "compression must be one of"),
        ({"row_group_rows": 0}, "row_group_rows"),
        ({"partition_by": ["day"]}, "'day', which is not kept"),
        ({"partition_by": ["price"], "keep": ["price"]}, "'price' has type decimal"),
        ({"partition_by": ["day", "day"], "keep": ["day"]}, "twice"),
    ):
        with pytest.raises(InputError, match=match):
            write_predictions(model, table, output, **options)
    for options, match in (
        ({"compression": "snappy"}, "compression of Zarr"),
        ({"row_group_rows": 10}, "is for Parquet"),
        ({"partition_by": ["day"], "keep": ["day"]}, "is for Parquet"),
    ):
        with pytest.raises(InputError, match=match):
            write_predictions(model, table, tmp_path / "o.zarr", **options)
    with pytest.raises(InputError, match=r"\.zarr or \.parquet"):
        write_predictions(model, table, tmp_path / "out.csv")
    with pytest.raises(InputError, match="is not a folder"):
        write_predictions(model, table, tmp_path / "nowhere" / "out.zarr")
    assert os.listdir(tmp_path) == []
