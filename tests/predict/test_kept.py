"""What is kept of the rows goes with their scores, in its own types, or it is named."""

import os
import warnings

import dask.array as da
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr

from streamgmm import GaussianMixture, write_predictions
from streamgmm.exceptions import InputError, RowsError
from tests.predict.scored import FEATURES, KEYS, read, write_table


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
        with xr.open_zarr(tmp_path / "o.zarr", mask_and_scale=True) as decoded:
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


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_xarray_writes_is_kept_as_xarray_reads_it(zarr_format, x, tmp_path):
    """In Zarr the same to xarray; in Parquet whole numbers stay whole, and times to the last nanosecond."""
    n = len(x)
    count = np.arange(n, dtype=np.int64) + 2**53 + 1  # which floats do not tell apart
    seen = np.datetime64("2026-01-01", "ns") + (np.arange(n) * 1_000_000_007).astype("timedelta64[ns]")
    missing = np.arange(n) % 7 == 3
    source = xr.Dataset(
        {
            "x": (("t", "feature"), x),
            "count": ("t", np.where(missing, -1, count)),
            "small": ("t", np.where(missing, 250, np.arange(n) % 100).astype(np.uint8)),
            "half": ("t", np.where(missing, np.nan, np.arange(n) / 2).astype(np.float32)),
            "seen": ("t", np.where(missing, np.datetime64("NaT", "ns"), seen)),
            "hour": ("t", np.where(missing, -1, np.arange(n)).astype(np.int16)),
            "flag": ("t", ~missing),
            "site": ("t", np.array([f"s{i % 5}" for i in range(n)], dtype="U4")),
        }
    )
    for name, fill in (("count", -1), ("small", 250), ("hour", -1)):
        source[name].attrs["_FillValue"] = np.asarray(fill, source[name].dtype)[()]
    source.hour.attrs["units"] = "hours since 2026-01-01"
    encoding = {"seen": {"units": "nanoseconds since 2026-01-01", "dtype": "int64", "_FillValue": -5}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts of a fixed width, which format 3 does not have yet
        source.to_zarr(tmp_path / "in.zarr", zarr_format=zarr_format, consolidated=False, encoding=encoding)
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    keep = ["count", "small", "half", "seen", "hour", "flag", "site"]
    write_predictions(model, f"{tmp_path}/in.zarr/x", tmp_path / "o.zarr", keep=keep)
    write_predictions(model, f"{tmp_path}/in.zarr/x", tmp_path / "o.parquet", keep=keep)
    with (
        xr.open_zarr(tmp_path / "in.zarr", consolidated=False) as before,
        xr.open_zarr(tmp_path / "o.zarr") as after,
    ):
        assert after.label.dims == after["count"].dims == ("t",)
        for name in keep:
            assert before[name].dtype == after[name].dtype
            np.testing.assert_array_equal(before[name].values, after[name].values)
        read_by_xarray = {name: before[name].values for name in keep}
    table = read(tmp_path / "o.parquet")
    types = [pa.int64(), pa.uint8(), pa.float32(), pa.timestamp("ns"), pa.timestamp("us"), pa.bool_(), pa.string()]
    assert [table.schema.field(name).type for name in keep] == types
    assert table["count"].to_pylist() == [None if gone else int(v) for gone, v in zip(missing, count, strict=True)]
    assert table["small"].to_pylist() == [None if gone else i % 100 for i, gone in enumerate(missing)]
    for name in ("half", "seen", "hour", "flag"):
        np.testing.assert_array_equal(table[name].to_pandas(), read_by_xarray[name])
    assert table["seen"].null_count == table["hour"].null_count == missing.sum()
    assert table["site"].to_pylist() == source.site.values.tolist()


def test_times_that_no_type_holds_are_named(x, tmp_path):
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    group.create_array("x", data=x)
    group.create_array("t", data=np.full(len(x), 200_000_000), attributes={"units": "days since 2000-01-01"})
    far = {"units": "nanoseconds since 1000-01-01"}
    group.create_array("ns", data=np.arange(len(x)), attributes=far)
    scaled = {"units": "days since 2000-01-01", "scale_factor": 0.1}
    group.create_array("scaled", data=np.arange(len(x)), attributes=scaled)
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    for name, units, calendar, values in (
        ("julian", "days since 0001-01-01", "standard", 730_000),
        ("before", "days since 1600-01-01", None, -10_000),
    ):
        attributes = {"units": units, **({} if calendar is None else {"calendar": calendar})}
        group.create_array(name, data=np.full(len(x), values), attributes=attributes)
    for name, match in (
        ("t", "290,000 years"),
        ("ns", "dates"),
        ("scaled", "scaled or shifted"),
        ("julian", "before 1582-10-15"),
        ("before", "before 1582-10-15"),
    ):
        with pytest.raises(RowsError, match=match):
            write_predictions(model, f"{tmp_path}/in.zarr/x", tmp_path / "o.parquet", keep=[name])
        write_predictions(model, f"{tmp_path}/in.zarr/x", tmp_path / "o.zarr", keep=[name], overwrite=True)
        np.testing.assert_array_equal(zarr.open_group(tmp_path / "o.zarr")[name][:], group[name][:])


def test_folders_that_were_named_with_zeros_are_again(model, table, x, tmp_path):
    """Whole numbers to whoever reads them, as Arrow, pandas and DuckDB have it; the layout stays what it was."""
    month = np.arange(len(x)) % 12 + 1
    keyed = table.append_column("month", pa.array([f"{m:02}" for m in month]))
    pq.write_to_dataset(keyed, tmp_path / "in", partition_cols=["month"])
    options = {"keep": ["id", "month"], "where": "month > 8"}
    write_predictions(model, str(tmp_path / "in"), tmp_path / "o.parquet", partition_by=["month"], **options)
    assert sorted(os.listdir(tmp_path / "o.parquet")) == ["month=09", "month=10", "month=11", "month=12"]
    found = pd.read_parquet(tmp_path / "o.parquet").merge(keyed.to_pandas(), on="id", validate="1:1")
    assert (found.month_x.astype(int) == found.month_y.astype(int)).all()
    write_predictions(model, str(tmp_path / "in"), tmp_path / "flat.parquet", **options)
    flat = read(tmp_path / "flat.parquet")
    assert flat.schema.field("month").type == pa.int32()
    assert not flat.schema.field("month").metadata
    assert set(flat["month"].to_pylist()) == {9, 10, 11, 12}


def test_times_of_single_precision_are_told_as_xarray_tells_them(x, tmp_path):
    days = (9000.3 + 0.37 * np.arange(len(x))).astype(np.float32)
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    group.create_array("x", data=x, dimension_names=("t", "feature"))
    group.create_array("days", data=days, dimension_names=("t",), attributes={"units": "days since 2000-01-01"})
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    write_predictions(model, f"{tmp_path}/in.zarr/x", tmp_path / "o.parquet", keep=["days"])
    with xr.open_zarr(tmp_path / "in.zarr", consolidated=False) as read_by_xarray:
        difference = read(tmp_path / "o.parquet")["days"].to_numpy() - read_by_xarray.days.values
    assert np.abs(difference).max() <= np.timedelta64(1, "us")


def test_a_dimension_that_has_another_size_among_the_results_is_renamed(x, tmp_path):
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    group.create_array("x", data=x, dimension_names=("obs", "feature"))
    group.create_array("v", data=np.ones((len(x), 5)), dimension_names=("obs", "component"))
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    output = tmp_path / "o.zarr"
    write_predictions(model, f"{tmp_path}/in.zarr/x", output, keep=["v"], write=["responsibilities"])
    with xr.open_zarr(output) as found:
        assert dict(found.sizes) == {"obs": len(x), "component": 2, "v_component": 5}
