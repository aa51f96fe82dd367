"""Scores go next to their keys: each row once, in order, equal to what `predict` says; whole or not at all."""

import datetime
import os
from itertools import pairwise

import dask
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
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture, write_predictions
from streamgmm.exceptions import InputError, MissingValuesError, OutputError, OutputExistsError, RowsError
from streamgmm.predict import zarr_output
from streamgmm.predict.scores import SCORES, Scorer
from streamgmm.storage import staging

FEATURES = ["a", "b", "c"]


@pytest.fixture
def model(x):
    names = pd.DataFrame(x, columns=FEATURES)
    return GaussianMixture(3, random_state=0, init_params="kmeans", max_iter=5, tol=0).fit(names)


@pytest.fixture
def table(x):
    """Rows with keys of many types, and nulls in some."""
    n = len(x)
    rng = np.random.default_rng(1)
    day = np.datetime64("2026-01-01") + rng.integers(0, 3, n).astype("timedelta64[D]")
    columns = {
        "id": pa.array(rng.permutation(n)),
        "name": pa.array([None if i % 7 == 0 else f"row {i}" for i in range(n)]),
        "day": pa.array(day.astype("datetime64[D]"), type=pa.date32()),
        "seen": pa.array(np.datetime64("2026-01-01T00:00:00.123456") + np.arange(n), type=pa.timestamp("us", tz="UTC")),
        "price": pa.array([datetime_decimal(i) for i in range(n)], type=pa.decimal128(12, 2)),
        "kind": pa.array(rng.choice(["u", "v"], n)).dictionary_encode(),
        "flags": pa.array([[i, i + 1] for i in range(n)]),
        **{name: x[:, j] for j, name in enumerate(FEATURES)},
    }
    return pa.table(columns)


def datetime_decimal(i):
    import decimal

    return None if i % 11 == 0 else decimal.Decimal(i).scaleb(-2)


KEYS = ["id", "name", "day", "seen", "price", "kind", "flags"]


def named(model, x):
    """The rows as the model knows its features: by names or by places."""
    return pd.DataFrame(x, columns=FEATURES) if hasattr(model, "feature_names_in_") else x


def expected_scores(model, x):
    x = named(model, x)
    proba = model.predict_proba(x)
    return {
        "label": model.predict(x),
        "probability": proba.max(axis=1),
        "log_density": model.score_samples(x),
        "outlier": model.outliers(x, threshold=-6.0),
        **{f"proba_{k}": proba[:, k] for k in range(proba.shape[1])},
    }


def read(path):
    """All rows of a folder of Parquet files, in the order of their names."""
    return pads.dataset(sorted(str(one) for one in path.rglob("*.parquet")), format="parquet").to_table()


def content(folder):
    """The bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_table(table, folder, layout):
    """Store a table in one of several ways."""
    folder.mkdir()
    n = table.num_rows
    if layout == "ragged row groups":
        with pq.ParquetWriter(folder / "0.parquet", table.schema) as writer:
            for start, stop in pairwise([0, 1, 402, 402, 959, 1519, n]):
                writer.write_table(table.slice(start, stop - start))
    elif layout == "one row group":
        pq.write_table(table, folder / "0.parquet", row_group_size=n)
    else:
        for number, start in enumerate(range(0, n, 100)):
            pq.write_table(table.slice(start, 100), folder / f"{number}.parquet")
    return str(folder)


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


def test_columns_are_kept_with_their_own_types(model, table, tmp_path):
    source = write_table(table, tmp_path / "in", "ragged row groups")
    write_predictions(model, source, tmp_path / "some.parquet", keep=KEYS)
    some = read(tmp_path / "some.parquet")
    assert (
        some.select(KEYS)
        .replace_schema_metadata(None)
        .equals(pads.dataset(source).to_table(columns=KEYS).replace_schema_metadata(None))
    )
    assert some.column_names == [*KEYS, "label"]
    assert some.schema.field("label").type == pa.int8()
    write_predictions(model, source, tmp_path / "all.parquet", keep="all")
    assert read(tmp_path / "all.parquet").column_names == [*table.column_names, "label"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


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


def test_folders_by_the_values_of_columns(model, table, x, tmp_path):
    source = write_table(table, tmp_path / "in", "ragged row groups")
    write_predictions(model, source, tmp_path / "o.parquet", keep=["id", "day", "kind"], partition_by=["day", "kind"])
    files = [
        str(one.relative_to(tmp_path / "o.parquet")) for one in sorted((tmp_path / "o.parquet").rglob("*.parquet"))
    ]
    assert all(len(file.split("/")) == 3 for file in files)
    assert {file.split("/")[0] for file in files} == {f"day=2026-01-0{d}" for d in (1, 2, 3)}
    for found in (
        pl.read_parquet(tmp_path / "o.parquet", hive_partitioning=True).to_pandas(),
        duckdb.sql(f"select * from read_parquet('{tmp_path}/o.parquet/*/*/*.parquet', hive_partitioning = true)").df(),
        pd.read_parquet(tmp_path / "o.parquet"),
    ):
        joined = found.merge(table.select(["id", "day", "kind"]).to_pandas(), on="id", validate="1:1")
        assert len(joined) == len(x)
        assert (pd.to_datetime(joined.day_x.astype(str)) == pd.to_datetime(joined.day_y)).all()
        assert (joined.kind_x.astype(str) == joined.kind_y.astype(str)).all()
    # In each folder in the order of the rows.
    one = pads.dataset(sorted(str(f) for f in (tmp_path / "o.parquet/day=2026-01-01/kind=u").iterdir())).to_table()
    wanted = table.filter((pc.field("day") == datetime.date(2026, 1, 1)) & (pc.field("kind") == "u"))
    assert one["id"].equals(wanted["id"])


def test_keys_of_folders_are_kept(model, table, x, tmp_path):
    """Of a source in Hive's layout; with a value that is missing, and one that needs quoting."""
    years = pa.array(np.where(np.arange(len(x)) % 2 == 0, 2025, 2026))
    places = pa.array([None, "a/b=c", "plain"]).take(pa.array(np.arange(len(x)) % 3))
    keyed = table.append_column("year", years).append_column("place", places)
    pq.write_to_dataset(keyed, tmp_path / "in", partition_cols=["year", "place"])
    write_predictions(
        model,
        str(tmp_path / "in"),
        tmp_path / "o.parquet",
        keep=["id", "year", "place"],
        partition_by=["year", "place"],
    )
    found = duckdb.sql(
        f"select * from read_parquet('{tmp_path}/o.parquet/*/*/*.parquet', hive_partitioning = true)"
    ).df()
    joined = found.merge(keyed.select(["id", "year", "place"]).to_pandas(), on="id", validate="1:1")
    assert len(joined) == len(x)
    assert (joined.year_x == joined.year_y).all()
    assert (joined.place_x.replace("__HIVE_DEFAULT_PARTITION__", None).fillna("-") == joined.place_y.fillna("-")).all()
    folders = {p.parent.name for p in (tmp_path / "o.parquet").rglob("*.parquet")}
    assert folders == {p.parent.name for p in (tmp_path / "in").rglob("*.parquet")}
    write_predictions(model, str(tmp_path / "in"), tmp_path / "flat.parquet", keep=["id", "year", "place"])
    flat = read(tmp_path / "flat.parquet")
    assert (flat.schema.field("year").type, flat.schema.field("place").type) == (pa.int32(), pa.string())


def test_columns_whose_types_differ_among_files(model, table, x, tmp_path):
    (tmp_path / "in").mkdir()
    features = table.select(FEATURES)
    n = len(x)
    for number, values in enumerate((pa.array(np.arange(n, dtype=np.int32)), pa.array(np.arange(n) + 2**40), None)):
        one = features if values is None else features.append_column("id", values)
        pq.write_table(one, tmp_path / "in" / f"{number}.parquet")
    with pytest.warns(match="no column 'id'"):
        write_predictions(model, str(tmp_path / "in"), tmp_path / "o.parquet", keep=["id"])
    found = read(tmp_path / "o.parquet")["id"]
    assert found.type == pa.int64()
    assert found.to_pylist() == [*range(n), *(i + 2**40 for i in range(n)), *[None] * n]
    pq.write_table(features.append_column("id", pa.array(["text"] * n)), tmp_path / "in" / "3.parquet")
    with pytest.warns(match="no column 'id'"), pytest.raises(RowsError, match=r"column 'id' has type string"):
        write_predictions(model, str(tmp_path / "in"), tmp_path / "p.parquet", keep=["id"])


@pytest.mark.parametrize("compression", ["zstd", "none", "gzip", "lz4", "brotli", "snappy"])
def test_compression_and_row_groups_of_parquet(compression, model, table, tmp_path):
    output = tmp_path / "o.parquet"
    write_predictions(model, table, output, keep=["id"], compression=compression, row_group_rows=700)
    (file,) = output.iterdir()
    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [700] * 4 + [200]
    name = metadata.row_group(0).column(0).compression.lower()
    assert name == {"none": "uncompressed"}.get(compression, compression)


@pytest.mark.parametrize("compression", ["zstd", "none", "gzip", "lz4"])
def test_compression_of_zarr(compression, model, table, x, tmp_path):
    write_predictions(model, table, tmp_path / "o.zarr", keep=["id"], compression=compression)
    group = zarr.open_group(tmp_path / "o.zarr", mode="r")
    codec = {"zstd": "ZstdCodec", "gzip": "GzipCodec", "lz4": "BloscCodec", "none": None}
    assert [type(one).__name__ for one in group["label"].compressors] == [one for one in (codec[compression],) if one]
    np.testing.assert_array_equal(group["id"][:], table["id"].to_numpy())


@pytest.fixture
def group(x, tmp_path):
    """A Zarr group with keys beside the rows."""
    n = len(x)
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    group.create_array("x", data=x, chunks=(512, 3))
    group.create_array("id", data=np.arange(n)[::-1].copy(), chunks=(1000,))
    group.create_array("site", data=np.array([f"s{i % 5}" for i in range(n)], dtype=np.dtypes.StringDType()))
    hours = {"units": "hours since 2020-01-01 06:00", "calendar": "standard", "_FillValue": -1}
    group.create_array("time", data=np.where(np.arange(n) == 3, -1, np.arange(n)), attributes=hours)
    packed = {"scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -9}
    group.create_array("depth", data=np.where(np.arange(n) == 4, -9, np.arange(n)).astype(np.int32), attributes=packed)
    group.create_array("position", data=np.stack([np.arange(n), -np.arange(n)], axis=1), dimension_names=("t", "xy"))
    group.create_array("other", data=np.arange(7))
    return tmp_path / "in.zarr"


def test_arrays_beside_the_rows_are_kept(group, x, tmp_path):
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    names = ["id", "site", "time", "depth", "position"]
    opened = zarr.open_group(group, mode="r")
    for number, source in enumerate((str(group), f"{group}/x", opened, opened["x"], zarr.open_array(group / "x"))):
        if number in (0, 2):  # several arrays of two dimensions: it must be said which holds the rows
            continue
        write_predictions(model, source, tmp_path / "o.zarr", keep=names, overwrite=True)
        copy = zarr.open_group(tmp_path / "o.zarr", mode="r")
        for name in names:
            np.testing.assert_array_equal(copy[name][:], opened[name][:])
            assert dict(copy[name].attrs) == dict(opened[name].attrs)
        np.testing.assert_array_equal(copy["label"][:], model.predict(x))
        write_predictions(model, source, tmp_path / "o.parquet", keep="all", overwrite=True)
        found = pd.read_parquet(tmp_path / "o.parquet")
        with xr.open_zarr(group) if False else xr.open_zarr(tmp_path / "o.zarr", mask_and_scale=True) as decoded:
            for name in ("id", "time", "depth"):
                np.testing.assert_array_equal(found[name], decoded[name])
        assert found.site.tolist() == opened["site"][:].tolist()
        np.testing.assert_array_equal(np.stack(found.position), opened["position"][:])
        assert sorted(found) == sorted([*names, "label"])


def test_what_cannot_be_kept_is_named(group, model, table, x, tmp_path):
    by_place = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    for source, keep, match in (
        (f"{group}/x", ["other"], r"'other' .* shape \(7,\); expected 3000 rows"),
        (f"{group}/x", ["none"], "no array 'none' of 3000 rows beside it; it has 'depth', 'id'"),
        (x, ["id"], "nothing that goes with rows"),
        (da.from_array(x), "all", "nothing that goes with rows"),
    ):
        with pytest.raises(RowsError, match=match):
            write_predictions(by_place, source, tmp_path / "o.parquet", keep=keep)
    for keep, match in (
        (["nothing"], "no column 'nothing'; it has 'id', 'name'"),
        (["id", "id"], "keep= names 'id' 2 times"),
        ("id", r"keep=\['id'\]"),
        (["price"], "'price' has type decimal"),
        (["flags"], "'flags' has type list"),
        (["name"], "'name' .* missing value"),
    ):
        with pytest.raises(RowsError, match=match):
            write_predictions(model, table, tmp_path / "o.zarr", keep=keep)
    renamed = table.rename_columns(["label", *table.column_names[1:]])
    with pytest.raises(InputError, match="'label' has the name of a result"):
        write_predictions(model, renamed, tmp_path / "o.parquet", keep="all")
    assert not list(tmp_path.glob("*o.*"))
    write_predictions(model, renamed, tmp_path / "o.parquet", keep=["label"], prefix="gmm_")
    assert read(tmp_path / "o.parquet").column_names == ["label", "gmm_label"]


def test_mistakes_are_named(model, table, tmp_path):
    output = tmp_path / "o.parquet"
    for options, match in (
        ({"write": ["labels"]}, "'labels'; expected some of 'label'"),
        ({"write": []}, "names nothing"),
        ({"write": ["label", "label"]}, "'label' 2 times"),
        ({"write": "outlier"}, "outlier_rate or outlier_threshold"),
        ({"outlier_rate": 0.1}, "name 'outlier' in write"),
        ({"write": "outlier", "outlier_rate": 1e-9}, "rate=1e-09"),
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


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=6).filter(any),
    n_columns=st.sampled_from([None, 3]),
    widest=st.sampled_from([500, 2000, 2**20]),
)
@example(lengths=[2803, 1, 557, 560], n_columns=3, widest=2000)
def test_parts_of_any_lengths_fill_whole_chunks(lengths, n_columns, widest):
    """Two tasks that wrote into one chunk would lose results: what ends inside of one is laid aside."""
    import tempfile
    from pathlib import Path

    from streamgmm.predict.outputs import Options, Piece
    from streamgmm.predict.scores import ScoreColumn

    lengths = [n for n in lengths if n]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    values = np.random.default_rng(0).normal(size=(sum(lengths), n_columns or 1))
    values = values[:, 0] if n_columns is None else values
    column = ScoreColumn("proba", np.dtype(float), n_columns, "component", "")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr_output, "CHUNK_BYTES", widest)
        output = zarr_output.ZarrOutput(f"{folder}/data", "o.zarr", {"responsibilities": column}, None, Options())
        output.create(sum(lengths), lengths[0])
        chunk = zarr.open_group(output.path)["proba"].chunks[0]
        written = []
        original = zarr.Array.__setitem__

        def seen(self, rows, values):
            if str(self.store.root) == output.path:
                written.extend(range(rows.start // chunk, -(-rows.stop // chunk)))
            return original(self, rows, values)

        patch.setattr(zarr.Array, "__setitem__", seen)
        for start, n in reversed(list(zip(starts, lengths, strict=True))):
            cuts = sorted({start, *(start + np.arange(0, n, 70)).tolist(), start + n})
            pieces = (Piece({"responsibilities": values[a:b]}, None, b - a) for a, b in pairwise(cuts))
            output.write(str(start), start, pieces)
        output.complete(list(zip(starts, lengths, strict=True)))
        found = zarr.open_group(Path(output.path))["proba"][:]
    np.testing.assert_array_equal(found, values)
    assert sorted(written) == list(range(-(-sum(lengths) // chunk)))


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_of_a_task_only_a_piece_of_its_results_is_held(suffix, x, tmp_path, monkeypatch):
    """Responsibilities may be many times as large as the rows that they are of."""
    model = GaussianMixture(3, random_state=0, init_params="kmeans").fit(x)
    monkeypatch.setattr("streamgmm.predict.outputs.CHUNK_BYTES", 250 * 3 * 8)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(3000, 3))
    lengths = []
    evaluate_block = Scorer.__call__

    def seen(self, block, parameters):
        lengths.append(len(block.x))
        return evaluate_block(self, block, parameters)

    monkeypatch.setattr(Scorer, "__call__", seen)
    output = tmp_path / f"out{suffix}"
    write_predictions(model, str(tmp_path / "x.zarr"), output, write="responsibilities")
    assert set(lengths) == {250}


@pytest.mark.parametrize("name", ["day [1]", "what?", "a*b", "50%", "a#b", "a::b", "n" * 240])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_results_have_the_name_that_was_given(suffix, name, model, table, x, tmp_path):
    """No character of a local path has another meaning: Zarr would take some for parts of a URL."""
    folder = tmp_path / f"folder {name[:100]}"
    folder.mkdir()
    output = folder / f"{name}{suffix}"
    write_predictions(model, table, output)
    assert [p.name for p in folder.iterdir()] == [output.name]
    found = zarr.open_group(output)["label"][:] if suffix == ".zarr" else read(output)["label"].to_numpy()
    np.testing.assert_array_equal(found, model.predict(table))


def test_what_to_do_where_the_output_exists(model, table, tmp_path):
    for suffix in (".zarr", ".parquet"):
        output = tmp_path / f"out{suffix}"
        write_predictions(model, table, output)
        before = content(output)
        with pytest.raises(OutputExistsError, match="exists"):
            write_predictions(model, table, output, write="log_density")
        assert write_predictions(model, table, output, write="log_density", if_exists="skip").skipped
        assert content(output) == before
        write_predictions(model, table.slice(0, 10), output, if_exists="replace")
        assert content(output) != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "out.zarr"]


@pytest.mark.parametrize("there", ["a file", "a folder", "a link to a folder"])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_whatever_was_there_is_replaced(there, suffix, model, table, tmp_path):
    output = tmp_path / f"out{suffix}"
    if there == "a file":
        output.write_bytes(b"old")
    else:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "old").write_bytes(b"old")
        (tmp_path / "elsewhere").rename(output) if there == "a folder" else output.symlink_to(tmp_path / "elsewhere")
    write_predictions(model, table, output, overwrite=True)
    assert output.is_dir()
    assert not output.is_symlink()
    assert not (output / "old").exists()
    assert there != "a link to a folder" or (tmp_path / "elsewhere" / "old").exists()
    assert not list(tmp_path.glob(".*"))


def test_what_was_there_stays_where_the_new_one_cannot_come(model, table, tmp_path, monkeypatch):
    output = tmp_path / "out.zarr"
    output.mkdir()
    (output / "old").write_bytes(b"old")
    rename = os.rename

    def fail(source, target):
        if str(source).endswith("/data"):
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(staging.os, "rename", fail)
    with pytest.raises(OutputError, match="no"):
        write_predictions(model, table, output, overwrite=True)
    assert (output / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "batch", "Dask"])
def test_tables_come_back_as_the_kind_that_they_were(kind, model, table, x):
    frame = table.to_pandas().set_index("id")
    made = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_arrow(table),
        "pyarrow": lambda: table,
        "batch": lambda: table.combine_chunks().to_batches()[0],
        "Dask": lambda: dd.from_pandas(frame, npartitions=3, sort=False),
    }
    source = made[kind]()
    found = model.predict_table(source, write=SCORES, keep=["name"], outlier_threshold=-6.0)
    assert type(found) is type(source)
    if kind == "Dask":
        expected_meta = found._meta
        found = found.compute()
        pd.testing.assert_series_equal(found.dtypes, expected_meta.dtypes)
    in_pandas = found if isinstance(found, pd.DataFrame) else found.to_pandas()
    if kind in ("pandas", "Dask"):
        pd.testing.assert_index_equal(in_pandas.index, frame.index)
    assert in_pandas["name"].fillna("-").tolist() == frame["name"].fillna("-").tolist()
    for name, values in expected_scores(model, x).items():
        np.testing.assert_array_equal(in_pandas[name], values)
    alone = model.predict_table(source)
    assert list(
        alone.columns if hasattr(alone, "columns") and kind in ("pandas", "polars", "Dask") else alone.schema.names
    ) == ["label"]


def test_a_table_is_asked_for_where_none_is_given(model, x):
    with pytest.raises(InputError, match="predict_table takes a DataFrame"):
        model.predict_table(x)
    with pytest.raises(InputError, match="has the name of a result"):
        model.predict_table(pd.DataFrame(x, columns=FEATURES).assign(label=1), keep=["label"])


def test_threads_and_one_thread_write_the_same_bytes(model, table, tmp_path):
    source = write_table(table, tmp_path / "in", "small files")
    model.memory_limit = "100KB"
    for scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler):
            for suffix in (".zarr", ".parquet"):
                write_predictions(
                    model, source, tmp_path / f"{scheduler}{suffix}", write=SCORES, keep=["id"], outlier_threshold=-6.0
                )
    for suffix in (".zarr", ".parquet"):
        assert content(tmp_path / f"threads{suffix}") == content(tmp_path / f"synchronous{suffix}")
    assert len(content(tmp_path / "threads.parquet")) > 5
