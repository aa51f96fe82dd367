"""Tables in memory, of any library: which columns are features, and what their types are as numbers."""

from decimal import Decimal

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from streamgmm import GaussianMixture
from streamgmm.exceptions import RowsError
from streamgmm.sources.open import open_rows

X = np.random.default_rng(0).normal(size=(20, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


def values(rows):
    return np.concatenate([block.x for number in range(rows.n_tasks) for block in rows.blocks(number)])


def polars_frame(frame):
    polars = pytest.importorskip("polars")
    return polars.DataFrame({str(name): frame[name].to_numpy() for name in frame})


class Interchange:
    """A table of a library that knows only the interchange protocol of dataframes."""

    def __init__(self, frame):
        self._frame = pa.Table.from_pandas(frame, preserve_index=False)
        self.shape = frame.shape

    def __dataframe__(self, **keywords):
        return self._frame.__dataframe__(**keywords)


TABLES = {
    "pandas": lambda frame: frame,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "batch": lambda frame: pa.RecordBatch.from_pandas(frame, preserve_index=False),
    "reader": lambda frame: pa.Table.from_pandas(frame, preserve_index=False).to_reader(),
    "polars": polars_frame,
    "interchange": Interchange,
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_library_gives_names_and_values(kind):
    rows = open_rows(TABLES[kind](FRAME))
    assert rows.feature_names == ("a", "b", "c")
    np.testing.assert_array_equal(values(rows), X)
    chosen = open_rows(TABLES[kind](FRAME), columns=["c", "a"], sample_weight="b")
    assert (chosen.schema.columns, chosen.schema.weight) == (("c", "a"), "b")
    np.testing.assert_array_equal(values(chosen), X[:, [2, 0]])


@pytest.mark.parametrize("kind", ["pandas", "arrow", "dask"])
def test_a_name_that_is_there_twice_is_named_only_where_it_is_used(kind):
    """Duplicates of a feature, of the weights, and of what nobody asked for."""
    doubled = pd.DataFrame(np.column_stack([X, X[:, 2]]), columns=["a", "b", "w", "w"])
    source = {
        "pandas": lambda: doubled,
        "arrow": lambda: pa.Table.from_arrays(list(doubled.to_numpy().T), names=list(doubled)),
        "dask": lambda: dd.from_pandas(doubled, npartitions=2),
    }[kind]()
    for keywords in ({}, {"sample_weight": "w"}, {"columns": ["a", "w"]}):
        with pytest.raises(RowsError, match="2 columns named 'w'"):
            open_rows(source, **keywords)
    assert open_rows(source, columns=["b", "a"]).feature_names == ("b", "a")


@pytest.mark.parametrize(
    "columns", [["b", "a"], ("b", "a"), np.array(["b", "a"]), pd.Index(["b", "a"]), pd.Series(["b", "a"]), iter("ba")]
)
def test_columns_may_be_any_sequence(columns):
    assert open_rows(FRAME, columns=columns).feature_names == ("b", "a")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("ab", r"columns='ab' is one text.*columns=\['ab'\]"),
        ({"a", "b"}, "sequence of names, got a set"),
        (3, "sequence of names, got a int"),
        ([], "names no column"),
        (["a", "a"], "names 'a' 2 times"),
        ([["a", "b"]], "is a list, no name"),
        (["a", "z"], "the DataFrame X has no column 'z'; it has 'a', 'b', 'c'"),
    ],
)
def test_columns_that_are_no_sequence_of_names_are_refused(columns, message):
    with pytest.raises(RowsError, match=message):
        open_rows(FRAME, columns=columns)


def test_an_index_that_pandas_put_into_an_arrow_table_is_no_feature():
    table = pa.Table.from_pandas(FRAME.sample(frac=1.0, random_state=0))
    assert "__index_level_0__" in table.column_names
    assert open_rows(table).feature_names == ("a", "b", "c")
    named = pa.Table.from_pandas(FRAME.set_index("b"))
    assert open_rows(named).feature_names == ("a", "c")
    assert open_rows(named, columns=["b"]).feature_names == ("b",)


NUMBERS = {
    "decimal": (pa.array([Decimal("0.10"), None, Decimal("7.30")], pa.decimal128(30, 2)), [0.1, np.nan, 7.3]),
    "category": (pa.array([5, None, 7]).dictionary_encode(), [5.0, np.nan, 7.0]),
    "boolean": (pa.array([True, None, False]), [1.0, np.nan, 0.0]),
    "nullable integer": (pa.array([1, None, 3], pa.int32()), [1.0, np.nan, 3.0]),
    "float32": (pa.array([1.5, None, 3.0], pa.float32()), [1.5, np.nan, 3.0]),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("library", ["arrow", "pandas", "pandas arrow"])
def test_what_stands_for_numbers_is_read_as_numbers(kind, library):
    """With missing values as NaN, as a feature and as a weight."""
    array, expected = NUMBERS[kind]
    table = pa.table({"a": [0.5, 1.5, 2.5], "v": array})
    source = {
        "arrow": lambda: table,
        "pandas": lambda: table.to_pandas(),
        "pandas arrow": lambda: table.to_pandas(types_mapper=pd.ArrowDtype),
    }[library]()
    np.testing.assert_array_equal(values(open_rows(source, columns=["v"])), np.c_[expected])
    rows = open_rows(source, sample_weight="v")
    weights = np.concatenate([block.sample_weight for number in range(rows.n_tasks) for block in rows.blocks(number)])
    np.testing.assert_array_equal(weights, expected)


def test_pandas_dtypes_of_its_own():
    frame = pd.DataFrame(
        {
            "sparse": pd.arrays.SparseArray([0.0, 2.0, 0.0]),
            "category": pd.Categorical([3, None, 1]),
            "objects": np.array([1, 2.5, None], dtype=object),
            "nullable": pd.array([True, None, False], dtype="boolean"),
        }
    )
    expected = [[0, 3, 1, 1], [2, np.nan, 2.5, np.nan], [0, 1, np.nan, 0]]
    np.testing.assert_array_equal(values(open_rows(frame)), expected)


WHEN = pd.to_datetime(["2020-01-01", "2021-01-01"])
NOT_NUMBERS = [
    (pa.array(WHEN), r"points in time \(timestamp.*total_seconds"),
    (pa.array(WHEN.date), r"dates \(date32.*dt\.days"),
    (pa.array(WHEN - WHEN[0]), r"durations \(duration.*total_seconds"),
    (pa.array(WHEN.time), "times of day"),
    (pa.array(["x", "y"]), "holds text"),
    (pa.array(["x", "y"]).dictionary_encode(), "categories that are no numbers"),
    (pa.nulls(2), "only nulls"),
    (pa.array([{"p": 1.0}, {"p": 2.0}]), "nested.*columns of their own"),
    (pa.array([[[1.0]], [[2.0]]]), "list.*not numeric"),
    (pa.array([b"x", b"y"]), "binary, which is not numeric"),
]


@pytest.mark.parametrize(("array", "message"), NOT_NUMBERS)
def test_what_is_no_number_has_an_error_of_its_own(array, message):
    """As a feature and as a weight, in Arrow's types and in those that pandas has for Arrow's."""
    table = pa.table({"a": [0.5, 1.5], "v": array})
    for keywords in ({"columns": ["v"]}, {"columns": ["a"], "sample_weight": "v"}):
        with pytest.raises(RowsError, match=f"column 'v' of the table X .*{message}"):
            open_rows(table, **keywords)
    with pytest.raises(RowsError, match="column 'v' of the DataFrame X"):
        open_rows(table.to_pandas(types_mapper=pd.ArrowDtype))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (WHEN, "datetime64.*points in time.*total_seconds"),
        (WHEN.tz_localize("UTC"), "datetime64.*points in time"),
        (WHEN - WHEN[0], "timedelta64.*durations.*total_seconds"),
        (["x", "y"], "not numeric but holds text"),
        (pd.Categorical(["x", "y"]), "not numeric"),
        (np.array([None, None], dtype=object), "only nulls"),
        (pd.Series([[1.0], [2.0]]), "holds lists.*np.stack"),
        (np.array([1j, 2j]), "complex numbers"),
    ],
)
def test_what_is_no_number_in_pandas(column, message):
    with pytest.raises(RowsError, match=f"column 'v' of the DataFrame X.*{message}"):
        open_rows(pd.DataFrame({"a": [0.5, 1.5], "v": column}))


LIST_TYPES = [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.int16(), 3), pa.list_(pa.float64(), 3)]


@pytest.mark.parametrize("list_type", LIST_TYPES)
def test_lists_of_one_length_are_one_embedding(list_type):
    table = pa.table({"v": pa.array([[1, 2, 3], [4, 5, 6]], list_type), "id": [0, 1]})
    rows = open_rows(table, columns=["v"])
    assert rows.n_features == 3
    assert rows.feature_names is None
    np.testing.assert_array_equal(values(rows), [[1, 2, 3], [4, 5, 6]])
    missing = pa.table({"v": pa.array([None, [4, None, 6], [7, 8, 9]], list_type)})
    rows = open_rows(pa.concat_tables([missing.slice(0, 1), missing.slice(1)]))
    np.testing.assert_array_equal(values(rows), [[np.nan] * 3, [4, np.nan, 6], [7, 8, 9]])


def test_lists_of_other_lengths_are_named_by_their_row():
    rows = open_rows(pa.table({"v": [[1.0, 2.0], [3.0, 4.0], [5.0]]}))
    with pytest.raises(RowsError, match="'v' of the table X has a list of 1 values at row 2, and of 2 before"):
        values(rows)
    with pytest.raises(RowsError, match="length 0"):
        open_rows(pa.table({"v": pa.array([[], []], pa.list_(pa.float64()))}))
    with pytest.raises(RowsError, match=r"holds lists, and is not the only feature.*columns=\['v'\]"):
        open_rows(pa.table({"v": [[1.0]], "a": [1.0]}))
    with pytest.raises(RowsError, match="only nulls, no list"):
        open_rows(pa.table({"v": pa.array([None, None], pa.list_(pa.float64()))}))


def test_a_query_of_polars_is_refused_in_a_line_that_says_what_to_pass():
    polars = pytest.importorskip("polars")
    with pytest.raises(RowsError, match=r"polars LazyFrame.*X\.collect\(\)"):
        open_rows(polars.LazyFrame({"a": [1.0]}))
    with pytest.raises(RowsError, match="column 'when' of the table X holds points in time"):
        open_rows(polars.DataFrame({"when": WHEN}))


def test_an_array_of_a_library_that_speaks_arrow_is_an_array():
    """xarray's have Arrow's interface; their rows are taken as before."""
    xarray = pytest.importorskip("xarray")
    model = GaussianMixture(1).fit(xarray.DataArray(X, dims=("t", "f")))
    assert model.score(xarray.DataArray(X, dims=("t", "f"))) == model.score(X)


def test_a_column_alone_is_no_table():
    for column in (pa.array([1.0]), pa.chunked_array([[1.0]])):
        with pytest.raises(RowsError, match=r"X is a pyarrow.*expected a NumPy array"):
            open_rows(column)
    with pytest.raises(RowsError, match=r"Series.*X\.to_frame"):
        open_rows(dd.from_pandas(FRAME, npartitions=2)["a"])
