"""Arrow: which types are numbers, how columns become an array, and the rows of a table in memory."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import Block, RandomAccessRows, check_two_dimensional
from streamgmm.sources.chunking import MEMORY_TASK_BYTES, limit_task_bytes, partition_rows
from streamgmm.sources.kept import KeptTable, TableLayout, without_views
from streamgmm.sources.schema import Chosen, ColumnRequest, FeatureSchema

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns in which pandas and Dask keep an index that has no name.
_INDEX_NAMES = ("__index_level_0__", "__null_dask_index__")


class ArrowRows(RandomAccessRows):
    """The rows of a pyarrow Table."""

    _kept_table: pa.Table | None = None

    def __init__(self, table: pa.Table, request: ColumnRequest, *, memory_limit: int | None = None) -> None:
        self.description = "the table X"
        names = table.schema.names
        index = index_columns(table.schema)
        chosen = request.choose(names, self.description, [name for name in names if name not in index])
        types = {name: [(self.description, table.schema.field(name).type)] for name in chosen.numbers}
        layout = ArrowLayout.of_types(types, chosen, self.description, (table.column(c) for c in chosen.features))
        check_two_dimensional((table.num_rows, layout.n_features), self.description)
        self.table = table.select(list(chosen.numbers)).replace_schema_metadata(None)
        if chosen.kept:
            self._kept_table = table.select(list(chosen.kept)).replace_schema_metadata(None)
            self.kept = TableLayout(without_views(self._kept_table.slice(0, 0)).schema)
        self._layout, self.schema = layout, layout.schema
        self.n_rows, self.n_features = table.num_rows, layout.n_features
        self.dtype, self.feature_names, self.in_memory = layout.dtype, layout.feature_names, True
        target = limit_task_bytes(MEMORY_TASK_BYTES, memory_limit)
        row_bytes = self.dtype.itemsize * self.n_features
        self.ranges = partition_rows(self.n_rows, row_bytes, 256, target)
        self.piece_bytes = target

    def read(self, start: int, stop: int) -> Iterator[Block]:
        block = self._layout.block(self.table.slice(start, stop - start), start)
        if self._kept_table is None:
            yield block
        else:
            yield replace(block, kept=KeptTable(without_views(self._kept_table.slice(start, stop - start))))


def as_table(source: Any) -> pa.Table:
    """Turn what gives Arrow data, or speaks the interchange protocol of dataframes, into a table.

    Raises
    ------
    RowsError
        If it can't be one.
    """
    import pyarrow as pa

    try:
        if hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__"):
            return pa.table(source)
        from pyarrow.interchange import from_dataframe

        return from_dataframe(source)
    except Exception as error:  # those of the other library among them
        name = f"{type(source).__module__.partition('.')[0]} {type(source).__name__}"
        raise RowsError(f"X is a {name} that can't be turned into an Arrow table: {error}") from error


@dataclass(frozen=True)
class ArrowLayout:
    """Which columns of Arrow data are features and weights, and how they become an array.

    The features are columns of numbers, or one column of lists of numbers that are all of one length.

    Attributes
    ----------
    chosen : Chosen
    dtype : dtype
        Of the features together; where it has no NaN, a block with missing values is float64.
    list_size : int, or None
        The length of the lists.
    what : str
        The data, as errors name it.
    """

    chosen: Chosen
    dtype: np.dtype[Any]
    list_size: int | None
    what: str

    @classmethod
    def of_types(
        cls,
        types: dict[str, list[tuple[str, pa.DataType]]],
        chosen: Chosen,
        what: str,
        lists: Iterable[pa.ChunkedArray],
    ) -> ArrowLayout:
        """Check the types of columns.

        Parameters
        ----------
        types : dict of list of tuple
            For each column where it was found, a file say, and its type there.
        chosen : Chosen
        what : str
        lists : iterable of ChunkedArray
            Values of the feature, as many as it takes to know the length of its lists, where that is not in its type.

        Raises
        ------
        RowsError
            If a column is not numeric, or has types that don't go together.
        """
        if chosen.weight is not None:
            _common_dtype({chosen.weight: types[chosen.weight]})
        features = {name: types[name] for name in chosen.features}
        of_lists = [name for name, found in features.items() if any(_is_list(found_type) for _, found_type in found)]
        if not of_lists:
            return cls(chosen, _common_dtype(features), None, what)
        if len(features) > 1:
            raise RowsError(
                f"column {of_lists[0]!r} of {what} holds lists, and is not the only feature: name it alone, "
                f"columns=[{of_lists[0]!r}], or leave it out"
            )
        name = of_lists[0]
        elements = {name: [(where, _plain_type(t).value_type if _is_list(t) else t) for where, t in features[name]]}
        dtype = _common_dtype(elements)
        not_list = next((where for where, t in features[name] if not _is_list(t) and not _is_null(t)), None)
        if not_list is not None:
            raise RowsError(f"column {name!r} of {not_list} holds numbers, and lists elsewhere: write one or the other")
        size = _list_size(name, features[name], what, lists)
        return cls(chosen, dtype, size, what)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.chosen.features) if self.list_size is None else self.list_size

    @property
    def schema(self) -> FeatureSchema:
        """The columns, as a fit keeps them."""
        return FeatureSchema(self.chosen.features, self.chosen.weight, self.list_size is not None)

    @property
    def feature_names(self) -> tuple[Any, ...] | None:
        """A name for each feature, or None."""
        return self.schema.feature_names

    def block(self, table: pa.Table, start: int) -> Block:
        """Turn a table that has the chosen columns into a block; nulls become NaN."""
        weight = self.chosen.weight
        weights = None if weight is None else numbers_of(table.column(weight)).astype(np.float64, copy=False)
        if self.list_size is not None:
            return Block(self._lists(table.column(self.chosen.features[0]), start), weights, start)
        values = [numbers_of(table.column(name)) for name in self.chosen.features]
        has_nulls = self.dtype.kind != "f" and any(v.dtype.kind == "f" for v in values)
        x = np.empty((table.num_rows, len(values)), dtype=np.float64 if has_nulls else self.dtype)
        for j, of_column in enumerate(values):
            x[:, j] = of_column
        return Block(x, weights, start)

    def _lists(self, column: pa.ChunkedArray, start: int) -> npt.NDArray[Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        lengths = pc.list_value_length(column).to_numpy()
        if _is_null(column.type):
            lengths = np.full(len(column), np.nan)
        there = ~np.isnan(lengths)
        wrong = np.flatnonzero(there & (lengths != self.list_size))
        if len(wrong):
            raise RowsError(
                f"column {self.chosen.features[0]!r} of {self.what} has a list of {int(lengths[wrong[0]])} values at "
                f"row {start + int(wrong[0])}, and of {self.list_size} before: lists are the features of a row, and "
                "must be of one length"
            )
        if _is_null(column.type) or not there.any():
            return np.full((len(column), self.n_features), np.nan)
        # flatten() leaves out the elements of lists that are null.
        parts = [chunk.flatten() for chunk in _storage(column).chunks]
        flat = numbers_of(pa.chunked_array(parts, type=parts[0].type)).reshape(-1, self.n_features)
        missing = flat.dtype.kind == "f" or not there.all()
        dtype = self.dtype if self.dtype.kind == "f" or not missing else np.dtype(np.float64)
        if there.all():
            return flat.astype(dtype, copy=False)
        x = np.full((len(column), self.n_features), np.nan, dtype)
        x[there] = flat
        return x


def _list_size(name: str, found: list[tuple[str, pa.DataType]], what: str, lists: Iterable[pa.ChunkedArray]) -> int:
    import pyarrow.compute as pc

    fixed = [(where, _plain_type(t)) for where, t in found]
    declared = [(where, t.list_size) for where, t in fixed if hasattr(t, "list_size")]
    for where, size in declared:
        if size != declared[0][1]:
            raise RowsError(
                f"column {name!r} has lists of {size} values in {where} and of {declared[0][1]} in {declared[0][0]}: "
                "lists are the features of a row, and must be of one length"
            )
    size = declared[0][1] if declared else None
    if size is None:
        longest = (pc.max(pc.list_value_length(part)).as_py() for part in lists if not _is_null(part.type))
        size = next((length for length in longest if length is not None), None)
    if size is None:
        raise RowsError(f"column {name!r} of {what} holds only nulls, no list: choose other columns with columns=")
    if size == 0:
        raise RowsError(f"column {name!r} of {what} holds lists of length 0, which are no features")
    return int(size)


def index_columns(schema: pa.Schema) -> set[Hashable]:
    """Return the columns that hold a pandas index: no features, unless they are named."""
    found: set[Hashable] = {name for name in schema.names if name in _INDEX_NAMES}
    try:
        described = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):  # not what pandas writes
        return found
    # A range is described by a dictionary, and has no column.
    return found | {name for name in described if isinstance(name, str)}


def numbers_of(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return the values of a column of numbers; with nulls among them they are floats, and those are NaN."""
    import pyarrow as pa

    column = _storage(column)
    kind = column.type
    if _is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_dictionary(kind):
        decoded = [chunk.dictionary_decode() for chunk in column.chunks]
        return numbers_of(pa.chunked_array(decoded, type=kind.value_type))
    if pa.types.is_decimal(kind):
        # By their text: Arrow's own conversion does not round to the nearest float.
        column = column.cast(pa.string()).cast(pa.float64())
    values: npt.NDArray[Any] = column.to_numpy()
    if values.dtype == object:  # booleans with nulls
        values = values.astype(np.float64)
    return values


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)


def plain_values(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type of the values that a dictionary or an extension type stands for; others as they are."""
    import pyarrow as pa

    plain = _plain_type(arrow_type)
    return plain.value_type if pa.types.is_dictionary(plain) else plain


def _plain_type(arrow_type: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return arrow_type.storage_type if isinstance(arrow_type, pa.BaseExtensionType) else arrow_type


def _is_list(arrow_type: pa.DataType) -> bool:
    import pyarrow as pa

    plain, types = _plain_type(arrow_type), pa.types
    return bool(types.is_list(plain) or types.is_large_list(plain) or types.is_fixed_size_list(plain))


def _is_null(arrow_type: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(arrow_type))


def _common_dtype(types: dict[str, list[tuple[str, pa.DataType]]]) -> np.dtype[Any]:
    """Return the dtype that holds columns of all files: as Arrow's permissive promotion, and never with a loss."""
    dtypes: list[np.dtype[Any]] = []
    for name, found in types.items():
        known = [(where, arrow_type) for where, arrow_type in found if not _is_null(arrow_type)]
        if not known:
            raise RowsError(
                f"column {name!r} of {found[0][0]} has type null: it holds only nulls, no numbers; choose the columns "
                "to use with columns="
            )
        for where, arrow_type in known:
            dtype = numeric_dtype(arrow_type)
            if dtype is None:
                raise RowsError(f"column {name!r} of {where} {not_numeric(arrow_type)}")
            dtypes.append(dtype)
    return np.result_type(*dtypes)


def numeric_dtype(arrow_type: pa.DataType) -> np.dtype[Any] | None:
    """Return the dtype that the values of an Arrow type have as numbers; None where they are none."""
    import pyarrow as pa

    plain, types = _plain_type(arrow_type), pa.types
    if types.is_dictionary(plain):
        return numeric_dtype(plain.value_type)
    if types.is_decimal(plain):
        return np.dtype(np.float64)
    if types.is_boolean(plain) or types.is_integer(plain) or types.is_floating(plain):
        dtype: np.dtype[Any] = np.dtype(plain.to_pandas_dtype())
        return dtype
    return None


def not_numeric(arrow_type: pa.DataType) -> str:
    """Say what a type is instead of numbers, and what to do."""
    import pyarrow as pa

    plain, types = _plain_type(arrow_type), pa.types
    choose = "choose the columns to use with columns="
    if types.is_timestamp(plain):
        return f"holds points in time ({plain}): {choose}, or convert it to numbers, (t - t0).dt.total_seconds()"
    if types.is_date(plain):
        return f"holds dates ({plain}): {choose}, or convert it to numbers, (t - t0).dt.days"
    if types.is_time(plain):
        return f"holds times of day ({plain}): {choose}, or convert it to seconds"
    if types.is_duration(plain) or types.is_interval(plain):
        return f"holds durations ({plain}): {choose}, or convert it to numbers, t.dt.total_seconds()"
    if types.is_struct(plain) or types.is_map(plain) or types.is_union(plain):
        return f"is nested ({plain}): {choose}, or write its numeric fields as columns of their own"
    if types.is_null(plain):
        return f"has type null: it holds only nulls, no numbers; {choose}"
    if _is_list(plain):
        return f"has type {plain}, which is not numeric: {choose}, or write lists of numbers, one list per row"
    if types.is_dictionary(plain):
        return f"holds categories that are no numbers ({plain.value_type}), not numeric: {choose}, or encode them"
    text = "text" if plain in (pa.string(), pa.large_string()) or str(plain) == "string_view" else str(plain)
    return f"holds {text}, which is not numeric: {choose}, or convert it"
