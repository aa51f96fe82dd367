"""Random small Parquet stores and tables give the values that pandas reads from the same files and tables."""

import os
import tempfile
import warnings
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgmm.exceptions import RowsError, RowsWarning
from streamgmm.sources.base import RandomAccessRows
from streamgmm.sources.open import open_rows

EXAMPLES = settings(
    max_examples=int(os.environ.get("STREAMGMM_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NAMES = ["a", "b c", "d.e", "d", "ü", "x=1", "[z]*", "0", "1", "__x", "_w"]
INDEXES = ["none", "range", "unnamed", "named", "two levels"]
KEYS = ["year", "k y", "%"]
TYPES = {
    "number": [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.null()],
    "half": [pa.float16()],
    "boolean": [pa.bool_(), pa.null()],
    "decimal": [pa.decimal128(9, 2), pa.decimal128(30, 6), pa.null()],
    "category": [pa.dictionary(pa.int8(), pa.int64()), pa.dictionary(pa.int16(), pa.float64())],
}


@dataclass
class StoreOnDisk:
    """Files as they are written, and what is asked of them."""

    tables: list = field(default_factory=list)
    indexes: list = field(default_factory=list)
    keys: list = field(default_factory=list)
    names: list = field(default_factory=list)
    source: str = "folder"
    columns: list | None = None
    weight: str | None = None
    row_group: int = 10


def arrays(draw, kind, arrow_type, n_rows):
    missing = draw(st.lists(st.integers(0, 9), min_size=n_rows, max_size=n_rows))
    if draw(st.booleans()):
        missing = [9] * n_rows
    if pa.types.is_null(arrow_type):
        return pa.nulls(n_rows)
    if kind == "boolean":
        values = draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows))
    elif kind == "decimal":
        ints = draw(st.lists(st.integers(-(10**7) + 1, 10**7 - 1), min_size=n_rows, max_size=n_rows))
        values = [Decimal(i).scaleb(-2) for i in ints]
    elif kind == "number" and arrow_type == pa.int64():
        values = draw(st.lists(st.integers(-(2**62), 2**62), min_size=n_rows, max_size=n_rows))
    else:
        values = draw(st.lists(st.integers(0, 100), min_size=n_rows, max_size=n_rows))
        if not pa.types.is_integer(arrow_type) and not pa.types.is_dictionary(arrow_type):
            values = [value / 8 for value in values]
    values = [None if m == 0 else value for value, m in zip(values, missing, strict=True)]
    if pa.types.is_dictionary(arrow_type):
        return pa.array(values, arrow_type.value_type).dictionary_encode().cast(arrow_type)
    if pa.types.is_float16(arrow_type):
        return pa.array([None if v is None else np.float16(v) for v in values], arrow_type)
    return pa.array(values, arrow_type)


@st.composite
def stores(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    kinds = {name: draw(st.sampled_from(list(TYPES))) for name in names}
    store = StoreOnDisk(row_group=draw(st.integers(1, 12)))
    hive = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    for number in range(draw(st.integers(1, 4))):
        n_rows = draw(st.integers(1, 12))
        here = draw(st.permutations(names))
        if len(here) > 1 and draw(st.integers(0, 4)) == 0:
            here = here[:-1]
        store.tables.append(
            pa.table({n: arrays(draw, kinds[n], draw(st.sampled_from(TYPES[kinds[n]])), n_rows) for n in here})
        )
        store.indexes.append(draw(st.sampled_from(INDEXES)))
        store.keys.append({k: draw(st.sampled_from([None, 0, 7, -3, 2.5])) for k in hive if draw(st.integers(0, 5))})
        store.names.append(draw(st.sampled_from([f"part.{number * 7}.parquet", f"{number:06d}_0", f"[{number}].pq"])))
    known = {name for table in store.tables for name in table.column_names}
    hive = [key for key in hive if any(key in keys for keys in store.keys)]
    store.source = draw(st.sampled_from(["folder", "list", "pattern", "dataset"]))
    if draw(st.booleans()) or hive:
        asked = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, unique=True))
        store.columns = [*asked, *hive]
        store.weight = draw(st.sampled_from([None, None, *sorted(known), *hive]))
    return store


def with_index(table, kind):
    """A table as pandas has written it, with one of its kinds of index; the table itself without."""
    if kind == "none":
        return table
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    numbers = np.arange(len(frame)) * 5 + 3
    index = {
        "range": pd.RangeIndex(2, 2 + len(frame)),
        "unnamed": pd.Index(numbers[::-1]),
        "named": pd.Index(numbers, name="the index"),
        "two levels": pd.MultiIndex.from_arrays([numbers, numbers % 3], names=["one", None]),
    }[kind]
    # pandas may find that numbers are a range: then they have no column, but where that is asked for.
    return pa.Table.from_pandas(frame.set_index(index), preserve_index=None if kind == "range" else True)


def written(store, folder):
    """Write the files of a store; return their paths in the order of the rows."""
    paths = []
    for number, table in enumerate(store.tables):
        # Digits first: the order of the folders is that of the files.
        place = folder / f"{number}"
        for key, value in store.keys[number].items():
            text = "__HIVE_DEFAULT_PARTITION__" if value is None else value
            place = place / f"{key.replace('%', '%25').replace(' ', '%20')}={text}"
        place.mkdir(parents=True)
        pq.write_table(with_index(table, store.indexes[number]), place / store.names[number], store.row_group)
        paths.append(place / store.names[number])
    return paths


def expected(store, paths):
    """The same values, read file by file by pandas; the folders' keys as they were written."""
    frames = []
    for path, table, keys in zip(paths, store.tables, store.keys, strict=True):
        # Without what pandas has noted of its dtypes: it can't read all that it writes.
        frame = pq.read_table(path, partitioning=None).to_pandas(ignore_metadata=True)
        frames.append(frame[table.column_names].astype(object))
        for key, value in keys.items():
            frames[-1][key] = pd.Series([np.nan if value is None else value] * len(frame), dtype=object)
    names = store.columns
    if names is None:
        seen = dict.fromkeys(name for table in store.tables for name in table.column_names)
        names = [name for name in seen if all(name in table.column_names for table in store.tables)]
    names = [*names, *([] if store.weight is None else [store.weight])]
    columns = [np.concatenate([as_floats(f[n]) if n in f else np.full(len(f), np.nan) for f in frames]) for n in names]
    found = np.array(columns).T
    if store.weight is None:
        return names, found, None
    return names[:-1], found[:, :-1], found[:, -1]


def as_floats(column):
    return np.array([np.nan if pd.isna(value) else float(value) for value in column])


def all_values(rows):
    assert isinstance(rows, RandomAccessRows)
    blocks = [block for number in range(rows.n_tasks) for block in rows.blocks(number)]
    return np.concatenate([np.asarray(block.x, dtype=np.float64) for block in blocks])


@EXAMPLES
@given(store=stores())
def test_random_parquet_stores_are_read_as_pandas_reads_them(store):
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", RowsWarning)
        folder = Path(name) / "a=1"
        paths = written(store, folder)
        names, values, weights = expected(store, paths)
        source = {
            "folder": lambda: str(folder),
            "list": lambda: paths,
            "pattern": lambda: str(folder / "**" / "*[0qt]"),
            "dataset": lambda: the_dataset(store, paths, folder),
        }[store.source]()
        used = [*names, *([] if store.weight is None else [store.weight])]
        of_nulls = [name for name in used if all(map(pa.types.is_null, types_of(store, name)))]
        if of_nulls or not names:
            with pytest.raises(RowsError, match="only nulls" if of_nulls else "no column left"):
                open_rows(source, columns=store.columns, sample_weight=store.weight)
            return
        rows = open_rows(source, columns=store.columns, sample_weight=store.weight)
        assert rows.feature_names == tuple(names)
        np.testing.assert_array_equal(all_values(rows), values)
        if weights is not None:
            blocks = [block for number in range(rows.n_tasks) for block in rows.blocks(number)]
            np.testing.assert_array_equal(np.concatenate([block.sample_weight for block in blocks]), weights)
        start, stop = rows.n_rows // 3, rows.n_rows
        some = np.concatenate([np.asarray(block.x, dtype=np.float64) for block in rows.read(start, stop)])
        np.testing.assert_array_equal(some, values[start:stop])


def types_of(store, name):
    found = [table.field(name).type for table in store.tables if name in table.column_names]
    return found or [pa.int64()]


def the_dataset(store, paths, folder):
    """A dataset of the files, where pyarrow can make one that loses nothing; else their list."""
    schemas = [table.schema for table in store.tables]
    if any(
        schema.field(n).type != schemas[0].field(n).type
        for schema in schemas
        for n in schema.names
        if n in schemas[0].names
    ):
        return paths
    if any(set(schema.names) != set(schemas[0].names) for schema in schemas) or any(store.keys):
        return paths
    return pads.dataset([str(path) for path in paths], schema=schemas[0])


@st.composite
def tables(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    n_rows = draw(st.integers(1, 12))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(list(TYPES)))
        columns[name] = arrays(draw, kind, draw(st.sampled_from([t for t in TYPES[kind] if t != pa.null()])), n_rows)
    kinds = ["arrow", "batch", "pandas", "pandas arrow", "reader", "nullable", "numbered"]
    return pa.table(columns), draw(st.sampled_from(kinds))


@EXAMPLES
@given(tables())
def test_random_tables_are_read_as_pandas_has_them(given_table):
    table, kind = given_table
    values = np.column_stack([as_floats(table.column(n).to_pandas().astype(object)) for n in table.column_names])
    source = {
        "arrow": lambda: table,
        "batch": lambda: table.combine_chunks().to_batches()[0],
        "reader": lambda: table.to_reader(),
        "pandas": lambda: table.to_pandas(),
        "pandas arrow": lambda: table.to_pandas(types_mapper=pd.ArrowDtype),
        "nullable": lambda: table.to_pandas().convert_dtypes(),
        "numbered": lambda: table.to_pandas().set_axis([3 * j - 1 for j in range(table.num_columns)], axis=1),
    }[kind]()
    if all(table.column(n).null_count < len(table) for n in table.column_names) or kind in ("arrow", "reader"):
        rows = open_rows(source)
        assert rows.feature_names == (tuple(source.columns) if kind == "numbered" else tuple(table.column_names))
        np.testing.assert_array_equal(all_values(rows), values)
