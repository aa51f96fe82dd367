"""Every kind of data gives the same rows, any range can be read, and the cut comes from the data alone."""

import pickle
import threading

import dask.array as da
import dask.dataframe as dd
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgmm.exceptions import MemoryLimitError, RowsError
from streamgmm.sources.base import Block, RandomAccessRows
from streamgmm.sources.chunking import partition_rows
from streamgmm.sources.open import open_rows
from streamgmm.sources.prefetch import prefetch
from tests.helpers import N_ROWS, NAMES, WEIGHT, X, arrow_table, bad_inputs


def make(kind, folder):
    """Store X as one kind of data; return what to open and the keywords to open it with."""
    table = arrow_table()
    path = str(folder / kind)
    if kind == "array":
        return X, {}
    if kind == "fortran array":
        return np.asfortranarray(X), {}
    if kind == "npy":
        np.save(f"{path}.npy", X)
        return f"{path}.npy", {}
    if kind == "pandas":
        return pd.DataFrame(X, columns=NAMES), {}
    if kind == "pandas nullable":
        return pd.DataFrame(X, columns=NAMES).astype("Float64"), {}
    if kind == "arrow":
        return table, {"columns": NAMES}
    if kind == "chunked arrow":
        return pa.concat_tables([table.slice(0, 700), table.slice(700)]), {"columns": NAMES}
    if kind.startswith("zarr"):
        options = {
            "zarr 2": {"chunks": (512, 3), "zarr_format": 2},
            "zarr 3": {"chunks": (512, 2), "zarr_format": 3},
            "zarr sharded": {"chunks": (128, 3), "shards": (1024, 3)},
            "zarr array": {"chunks": (700, 3)},
            "zarr memory": {"chunks": (700, 3)},
        }
        if kind in options:
            store = zarr.storage.MemoryStore() if kind == "zarr memory" else path
            array = zarr.create_array(store, shape=X.shape, dtype=X.dtype, **options[kind])
            array[:] = X
            return (array if kind in ("zarr array", "zarr memory") else path), {}
        group = zarr.open_group(path, mode="w")
        group.create_array("inner/x", data=X, chunks=(1000, 3))
        group.create_array("weights", data=WEIGHT)
        return (path if kind == "zarr group" else f"{path}/inner/x"), {}
    if kind == "parquet file":
        pq.write_table(table, f"{path}.parquet", row_group_size=611)
        return f"{path}.parquet", {"columns": NAMES}
    if kind == "parquet without suffix":
        pq.write_table(table, path)
        return path, {"columns": NAMES}
    if kind in ("parquet folder", "parquet glob"):
        (folder / kind).mkdir()
        for i in range(4):
            pq.write_table(table.slice(1250 * i, 1250), f"{path}/part{i}.parquet", row_group_size=500)
        (folder / kind / "_SUCCESS").touch()
        return (path if kind == "parquet folder" else f"{path}/*.parquet"), {"columns": NAMES}
    if kind == "parquet hive":
        for i in range(2):
            (folder / kind / f"year={2000 + i}").mkdir(parents=True)
            pq.write_table(table.slice(2500 * i, 2500), f"{path}/year={2000 + i}/x.parquet")
        return path, {"columns": NAMES}
    assert kind == "parquet list"
    lists = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)
    pq.write_table(pa.table({"v": lists, "w": WEIGHT}), f"{path}.parquet", row_group_size=999)
    return f"{path}.parquet", {"columns": ["v"]}


KINDS = [
    "array", "fortran array", "npy", "pandas", "pandas nullable", "arrow", "chunked arrow", "zarr 2", "zarr 3",
    "zarr sharded", "zarr array", "zarr memory", "zarr group", "zarr inside group", "parquet file",
    "parquet without suffix", "parquet folder", "parquet glob", "parquet hive", "parquet list",
]  # fmt: skip


def read_all(rows, start, stop):
    blocks = list(rows.read(start, stop))
    at = start
    for block in blocks:
        assert block.start == at
        at += len(block.x)
    assert at == stop
    return np.concatenate([block.x for block in blocks])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_rows(kind, tmp_path):
    source, keywords = make(kind, tmp_path)
    rows = open_rows(source, **keywords)
    assert isinstance(rows, RandomAccessRows)
    assert (rows.n_rows, rows.n_features) == X.shape
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(read_all(rows, 0, N_ROWS), X)
    for start, stop in ((0, 1), (499, 501), (511, 513), (1234, 3777), (N_ROWS - 1, N_ROWS)):
        np.testing.assert_array_equal(read_all(rows, start, stop), X[start:stop])
    # The tasks cover all rows, in order, once.
    assert rows.ranges[0].start == 0
    assert rows.ranges[-1].stop == N_ROWS
    assert all(a.stop == b.start for a, b in zip(rows.ranges[:-1], rows.ranges[1:], strict=True))
    if any(name in kind for name in ("pandas", "arrow", "parquet")) and kind != "parquet list":
        assert rows.feature_names == tuple(NAMES)
    else:
        assert rows.feature_names is None


@pytest.mark.parametrize("kind", ["pandas", "arrow", "parquet file", "parquet list"])
def test_weights_from_a_column(kind, tmp_path):
    source, keywords = make(kind, tmp_path)
    if kind == "pandas":
        source = source.assign(w=WEIGHT)
    rows = open_rows(source, sample_weight="w", **keywords)
    assert rows.n_features == 3
    weights = np.concatenate([block.sample_weight for number in range(rows.n_tasks) for block in rows.blocks(number)])
    np.testing.assert_array_equal(weights, WEIGHT)


def test_all_columns_but_the_weights_are_features(tmp_path):
    source, _ = make("parquet file", tmp_path)
    assert open_rows(source, sample_weight="w").feature_names == ("a", "b", "c")
    assert open_rows(source).feature_names == ("a", "b", "c", "w")
    assert open_rows(source, columns=["c", "a"]).feature_names == ("c", "a")


def test_a_partition_key_is_a_column_where_it_is_named(tmp_path):
    source, _ = make("parquet hive", tmp_path)
    rows = open_rows(source, columns=["b", "year"])
    np.testing.assert_array_equal(
        read_all(rows, 0, N_ROWS), np.column_stack([X[:, 1], np.repeat([2000.0, 2001.0], 2500)])
    )


def test_nulls_become_nan(tmp_path):
    table = pa.table({"i": pa.array([1, None, 3], pa.int32()), "f": pa.array([0.5, 1.5, None])})
    pq.write_table(table, tmp_path / "n.parquet")
    for source in (table, str(tmp_path / "n.parquet")):
        values = read_all(open_rows(source), 0, 3)
        np.testing.assert_array_equal(values, [[1, 0.5], [np.nan, 1.5], [3, np.nan]])


def test_dask_arrays_are_one_task_per_chunk_of_rows():
    rows = open_rows(da.from_array(X, chunks=(700, 2)))
    assert rows.n_tasks == 8
    assert rows.n_rows == N_ROWS
    unknown = open_rows(da.from_array(X, chunks=(700, 3))[da.from_array(X[:, 0] > 0, chunks=700)])
    assert unknown.n_rows is None
    assert unknown.n_tasks == 8


def test_dask_dataframes_have_names():
    rows = open_rows(dd.from_pandas(pd.DataFrame(X, columns=NAMES), npartitions=3), columns=["b", "c"])
    assert rows.feature_names == ("b", "c")
    assert rows.n_tasks == 3


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 10**5),
    row_bytes=st.integers(1, 4096),
    piece=st.integers(1, 10**5),
    target=st.integers(1, 10**8),
)
def test_the_cut_is_of_whole_pieces_and_covers_all_rows(n_rows, row_bytes, piece, target):
    ranges = partition_rows(n_rows, row_bytes, piece, target)
    assert ranges[0].start == 0
    assert ranges[-1].stop == n_rows
    for part in ranges:
        assert part.start % piece == 0
        assert part.stop > part.start
        assert (part.stop - part.start) * row_bytes <= target or part.stop - part.start <= piece


def test_a_memory_limit_cuts_smaller_and_refuses_what_cannot_fit(tmp_path):
    x = np.zeros((40_000, 8))
    path = str(tmp_path / "big.zarr")
    zarr.create_array(path, data=x, chunks=(10_000, 8))
    assert open_rows(path).n_tasks == 1
    assert open_rows(path, memory_limit=8 * 10_000 * 8 * 8).n_tasks == 4
    with pytest.raises(MemoryLimitError, match=r"memory_limit=1\.0 MB.*smaller chunks"):
        open_rows(path, memory_limit=2**20)


def test_bad_input_is_named_before_anything_is_read(tmp_path):
    for _, source, keywords, pattern in bad_inputs(tmp_path):
        with pytest.raises(RowsError, match=pattern):
            open_rows(source, **keywords)


def test_a_damaged_piece_is_named(tmp_path):
    """What only decoding can tell is named too, by file and rows."""
    pq.write_table(arrow_table(), tmp_path / "x.parquet", row_group_size=1000, compression="zstd")
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    data[2000:9000] = bytes(7000)
    (tmp_path / "x.parquet").write_bytes(data)
    rows = open_rows(str(tmp_path / "x.parquet"))
    with pytest.raises(RowsError, match=r"x\.parquet: row group 0 can't be read"):
        read_all(rows, 0, N_ROWS)
    zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(1000, 3))
    (tmp_path / "x.zarr" / "c" / "1" / "0").write_bytes(b"no chunk")
    rows = open_rows(str(tmp_path / "x.zarr"))
    with pytest.raises(RowsError, match=r"x\.zarr: rows 1000 to 1999 can't be read, chunk 1 is damaged"):
        read_all(rows, 0, N_ROWS)


def test_a_relative_path_is_read_by_workers_in_another_folder(tmp_path, monkeypatch):
    pq.write_table(arrow_table(), tmp_path / "x.parquet")
    zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(1000, 3))
    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)
    opened = [open_rows("x.parquet", columns=NAMES), open_rows("x.zarr"), open_rows("x.npy")]
    monkeypatch.chdir("/")
    for rows in opened:
        np.testing.assert_array_equal(read_all(rows, 0, 10), X[:10])


def test_pieces_read_ahead_are_the_same_and_so_is_what_fails(tmp_path):
    """Of a store that is elsewhere the next piece is read while this one is computed; an error comes in its place."""
    read, computed = threading.Event(), []

    def pieces():
        for start in range(3):
            if start == 1:
                read.set()
            if start == 2:
                raise RowsError("damaged")
            yield Block(X[start : start + 1], None, start)

    ahead = prefetch(pieces())
    computed.append(next(ahead).start)
    # The second is being read before it is asked for.
    assert read.wait(10.0)
    computed.append(next(ahead).start)
    with pytest.raises(RowsError, match="damaged"):
        next(ahead)
    assert computed == [0, 1]
    zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(1000, 3))
    rows = open_rows(str(tmp_path / "x.zarr"))
    rows._piece_rows, rows._ahead = 1000, True
    np.testing.assert_array_equal(read_all(rows, 0, N_ROWS), X)


@pytest.mark.parametrize("array", ["", "/inside"])
def test_workers_find_secrets_themselves(array, monkeypatch):
    """What fsspec found in its configuration here is not sent to workers, and a store is opened there without it."""
    monkeypatch.setitem(fsspec.config.conf, "memory", {"secret": "hunter2"})
    url = f"memory://test_workers_find_secrets{array}.zarr"
    if array:
        zarr.open_group(url, mode="w")
    stored = zarr.create_array(url + array, shape=X.shape, chunks=(700, 3), dtype=X.dtype)
    stored[:] = X
    sent = pickle.dumps(open_rows(url))
    assert b"hunter2" not in sent
    np.testing.assert_array_equal(np.concatenate([block.x for block in pickle.loads(sent).read(0, N_ROWS)]), X)
