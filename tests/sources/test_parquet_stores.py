"""Parquet as it is found: indexes, partition keys, files that differ, lake tables, folders of many things."""

import json
import pickle
import re

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from streamgmm.exceptions import RowsError, RowsWarning
from streamgmm.sources.open import open_rows

X = np.random.default_rng(0).normal(size=(60, 2))
FRAME = pd.DataFrame(X, columns=["a", "b"])


# Dask's own use of pandas.
of_dask = pytest.mark.filterwarnings("ignore:The inplace keyword")


def values(rows):
    return np.concatenate([block.x for number in range(rows.n_tasks) for block in rows.blocks(number)])


def weights(rows):
    return np.concatenate([block.sample_weight for number in range(rows.n_tasks) for block in rows.blocks(number)])


def put(columns, path):
    """Write a table, of a mapping or a DataFrame, without an index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    pq.write_table(table, path)
    return path


# An index


@of_dask
def test_the_index_that_pandas_and_dask_write_is_no_feature(tmp_path):
    dd.from_pandas(FRAME, npartitions=3).to_parquet(str(tmp_path / "dask"))
    FRAME.sample(frac=1.0, random_state=0).to_parquet(tmp_path / "shuffled.parquet")
    FRAME.set_index("b").to_parquet(tmp_path / "named.parquet")
    FRAME.to_parquet(tmp_path / "range.parquet")
    np.testing.assert_array_equal(values(open_rows(tmp_path / "dask")), X)
    assert open_rows(tmp_path / "shuffled.parquet").feature_names == ("a", "b")
    assert open_rows(tmp_path / "range.parquet").feature_names == ("a", "b")
    assert open_rows(tmp_path / "named.parquet").feature_names == ("a",)
    assert open_rows(tmp_path / "named.parquet", columns=["b", "a"]).feature_names == ("b", "a")
    named = open_rows(tmp_path / "shuffled.parquet", columns=["__index_level_0__"])
    assert sorted(values(named)[:, 0]) == list(range(60))


# Order of the rows


@of_dask
def test_rows_are_in_the_order_in_which_dask_has_them(tmp_path):
    """Of more than ten parts: part.10 comes after part.9."""
    dd.from_pandas(FRAME, npartitions=12).to_parquet(str(tmp_path / "parts"), write_index=False)
    np.testing.assert_array_equal(values(open_rows(tmp_path / "parts")), X)
    np.testing.assert_array_equal(values(open_rows(f"{tmp_path}/parts/*.parquet")), X)
    np.testing.assert_array_equal(
        values(open_rows(tmp_path / "parts")), dd.read_parquet(str(tmp_path / "parts")).compute().to_numpy()
    )


def test_a_list_is_read_in_its_order(tmp_path):
    paths = [put(FRAME[start : start + 20], tmp_path / f"{start}.parquet") for start in (0, 20, 40)]
    rows = open_rows([paths[2], str(paths[0])])
    np.testing.assert_array_equal(values(rows), np.concatenate([X[40:], X[:20]]))
    assert rows.description == f"{paths[2]} and 1 more"
    other = open_rows([str(paths[0]), paths[2]])
    assert rows.fingerprint()["content"] != other.fingerprint()["content"]
    with pytest.raises(RowsError, match=r"none\.parquet does not exist: a list must be of Parquet files"):
        open_rows([paths[0], tmp_path / "none.parquet"])
    with pytest.raises(RowsError, match="is a folder: a list must be of Parquet files"):
        open_rows([paths[0], tmp_path])
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(RowsError, match=r"x\.npy can't be read as Parquet"):
        open_rows([tmp_path / "x.npy"])


# Partition keys


def test_only_folders_below_the_one_that_was_named_are_keys(tmp_path):
    path = put(FRAME, tmp_path / "a=1" / "k=2" / "x.parquet")
    for source in (path, path.parent, path.parent.parent, [path], f"{path.parent}/*.parquet"):
        np.testing.assert_array_equal(values(open_rows(source)), X)
    assert values(open_rows(path.parent.parent, columns=["a", "k"]))[0].tolist() == [X[0, 0], 2.0]
    assert values(open_rows(f"{tmp_path}/a=1/k=*/x.parquet", columns=["k"]))[0].tolist() == [2.0]
    assert values(open_rows([path], columns=["k"]))[0].tolist() == [2.0]  # as pyarrow and pandas
    with pytest.raises(RowsError, match="no column 'k'"):
        open_rows(path, columns=["k"])
    # Folders above all files of a list mean nothing where the files have such a column, be it one of them.
    other = put(FRAME[["b"]], path.parent / "y.parquet")
    with pytest.warns(RowsWarning, match=r"column 'a' is left out.*y\.parquet does not"):
        assert open_rows([path, other]).feature_names == ("b",)
    other.unlink()
    # A folder named as a column whose values are others is no reason to change them.
    with pytest.raises(RowsError, match=r"column 'a' has the value .* in the file, and 1 by its folder"):
        values(open_rows(tmp_path))


def test_keys_are_there_in_the_files_too(tmp_path):
    for year in (2020, 2021):
        put(FRAME.assign(year=year), tmp_path / f"year={year}" / "0.parquet")
    np.testing.assert_array_equal(values(open_rows(tmp_path, columns=["a", "b"])), np.concatenate([X, X]))
    expected = np.repeat([2020.0, 2021.0], 60)
    np.testing.assert_array_equal(values(open_rows(tmp_path, columns=["year"]))[:, 0], expected)
    assert open_rows(tmp_path).feature_names == ("a", "b", "year")
    np.testing.assert_array_equal(weights(open_rows(tmp_path, sample_weight="year")), expected)


def test_keys_of_some_files_are_missing_in_the_others(tmp_path):
    put(FRAME[:2], tmp_path / "k=1" / "0.parquet")
    put(FRAME[2:4], tmp_path / "k=1" / "j=2" / "0.parquet")
    put(FRAME[4:6], tmp_path / "k=__HIVE_DEFAULT_PARTITION__" / "0.parquet")
    nan = np.nan
    with pytest.warns(RowsWarning, match="2 of 3 file.* have no column 'j'"):
        rows = open_rows(tmp_path, columns=["k", "j"])
    expected = [[1, nan], [1, nan], [1, 2], [1, 2], [nan, nan], [nan, nan]]
    np.testing.assert_array_equal(values(rows), expected)
    np.testing.assert_array_equal(weights(open_rows(tmp_path, sample_weight="k")), [1, 1, 1, 1, nan, nan])


def test_keys_are_numbers_however_they_are_written(tmp_path):
    for text in ("1.5", "01", "-2", "1%2E0e2"):
        put(FRAME[:1], tmp_path / "n" / f"k%20y={text}" / "0.parquet")
    assert sorted(values(open_rows(tmp_path / "n", columns=["k y"]))[:, 0]) == [-2.0, 1.0, 1.5, 100.0]
    put(FRAME[:1], tmp_path / "t" / "k=north%20sea" / "0.parquet")
    assert open_rows(tmp_path / "t").feature_names == ("a", "b")
    with pytest.raises(RowsError, match=r"partition key 'k' .* is text \('north sea'\)"):
        open_rows(tmp_path / "t", columns=["a", "k"])


# Files that differ


@pytest.mark.parametrize(
    ("one", "other", "dtype"),
    [
        (pa.int64(), pa.float64(), np.float64),
        (pa.int8(), pa.int32(), np.int32),
        (pa.null(), pa.int32(), np.int32),
        (pa.int64(), pa.float32(), np.float64),
        (pa.uint32(), pa.int32(), np.int64),
        (pa.decimal128(5, 1), pa.int32(), np.float64),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_types_of_files_are_widened(one, other, dtype, turned, tmp_path):
    types = (other, one) if turned else (one, other)
    expected = []
    for number, arrow_type in enumerate(types):
        numbers = [None, None] if arrow_type == pa.null() else [number + 1, 7]
        put(pa.table({"a": pa.array(numbers, arrow_type)}), tmp_path / f"{number}.parquet")
        expected += [[np.nan if n is None else n] for n in numbers]
    rows = open_rows(tmp_path)
    assert rows.dtype == dtype
    np.testing.assert_array_equal(values(rows), expected)


@pytest.mark.parametrize("turned", [False, True])
def test_a_column_of_some_files_is_left_out_and_said(turned, tmp_path):
    """Whichever file comes first; where it is named, it is missing in the others, as with pyarrow."""
    frames = [FRAME[:2], FRAME[2:4].assign(c=1.0)]
    for number, frame in enumerate(frames[::-1] if turned else frames):
        put(frame, tmp_path / f"{number}.parquet")
    without = f"{int(turned)}.parquet"
    with pytest.warns(RowsWarning, match=rf"column 'c' is left out.*{re.escape(without)} does not"):
        rows = open_rows(tmp_path)
    assert rows.feature_names == ("a", "b")
    with pytest.warns(RowsWarning, match=r"1 of 2 file.*no column 'c'"):
        rows = open_rows(tmp_path, columns=["c"])
    found = values(rows)[:, 0]
    np.testing.assert_array_equal(found[::-1] if turned else found, [np.nan, np.nan, 1, 1])


def test_a_file_without_rows_says_nothing_of_the_columns(tmp_path):
    put(FRAME.iloc[:0, :1].astype(str), tmp_path / "0.parquet")
    put(FRAME, tmp_path / "1.parquet")
    np.testing.assert_array_equal(values(open_rows(tmp_path)), X)


def test_columns_are_found_by_name_in_each_file(tmp_path):
    put(FRAME[["b", "a"]], tmp_path / "0.parquet")
    put(FRAME, tmp_path / "1.parquet")
    rows = open_rows(tmp_path)
    assert rows.feature_names == ("b", "a")
    np.testing.assert_array_equal(values(rows), np.concatenate([X, X])[:, ::-1])


def test_types_that_do_not_go_together_name_the_file(tmp_path):
    put(FRAME, tmp_path / "0.parquet")
    put(FRAME.assign(b="text"), tmp_path / "1.parquet")
    with pytest.raises(RowsError, match=r"column 'b' of .*1\.parquet holds text, which is not numeric"):
        open_rows(tmp_path)
    put(pa.table({"v": [[1.0, 2.0]]}), tmp_path / "l" / "0.parquet")
    put(pa.table({"v": [1.0]}), tmp_path / "l" / "1.parquet")
    with pytest.raises(RowsError, match=r"'v' of .*1\.parquet holds numbers, and lists elsewhere"):
        open_rows(tmp_path / "l")
    twice = pa.Table.from_arrays([pa.array([1.0])] * 3, names=["a", "a", "b"])
    put(twice, tmp_path / "twice.parquet")
    with pytest.raises(RowsError, match=r"twice\.parquet has 2 columns named 'a'"):
        open_rows(tmp_path / "twice.parquet")


@pytest.mark.parametrize("kind", ["pandas", "arrow", "parquet"])
def test_tens_of_thousands_of_columns_are_no_matter(kind, tmp_path):
    """Looking each name up among all would take minutes."""
    names = [f"c{j}" for j in range(5_000 if kind == "parquet" else 20_000)]
    table = pa.table([pa.array([float(j)]) for j in range(len(names))], names=names)
    source = table.to_pandas() if kind == "pandas" else table
    if kind == "parquet":
        source = put(table, tmp_path / "x.parquet")
    rows = open_rows(source, columns=names[::-1])
    assert values(rows)[0, :3].tolist() == [len(names) - 1.0, len(names) - 2.0, len(names) - 3.0]


def test_names_with_dots_are_no_paths(tmp_path):
    path = put(pa.table({"d": [1.0], "d.e": [2.0], "s": pa.array([{"x": 3.0}]), "": [4.0]}), tmp_path / "x.parquet")
    assert values(open_rows(path, columns=["d", "d.e", ""])).tolist() == [[1.0, 2.0, 4.0]]
    assert values(open_rows(path, columns=["d"])).tolist() == [[1.0]]


def test_lists_in_files_are_one_embedding(tmp_path):
    """Their length is that of the first list; a row that has another is named."""
    put(pa.table({"v": pa.array([None, None], pa.list_(pa.float32()))}), tmp_path / "0.parquet")
    put(pa.table({"v": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))}), tmp_path / "1.parquet")
    put(pa.table({"v": pa.array([[3, 4]], pa.large_list(pa.int32()))}), tmp_path / "2.parquet")
    rows = open_rows(tmp_path)
    assert rows.n_features == 2
    np.testing.assert_array_equal(values(rows), [[np.nan] * 2, [np.nan] * 2, [1, 2], [3, 4]])
    put(pa.table({"v": [[5.0]]}), tmp_path / "3.parquet")
    with pytest.raises(RowsError, match="list of 1 values at row 4, and of 2 before"):
        values(open_rows(tmp_path))


# Folders


def lake(kind, folder):
    put(FRAME + 500, folder / "data" / "old.parquet")
    if kind == "Delta Lake":
        (folder / "_delta_log").mkdir()
        (folder / "_delta_log" / "0.json").write_text(json.dumps({"remove": {"path": "old.parquet"}}))
    elif kind == "Hudi":
        (folder / ".hoodie").mkdir()
        (folder / ".hoodie" / "hoodie.properties").write_text("")
    else:
        (folder / "metadata").mkdir()
        (folder / "metadata" / "v1.metadata.json").write_text("{}")


@pytest.mark.parametrize("kind", ["Delta Lake", "Hudi", "Iceberg"])
def test_lake_tables_are_refused_by_name(kind, tmp_path):
    """Also a part of one, a pattern in one, and a folder that has one in it."""
    lake(kind, tmp_path / "table")
    put(FRAME, tmp_path / "table" / "day=1" / "x.parquet")
    table = tmp_path / "table"
    sources = [table, f"{table}/*/*.parquet", f"{tmp_path}/*/*/*.parquet", table / "day=1"] + (
        [table / "data"] if kind == "Iceberg" else []
    )
    for source in sources:
        with pytest.raises(RowsError, match=f"is an? {kind} table.*(list of its live files|Give the table)"):
            open_rows(source)
    with pytest.raises(RowsError, match=f"table is an? {kind} table"):
        open_rows(tmp_path)
    # Those who know which files are alive name them.
    np.testing.assert_array_equal(values(open_rows([table / "day=1" / "x.parquet"])), X)


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    put(FRAME[:20], tmp_path / "a.parquet")
    put(FRAME[20:], tmp_path / "b")  # no suffix: known by what is in it
    for name in ("_SUCCESS", "_metadata", ".a.parquet.crc", "a.parquet.crc", ".DS_Store", ".hidden"):
        (tmp_path / name).write_bytes(b"PAR" if name != "_metadata" else b"PAR1")
    np.testing.assert_array_equal(values(open_rows(tmp_path)), X)
    put(FRAME, tmp_path / "_k=1" / "c.parquet")
    with pytest.warns(RowsWarning, match=r"2 file.* read, and 1 left out.*begins with _ or \.: _k=1/c\.parquet"):
        np.testing.assert_array_equal(values(open_rows(tmp_path)), X)
    (tmp_path / "_k=1" / "c.parquet").unlink()
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.warns(RowsWarning, match=r"1 left out that are no Parquet: readme\.txt"):
        np.testing.assert_array_equal(values(open_rows(tmp_path)), X)


def test_a_folder_of_hive_without_suffixes(tmp_path):
    put(FRAME[:20], tmp_path / "000000_0")
    put(FRAME[20:], tmp_path / "000001_0")
    np.testing.assert_array_equal(values(open_rows(tmp_path)), X)


def test_a_folder_without_parquet_is_an_error(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(RowsError, match="none is a folder without files"):
        open_rows(tmp_path / "none")
    np.save(tmp_path / "none" / "x.npy", X)
    with pytest.raises(RowsError, match=r"is a folder, but neither .*x\.npy"):
        open_rows(tmp_path / "none")
    (tmp_path / "d=1").mkdir()
    with pytest.raises(RowsError, match="matches folders only"):
        open_rows(f"{tmp_path}/d=*")


# Datasets


def test_a_dataset_gives_its_files_its_keys_and_its_types(tmp_path):
    for key in (1, 2):
        put(FRAME[:2], tmp_path / f"k={key}" / "0.parquet")
    dataset = pads.dataset(str(tmp_path), partitioning="hive", schema=pa.schema({"a": pa.float32(), "k": pa.int32()}))
    rows = open_rows(dataset)
    assert (rows.feature_names, rows.dtype) == (("a",), np.float32)
    expected = dataset.to_table()
    np.testing.assert_array_equal(values(rows)[:, 0], expected["a"].to_numpy())
    np.testing.assert_array_equal(values(open_rows(dataset, columns=["k"]))[:, 0], expected["k"].to_numpy())
    by_place = pads.dataset(str(tmp_path / "k=1"), schema=pa.schema({"b": pa.float64(), "z": pa.float64()}))
    with pytest.warns(RowsWarning, match="no column 'z'"):
        rows = open_rows(by_place)
    np.testing.assert_array_equal(values(rows), np.column_stack([X[:2, 1], [np.nan] * 2]))


def test_datasets_that_would_be_read_otherwise_are_refused(tmp_path):
    put(FRAME, tmp_path / "0.parquet")
    dataset = pads.dataset(str(tmp_path))
    with pytest.raises(RowsError, match=r"filtered dataset.*list of its files"):
        open_rows(dataset.filter(pads.field("a") > 0))
    with pytest.raises(RowsError, match=r"InMemoryDataset.*dataset\.to_table\(\)"):
        open_rows(pads.dataset(pa.table(dict(FRAME))))
    FRAME.to_csv(tmp_path / "x.csv")
    with pytest.raises(RowsError, match="not one of Parquet files"):
        open_rows(pads.dataset(str(tmp_path / "x.csv"), format="csv"))
    wide = pads.dataset(
        str(put({"n": np.array([2**40])}, tmp_path / "n" / "0.parquet")), schema=pa.schema({"n": pa.int8()})
    )
    with pytest.raises(RowsError, match=r"0\.parquet: row group 0 can't be read.*1099511627776"):
        values(open_rows(wide))


def test_a_dataset_is_read_wherever_the_process_stands(tmp_path, monkeypatch):
    put(FRAME, tmp_path / "d" / "0.parquet")
    monkeypatch.chdir(tmp_path)
    rows = open_rows(pads.dataset("d"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(values(rows), X)


# Workers


@pytest.mark.parametrize("kind", ["folder with keys", "list", "dataset", "embedding", "files that differ"])
def test_what_is_sent_to_workers_reads_the_same(kind, tmp_path, monkeypatch):
    """Also where a relative path was given, and the worker is in another folder."""
    monkeypatch.chdir(tmp_path)
    put(FRAME[:20], tmp_path / "d" / "k=1" / "0.parquet")
    put(FRAME[20:].astype({"a": "float32"}), tmp_path / "d" / "k=2" / "0.parquet")
    put(pa.table({"v": list(X)}), tmp_path / "v.parquet")
    source, columns = {
        "folder with keys": ("d", ["b", "k"]),
        "list": (["d/k=1/0.parquet", "d/k=2/0.parquet"], ["b"]),
        "dataset": (pads.dataset("d", schema=pa.schema({"b": pa.float32()})), None),
        "embedding": ("v.parquet", None),
        "files that differ": ("d/*/*.parquet", None),
    }[kind]
    rows = open_rows(source, columns=columns)
    expected = values(rows)
    assert len(expected) == 60
    sent = pickle.dumps(rows.repartition(()))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(np.concatenate([b.x for b in pickle.loads(sent).read(7, 60)]), expected[7:])
