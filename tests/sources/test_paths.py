"""Paths as users write them: literal names, patterns, home folders, URLs, and what is no path of rows."""

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from streamgmm import GaussianMixture
from streamgmm.exceptions import InputError, ReadError, RowsError
from streamgmm.sources.open import open_rows

X = np.random.default_rng(0).normal(size=(600, 2))
ODD = ["day [1]", "what?", "a*b", "[", "50%", "a#b", "ü ñ", "x=1", "a::b", "a:b", "%23"]


def values(rows):
    return np.concatenate([block.x for number in range(rows.n_tasks) for block in rows.blocks(number)])


def store(kind, path, x=X):
    if kind == "npy":
        np.save(path, x)
    elif kind == "zarr":
        zarr.create_array(path, data=x, chunks=(100, 2))
    else:
        pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1]}), path)


@pytest.mark.parametrize("kind", ["parquet", "npy", "zarr"])
@pytest.mark.parametrize("name", ODD)
def test_a_name_is_what_it_says_before_it_is_a_pattern(kind, name, tmp_path):
    """In the name of the file, and in that of a folder above it."""
    folder = tmp_path / name
    folder.mkdir()
    path = folder / f"{name}.{kind}"
    store(kind, path)
    if kind != "zarr":
        store(kind, folder / f"day 1.{kind}", X + 1000)
    np.testing.assert_array_equal(values(open_rows(path)), X)


def test_a_folder_whose_name_could_be_a_pattern(tmp_path):
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "run1").mkdir()
    store("parquet", tmp_path / "run[1]" / "x.parquet")
    store("parquet", tmp_path / "run1" / "x.parquet", X + 1000)
    np.testing.assert_array_equal(values(open_rows(tmp_path / "run[1]")), X)


def test_patterns_are_patterns_where_nothing_has_their_name(tmp_path):
    store("parquet", tmp_path / "day [1].parquet")
    store("parquet", tmp_path / "day 1.parquet", X + 1000)
    np.testing.assert_array_equal(values(open_rows(f"{tmp_path}/day [[]1].parquet")), X)
    np.testing.assert_array_equal(values(open_rows(f"{tmp_path}/day [0-9].parquet")), X + 1000)
    assert open_rows(f"{tmp_path}/day*.parquet").n_rows == 1200
    with pytest.raises(RowsError, match="matches no file"):
        open_rows(f"{tmp_path}/night*.parquet")


@pytest.mark.parametrize("kind", ["parquet", "npy", "zarr"])
def test_the_home_folder_and_urls_of_files(kind, tmp_path, monkeypatch):
    store(kind, tmp_path / f"x.{kind}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (f"~/x.{kind}", Path(f"~/x.{kind}"), f"file://{tmp_path}/x.{kind}", f"local://{tmp_path}/x.{kind}"):
        rows = open_rows(source)
        assert rows.description == f"{tmp_path}/x.{kind}"
        np.testing.assert_array_equal(values(rows), X)
    with pytest.raises(RowsError, match=r"none\.npy does not exist"):
        open_rows("~/none.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "i2", "?"])
def test_npy_files_of_any_file_system_are_read_by_ranges(order, dtype, monkeypatch):
    """Never whole: each request is of one piece, or of one column of it."""
    x = np.asarray(X * 10, dtype=dtype, order=order)
    url = f"memory://test_paths/{order}{x.dtype.str[1:]}.npy"
    with fsspec.open(url, "wb") as file:
        np.save(file, x)
    sizes = []
    whole = fsspec.filesystem("memory").cat_file

    def counted(path, start=None, end=None, **keywords):
        sizes.append(end - start)
        return whole(path, start=start, end=end, **keywords)

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", staticmethod(counted))
    rows = open_rows(url, memory_limit=4000)
    assert (rows.n_rows, rows.n_features, rows.dtype, rows.in_memory) == (600, 2, x.dtype, False)
    sizes.clear()
    np.testing.assert_array_equal(values(rows), x)
    assert max(sizes) <= 4000 // 8
    assert sum(sizes) == x.nbytes
    np.testing.assert_array_equal(np.concatenate([block.x for block in rows.read(7, 501)]), x[7:501])
    assert rows.stored_version() is not None


def test_models_are_the_same_from_a_url(tmp_path):
    np.save(tmp_path / "x.npy", X)
    with fsspec.open("memory://test_paths/x.npy", "wb") as file:
        np.save(file, X)
    one, two = (GaussianMixture(2, random_state=0).fit(p) for p in (tmp_path / "x.npy", "memory://test_paths/x.npy"))
    assert one.means_.tobytes() == two.means_.tobytes()
    np.testing.assert_array_equal(two.predict("memory://test_paths/x.npy").compute(), one.predict(X))


def test_npy_files_at_urls_that_are_damaged_or_of_other_things():
    with fsspec.open("memory://test_paths/whole.npy", "wb") as file:
        np.save(file, X)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/test_paths/short.npy", filesystem.cat_file("/test_paths/whole.npy")[:-8])
    filesystem.pipe_file("/test_paths/text.npy", b"hello")
    with fsspec.open("memory://test_paths/objects.npy", "wb") as file:
        np.save(file, np.array([[1, "a"]], dtype=object), allow_pickle=True)
    with pytest.raises(RowsError, match=r"short\.npy can't be read: its header says 600 rows.*not written to its end"):
        open_rows("memory://test_paths/short.npy")
    with pytest.raises(RowsError, match=r"text\.npy can't be read as a \.npy file"):
        open_rows("memory://test_paths/text.npy")
    with pytest.raises(RowsError, match=r"objects\.npy has dtype object"):
        open_rows("memory://test_paths/objects.npy")
    with pytest.raises(RowsError, match="does not exist"):
        open_rows("memory://test_paths/none.npy")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "X is an empty path"),
        ("  ", "X is an empty path"),
        (Path("s3://bucket/x.npy"), r"pathlib takes a slash from s3:// URLs"),
        ("s3://me:secret@bucket/x.npy", "password"),
        ([""], "X is an empty path"),
    ],
)
def test_paths_that_are_none(source, message, tmp_path, monkeypatch):
    """An empty one, such as an unset variable of a shell gives, is not the folder that the process is in."""
    store("parquet", tmp_path / "x.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_rows(source)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"a,b\n1,2\n", "is text: read it with dask.dataframe.read_csv"),
        ("x.feather", b"ARROW1\0\0", "Arrow .*pyarrow.feather"),
        ("x.h5", b"\x89HDF\r\n", "HDF5"),
        ("x.npz", b"PK\x03\x04", r"\.npz archive"),
        ("x.bin", b"", "neither a .npy file"),
    ],
)
def test_files_of_other_formats_say_how_to_read_them(name, data, message, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RowsError, match=rf"{name}.*{message}"):
        open_rows(tmp_path / name)


def test_a_npy_file_without_its_suffix_is_known_by_how_it_begins(tmp_path):
    with open(tmp_path / "rows", "wb") as file:
        np.save(file, X)
    np.testing.assert_array_equal(values(open_rows(tmp_path / "rows")), X)


@pytest.mark.parametrize(
    "url", ["foo://x", "zip://a::foo://x", "foo://x/*.parquet", "foo://x.npy", "foo://x.zarr", "tcp://"]
)
def test_urls_that_nothing_opens_are_mistakes_and_not_tried_again(url, monkeypatch):
    monkeypatch.setattr("streamgmm.storage.retries.time.sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(InputError, match="Protocol not known") as caught:
        open_rows(url)
    assert not isinstance(caught.value, RowsError)


def test_what_a_library_says_at_length_is_cut(monkeypatch):
    def fails(*_, **__):
        raise OSError("no library here, nor there " * 100)

    monkeypatch.setattr("fsspec.core.url_to_fs", fails)
    monkeypatch.setattr("streamgmm.storage.retries.time.sleep", lambda _: None)
    with pytest.raises(ReadError, match="can't be opened: no library") as caught:
        open_rows("hdfs://host/rows.parquet")
    assert len(str(caught.value)) < 500
