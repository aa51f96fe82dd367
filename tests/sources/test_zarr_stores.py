"""Zarr stores give what xarray and zarr read from them; one that can't be seen is an error, not zeros."""

import base64
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture
from streamgmm.exceptions import DataChangedError, MissingValuesError, RowsError
from streamgmm.sources.open import open_rows
from streamgmm.storage import zarr_places as zarr_place

N_EXAMPLES = int(os.environ.get("STREAMGMM_EXAMPLES", "50"))
X = np.random.default_rng(1).normal(100.0, 1.0, size=(60, 2))


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    monkeypatch.setattr(zarr_place, "_open_arrays", {})


def values_of(rows):
    return np.concatenate([block.x for number in range(rows.n_tasks) for block in rows.blocks(number)])


def sent(rows):
    """The rows as a worker gets them."""
    return pickle.loads(pickle.dumps(rows))


def stored(folder, name="x.zarr", data=X, chunks=(20, 2), **options):
    zarr.create_array(f"{folder}/{name}", data=data, chunks=chunks, **options)
    return f"{folder}/{name}"


# Stores that can't be seen


@pytest.mark.parametrize("options", [{"zarr_format": 2}, {"zarr_format": 3}, {"chunks": (10, 2), "shards": (20, 2)}])
@pytest.mark.parametrize("given", ["path", "array", "array in a group", "group"])
def test_a_store_that_a_worker_does_not_see_is_an_error(given, options, tmp_path):
    path = stored(tmp_path, "g.zarr/x" if "group" in given else "x.zarr", **options)
    if "group" in given:
        zarr.open_group(f"{tmp_path}/g.zarr", mode="a", zarr_format=options.get("zarr_format", 3))
    source = {
        "path": lambda: path,
        "array": lambda: zarr.open(path, mode="r"),
        "array in a group": lambda: zarr.open(f"{tmp_path}/g.zarr", mode="r")["x"],
        "group": lambda: zarr.open(f"{tmp_path}/g.zarr", mode="r"),
    }[given]()
    rows = open_rows(source)
    np.testing.assert_array_equal(values_of(sent(rows)), X)
    moved = sent(rows)
    shutil.rmtree(tmp_path / ("g.zarr" if "group" in given else "x.zarr"))
    # In a process that has not read it yet, and in one that has.
    for seen in (False, True):
        if not seen:
            zarr_place._open_arrays.clear()
        with pytest.raises(RowsError, match=r"x.* is not there for the process that came to read it, on .*same name"):
            values_of(moved)
    with pytest.raises(RowsError, match="is not there for the process"):
        values_of(rows)


def test_a_store_that_goes_after_a_process_has_read_of_it(tmp_path):
    """Absent chunks are the fill value only where the store is: each piece that may be absent is asked for."""
    path = stored(tmp_path)
    on_worker = sent(open_rows(path))
    np.testing.assert_array_equal(np.concatenate([block.x for block in on_worker.read(0, 20)]), X[:20])
    os.rename(path, f"{tmp_path}/y.zarr")
    with pytest.raises(RowsError, match="is not there for the process"):
        list(on_worker.read(20, 40))
    os.rename(f"{tmp_path}/y.zarr", path)
    np.testing.assert_array_equal(np.concatenate([block.x for block in on_worker.read(20, 40)]), X[20:40])


def test_lazy_results_of_a_store_that_has_gone(tmp_path):
    model = GaussianMixture(1).fit(X)
    lazy = model.score_samples(stored(tmp_path))
    shutil.rmtree(tmp_path / "x.zarr")
    with pytest.raises(RowsError, match=r"x\.zarr is not there for the process"):
        lazy.compute()


def test_a_url_of_a_store_that_a_worker_does_not_see():
    """A store in another process's memory, here: a file system of its own is empty there."""
    url = "memory://test_a_url_that_workers_do_not_see.zarr"
    array = zarr.create_array(url, shape=X.shape, dtype=X.dtype, chunks=(20, 2))
    array[:] = X
    on_worker = sent(open_rows(url))
    import fsspec

    fsspec.filesystem("memory").rm("/test_a_url_that_workers_do_not_see.zarr", recursive=True)
    with pytest.raises(RowsError, match=r"memory://test_a_url.* is not there for the process"):
        values_of(on_worker)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": X[:40]}, r"shape was \[60, 2\] and is \[40, 2\]"),
        ({"chunks": (30, 2)}, r"chunk_grid was .*20.* and is .*30"),
        ({"data": X.astype(np.float32)}, r"data_type was \"float64\" and is \"float32\""),
        ({"fill_value": 7.0}, r"fill_value was 0\.0 and is 7\.0"),
        ({"compressors": None}, r"codecs was .*zstd"),
    ],
)
def test_another_store_under_the_same_name(other, message, tmp_path):
    on_worker = sent(open_rows(stored(tmp_path)))
    shutil.rmtree(tmp_path / "x.zarr")
    stored(tmp_path, **other)
    with pytest.raises(DataChangedError, match=rf"x\.zarr is not the array that was opened.*{message}"):
        values_of(on_worker)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("fill_value", [0.0, 5.0, np.nan])
def test_chunks_that_were_never_written_are_the_fill_value(zarr_format, fill_value, tmp_path):
    path = f"{tmp_path}/x.zarr"
    array = zarr.create_array(
        path, shape=X.shape, dtype=X.dtype, chunks=(20, 1), fill_value=fill_value, zarr_format=zarr_format
    )
    array[20:40] = X[20:40]
    expected = np.full(X.shape, fill_value)
    expected[20:40] = X[20:40]
    for rows in (open_rows(path), sent(open_rows(path))):
        np.testing.assert_array_equal(values_of(rows), expected)


def test_a_relative_store_is_read_by_processes_in_another_folder(tmp_path, monkeypatch):
    stored(tmp_path)
    zipped(tmp_path)
    monkeypatch.chdir(tmp_path)
    sources = [
        "x.zarr",
        zarr.open("x.zarr", mode="r"),
        zarr.open(zarr.storage.LocalStore("x.zarr"), mode="r"),
        zarr.open(zarr.storage.ZipStore("x.zarr.zip", mode="r")),
    ]
    opened = [open_rows(source) for source in sources]
    monkeypatch.chdir("/")
    for rows in opened:
        np.testing.assert_array_equal(values_of(rows), X)
        np.testing.assert_array_equal(values_of(sent(rows)), X)


@pytest.mark.parametrize("dtype", ["f8", ">f4", "i1", "bool"])
@pytest.mark.parametrize(
    "options", [{"compressors": None}, {"compressors": "auto"}, {"compressors": zarr.codecs.BloscCodec()}]
)
@pytest.mark.parametrize("shards", [None, (20, 2)])
def test_an_array_that_was_just_created(dtype, options, shards, tmp_path):
    """In the process that has made it, it says more of itself than its file does: it is the same array all the same."""
    data = (X > 100.0).astype(dtype)
    array = zarr.create_array(f"{tmp_path}/x.zarr", data=data, chunks=(10, 2), shards=shards, **options)
    np.testing.assert_array_equal(values_of(sent(open_rows(array))), data)


def test_metadata_are_opened_once_in_a_process(tmp_path, monkeypatch):
    compared = []
    compare = zarr_place._compare
    monkeypatch.setattr(zarr_place, "_compare", lambda *rest: compared.append(compare(*rest)))
    rows = open_rows(stored(tmp_path))
    for _ in range(3):
        values_of(sent(rows))
    assert len(compared) == 1
    values_of(rows)
    assert len(compared) == 1


def test_an_archive(tmp_path):
    stored(tmp_path)
    path = zipped(tmp_path)
    for source in (path, f"zip://::{path}", zarr.open(zarr.storage.ZipStore(path, mode="r"))):
        rows = open_rows(source)
        np.testing.assert_array_equal(values_of(rows), X)
        on_worker = sent(rows)
        np.testing.assert_array_equal(values_of(on_worker), X)
        assert rows.stored_version() is not None
    on_worker = sent(open_rows(path))
    os.remove(path)
    zarr_place._open_arrays.clear()
    with pytest.raises(RowsError, match=r"x\.zarr\.zip is not there for the process"):
        values_of(on_worker)


def zipped(folder):
    path = f"{folder}/x.zarr.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in Path(f"{folder}/x.zarr").rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(f"{folder}/x.zarr"))
    return path


def test_a_npy_file_that_a_worker_does_not_see_or_that_is_another(tmp_path):
    np.save(tmp_path / "x.npy", X)
    on_worker = sent(open_rows(str(tmp_path / "x.npy")))
    np.save(tmp_path / "x.npy", X[:50])
    with pytest.raises(DataChangedError, match=r"shape \(60, 2\) of float64 then, \(50, 2\) of float64 now"):
        values_of(on_worker)
    os.remove(tmp_path / "x.npy")
    with pytest.raises(RowsError, match=r"x\.npy is not there for the process"):
        values_of(on_worker)


# Groups


def group_of(path, arrays, zarr_format=3):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, (shape, dims, attributes) in arrays.items():
        names = {"dimension_names": dims} if zarr_format == 3 else {}
        array = group.create_array(name, shape=shape, dtype="f8", chunks=shape, **names)
        array[...] = np.arange(np.prod(shape), dtype=float).reshape(shape) + 1
        array.attrs.update(
            attributes if zarr_format == 3 or dims is None else {**attributes, "_ARRAY_DIMENSIONS": dims}
        )
    return path


CUBE = {"t2m": ((4, 3, 5), ["time", "lat", "lon"], {}), "time_bnds": ((4, 2), ["time", "bnds"], {})}
NAMED_BOUNDS = {"time": ((4,), None, {"bounds": "time_bnds"}), "time_bnds": ((4, 2), None, {})}
CURVED = {"sst": ((4,), ["t"], {"coordinates": "lat"}), "lat": ((4, 2), ["y", "x"], {})}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("arrays", [CUBE, NAMED_BOUNDS, CURVED], ids=["cube", "named bounds", "coordinates"])
def test_bounds_of_a_climate_cube_are_no_rows(arrays, zarr_format, tmp_path):
    path = group_of(f"{tmp_path}/cube.zarr", arrays, zarr_format)
    for source in (path, zarr.open(path, mode="r")):
        with pytest.raises(RowsError, match=r"Zarr group.*give the array to use") as caught:
            open_rows(source)
        assert "\n" not in str(caught.value)
        assert all(name in str(caught.value) for name in arrays)
    # By its own name it may be what is wanted.
    name = list(arrays)[-1]
    assert open_rows(f"{path}/{name}").n_rows == 4


def test_a_cube_that_xarray_has_written(tmp_path):
    xr = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset(
            {"t2m": (("time", "lat", "lon"), np.zeros((4, 3, 5))), "time_bnds": (("time", "b"), np.zeros((4, 2)))}
        ).to_zarr(tmp_path / "cube.zarr")
    with pytest.raises(RowsError, match=r"t2m \(time 4, lat 3, lon 5\)"):
        GaussianMixture(1).fit(tmp_path / "cube.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("name", ["x", "a/b/x"])
def test_a_group_with_one_matrix(name, zarr_format, consolidated, tmp_path):
    path = group_of(f"{tmp_path}/g.zarr", {name: ((6, 2), ["row", "f"], {}), "w": ((6,), ["row"], {})}, zarr_format)
    if consolidated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(path)
        if zarr_format == 2:
            # All that some stores have.
            os.remove(f"{path}/{name}/.zarray")
    for source in (path, zarr.open_group(path, mode="r")):
        for rows in (open_rows(source), sent(open_rows(source))):
            np.testing.assert_array_equal(values_of(rows), np.arange(1, 13).reshape(6, 2))
            assert rows.feature_names is None


def test_a_group_as_an_object(tmp_path):
    group = zarr.open_group(f"{tmp_path}/g.zarr", mode="w")
    with pytest.raises(RowsError, match="X is a Zarr group with 0 two-dimensional arrays; give the array to use"):
        open_rows(group)
    group.create_array("x", data=X, chunks=(20, 2))
    model = GaussianMixture(1).fit(group)
    np.testing.assert_allclose(model.means_[0], X.mean(axis=0))
    assert model.predict(group).compute().shape == (60,)
    group.create_array("y", data=X)
    with pytest.raises(RowsError, match=r"X is a Zarr group with 2 two-dimensional arrays.*X\['x'\] \(60, 2\)"):
        GaussianMixture(1).fit(group)
    with pytest.raises(RowsError, match="columns= is for tables"):
        open_rows(group, columns=["x"])


# Packed values


def packed_store(path, data, attributes, zarr_format=3, fill_value=None, **options):
    """A group with one variable, as xarray writes them: it can be read by xarray too."""
    names = {"dimension_names": ["row", "feature"]} if zarr_format == 3 else {}
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    fill = {} if fill_value is None else {"fill_value": fill_value}
    array = group.create_array("v", shape=data.shape, dtype=data.dtype, **names, **fill, **{"chunks": (3, 2)} | options)
    array[...] = data
    array.attrs.update(attributes)
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["row", "feature"]
    # In the process that has made it, an array says more of itself than its file does.
    np.testing.assert_array_equal(values_of(sent(open_rows(array))), values_of(open_rows(array)))
    return path


def by_xarray(path, group=None):
    xr = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xr.open_zarr(path, group=group, chunks=None, consolidated=False).v.values


def encoded(value):
    """A float as xarray writes it into attributes of format 3."""
    return base64.b64encode(struct.pack("<d", value)).decode()


def decoded(value):
    is_encoded = isinstance(value, str) and value.endswith("=")
    return struct.unpack("<d", base64.b64decode(value))[0] if is_encoded else value


STORED = np.array([[0, 1], [2, 3], [-9, 5], [100, -128]], dtype="i2")
PACKINGS = {
    "scale": (STORED, {"scale_factor": 0.1}),
    "offset": (STORED, {"add_offset": 3.5}),
    "both": (STORED, {"scale_factor": 0.1, "add_offset": 3.5}),
    "both, whole": (STORED, {"scale_factor": 2, "add_offset": 3}),
    "whole scale": (STORED, {"scale_factor": 3}),
    "fill": (STORED, {"_FillValue": -9}),
    "missing": (STORED, {"missing_value": -9}),
    "several": (STORED, {"missing_value": [-9, 100], "_FillValue": -128}),
    "all of it": (STORED, {"scale_factor": 0.1, "add_offset": 3.5, "_FillValue": -9}),
    "int32": (STORED.astype("i4"), {"_FillValue": -9}),
    "int32, packed": (STORED.astype("i4"), {"scale_factor": 0.1, "add_offset": 1.5, "missing_value": -9}),
    "big-endian": (STORED.astype(">i2"), {"scale_factor": 0.1, "_FillValue": -9}),
    "float32": (STORED.astype("f4"), {"_FillValue": encoded(-9.0)}),
    "float32, missing": (STORED.astype("f4"), {"missing_value": -9.0}),
    "float32, scaled": (STORED.astype("f4"), {"scale_factor": 0.1}),
    "float32, scaled, NaN": (STORED.astype("f4"), {"scale_factor": 0.1, "_FillValue": encoded(np.nan)}),
    "float16": (STORED.astype("f2"), {"_FillValue": encoded(-9.0)}),
    "unsigned": (STORED.astype("i1"), {"_Unsigned": "true"}),
    "big-endian, signed": (STORED.astype(">u2"), {"_Unsigned": "false", "_FillValue": 3}),
    "unsigned, fill": (STORED.astype("i1"), {"_Unsigned": "true", "_FillValue": -9, "scale_factor": 0.5}),
    "signed": (STORED.astype("u1"), {"_Unsigned": "false"}),
    "bool": ((STORED > 2).astype("i1"), {"dtype": "bool"}),
    "no effect": (STORED, {"units": "K", "long_name": "temperature", "valid_range": [0, 10]}),
    "days that are numbers": (STORED, {"units": "days"}),
}  # fmt: skip


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", PACKINGS)
def test_packed_values_are_those_of_xarray(name, zarr_format, tmp_path):
    data, attributes = PACKINGS[name]
    if zarr_format == 2:
        attributes = {key: decoded(value) for key, value in attributes.items()}
        fill = attributes.pop("_FillValue", None)
    else:
        fill = None
    path = packed_store(f"{tmp_path}/v.zarr", data, attributes, zarr_format, fill)
    if zarr_format == 2 and fill is None:
        no_fill_value(f"{path}/v")
    expected = by_xarray(path)
    for rows in (open_rows(path), sent(open_rows(path)), open_rows(f"{path}/v")):
        found = values_of(rows)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == rows.dtype
        if name != "whole scale":  # integers, in xarray
            assert found.dtype == expected.dtype


def no_fill_value(path):
    """As xarray writes arrays of format 2 that have none: zarr would choose 0."""
    file = Path(path) / ".zarray"
    text = file.read_text()
    start = text.index('"fill_value":')
    end = min(place for place in (text.find(",", start), text.find("}", start), text.find("\n", start)) if place > 0)
    file.write_text(f'{text[:start]}"fill_value": null{text[end:]}')


def test_what_xarray_has_packed(tmp_path):
    xr = pytest.importorskip("xarray")
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[::10, 0] = np.nan
    encoding = {"v": {"dtype": "i2", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -32768}}
    for zarr_format in (2, 3):
        path = f"{tmp_path}/{zarr_format}.zarr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            xr.Dataset({"v": (("t", "f"), x)}).to_zarr(path, encoding=encoding, zarr_format=zarr_format)
        model = GaussianMixture(1, missing="drop").fit(path)
        assert model.n_missing_ == 6
        expected = np.nanmean(np.delete(by_xarray(path), np.s_[::10], axis=0), axis=0)
        np.testing.assert_allclose(model.means_[0], expected, atol=1e-6)
        with pytest.raises(MissingValuesError, match="row 0, column 0"):
            GaussianMixture(1).fit(path)


def test_a_missing_number_without_a_sign_in_an_array_with_one(tmp_path):
    """Which xarray can't read: 247 as a byte is -9 with a sign."""
    data = np.array([[247, 1], [2, 3]], dtype="u1")
    path = stored(tmp_path, data=data, attributes={"_Unsigned": "false", "_FillValue": 247})
    np.testing.assert_array_equal(values_of(open_rows(path)), [[np.nan, 1], [2, 3]])


def test_the_fill_value_of_format_2_is_a_value_unless_dimensions_are_named(tmp_path):
    """As xarray has it, which opens no store without names; where they are, 0 may mean missing."""
    data = np.array([[0.0, 1.0], [2.0, 3.0]])
    plain = stored(tmp_path, data=data, chunks=(1, 2), zarr_format=2, fill_value=0.0)
    np.testing.assert_array_equal(values_of(open_rows(plain)), data)
    path = packed_store(f"{tmp_path}/v.zarr", data, {}, 2, 0.0)
    np.testing.assert_array_equal(values_of(open_rows(path)), by_xarray(path))
    assert np.isnan(values_of(open_rows(path))).sum() == 1


def test_a_number_in_attributes_is_missing_to_the_precision_of_the_array(tmp_path):
    data = np.array([[1e20, 1.0], [np.inf, 2.0]], dtype="f4")
    path = stored(tmp_path, data=data, attributes={"missing_value": 1e20})
    np.testing.assert_array_equal(values_of(open_rows(path)), [[np.nan, 1.0], [np.inf, 2.0]])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"units": "days since 2000-01-01"}, r"holds dates \(units 'days since 2000-01-01'\)"),
        ({"units": "hours", "dtype": "timedelta64[ns]"}, r"holds durations \(units 'hours'\)"),
        ({"_FillValue": "none"}, r"_FillValue='none', which is no number"),
        ({"missing_value": [[None, 1.0]]}, "missing_value=None, which is no number"),
        ({"scale_factor": "large"}, "scale_factor='large'; expected one number"),
        ({"add_offset": [1.0, 2.0]}, r"add_offset=\[1\.0, 2\.0\]; expected one number"),
    ],
)
def test_attributes_that_can_not_be_unpacked(attributes, message, tmp_path):
    path = stored(tmp_path, attributes=attributes)
    for source in (path, zarr.open(path, mode="r")):
        with pytest.raises(RowsError, match=message):
            open_rows(source)


def test_stores_without_such_attributes_are_read_as_they_are(tmp_path):
    rows = open_rows(stored(tmp_path, attributes={"units": "K"}))
    assert rows._packing is None
    assert rows.dtype == X.dtype


def test_a_masked_store_is_predicted_lazily_in_pieces(tmp_path):
    path = packed_store(f"{tmp_path}/v.zarr", STORED, {"scale_factor": 0.1, "_FillValue": -9})
    model = GaussianMixture(1, reg_covar=1.0, missing="drop").fit(path)
    expected = model.score_samples(by_xarray(path))
    np.testing.assert_array_equal(model.score_samples(path).compute(), expected)
    assert np.isnan(expected).sum() == 1


# Any store


DTYPES = ["f8", "f4", "f2", ">f8", ">f4", "i1", "i2", "i4", ">i4", "i8", "u1", "u2", ">u2", "u4", "b1"]


@st.composite
def stores(draw):
    """Options and data of a small store, and attributes that pack it."""
    zarr_format = draw(st.sampled_from([2, 3]))
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 4))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    data = rng.integers(0, 2 if dtype.kind == "b" else 20, shape).astype(dtype)
    options = {
        "chunks": (draw(st.integers(1, shape[0])), draw(st.integers(1, shape[1]))),
        "compressors": draw(st.sampled_from([None, "auto"])),
        "order": draw(st.sampled_from("CF")),
    }
    if zarr_format == 3 and draw(st.booleans()):
        chunks, times = options["chunks"], (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
        options["shards"] = (chunks[0] * times[0], chunks[1] * times[1])
    fill_value = draw(st.sampled_from([None, 0, 3, np.nan]))
    if dtype.kind != "f" and fill_value is not None:
        fill_value = dtype.type(0 if fill_value != fill_value else fill_value).item()
    attributes = {}
    if dtype.kind != "b":
        if draw(st.booleans()):
            attributes["scale_factor"] = draw(st.sampled_from([0.1, 2.0, 1e-3]))
        if draw(st.booleans()):
            attributes["add_offset"] = draw(st.sampled_from([-1.5, 273.15]))
        if draw(st.booleans()):
            attributes["missing_value"] = draw(
                st.sampled_from([3, [3, 4]] if dtype.kind in "iu" else [3.0, [3.0, 4.0]])
            )
        if zarr_format == 3 and draw(st.booleans()):
            attributes["_FillValue"] = encoded(5.0) if dtype.kind == "f" else 5
        # Of format 2 xarray swaps the bytes of a fill value without a sign; see the test after this one.
        swapped = zarr_format == 2 and dtype.kind == "i" and dtype.byteorder == ">"
        if dtype.kind in "iu" and not swapped and draw(st.booleans()):
            attributes["_Unsigned"] = "true" if dtype.kind == "i" else "false"
            attributes.pop("missing_value", None)  # which xarray leaves signed
    if draw(st.booleans()):
        attributes["units"] = "K"
    return {
        "zarr_format": zarr_format, "data": data, "options": options, "fill_value": fill_value,
        "attributes": attributes, "absent": draw(st.booleans()), "folder": draw(st.sampled_from(["", "a/b"])),
        "no_fill": zarr_format == 2 and draw(st.booleans()),
    }  # fmt: skip


@settings(max_examples=N_EXAMPLES, deadline=None)
@given(store=stores())
def test_any_store_gives_the_values_of_xarray(store, tmp_path_factory):
    root = str(tmp_path_factory.mktemp("store") / "s.zarr")
    path = f"{root}/{store['folder']}".rstrip("/")
    if store["folder"]:
        zarr.open_group(root, mode="w", zarr_format=store["zarr_format"])
        zarr.open_group(f"{root}/a", mode="w", zarr_format=store["zarr_format"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed_store(
            path, store["data"], store["attributes"], store["zarr_format"], store["fill_value"], **store["options"]
        )
    if store["no_fill"]:
        no_fill_value(f"{path}/v")
    if store["absent"]:
        chunks = [file for file in Path(f"{path}/v").rglob("*") if file.is_file() and "z" not in file.name]
        for file in sorted(chunks)[:1]:
            os.remove(file)
    expected = by_xarray(root, store["folder"] or None)
    raw = zarr.open(f"{path}/v", mode="r")[:]
    # Masked booleans are objects, in xarray.
    expected = expected.astype(float) if expected.dtype == object else expected
    for source in (root, f"{path}/v", zarr.open_group(root, mode="r")):
        rows = open_rows(source)
        found = values_of(rows)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == rows.dtype
        assert found.dtype.itemsize == expected.dtype.itemsize or raw.dtype.kind == "b"
    np.testing.assert_array_equal(values_of(sent(rows)), expected)
    if not store["attributes"].keys() - {"units"} and store["zarr_format"] == 3:
        np.testing.assert_array_equal(found, raw)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">i4", "i1"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_missing_values_without_a_sign_are_told_in_any_order_of_bytes(dtype, zarr_format, tmp_path):
    """As the conventions have it: what is missing is a stored number, read without its sign as the others are."""
    attributes = {"_Unsigned": "true"} | ({"_FillValue": -9} if zarr_format == 3 else {})
    path = packed_store(
        f"{tmp_path}/v.zarr", STORED.astype(dtype), attributes, zarr_format, None if zarr_format == 3 else -9
    )
    expected = STORED.astype(dtype).astype(f"u{np.dtype(dtype).itemsize}").astype(np.float64)
    expected[STORED == -9] = np.nan
    np.testing.assert_array_equal(values_of(open_rows(path)), expected)
