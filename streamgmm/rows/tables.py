"""Tables in memory: pandas and pyarrow. Converted a range of rows at a time, never as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.rows.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.rows.cut import MEMORY_TASK_BYTES, cut, task_bytes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def select_columns(
    available: Sequence[str], columns: Sequence[str] | None, weight_column: str | None, what: str
) -> tuple[str, ...]:
    """Return the columns that are features: those asked for, else all but the weights.

    Raises
    ------
    RowsError
        If a column is not there.
    """
    for column in [*(columns or ()), *([] if weight_column is None else [weight_column])]:
        if column not in available:
            raise RowsError(f"{what} has no column {column!r}; it has {', '.join(map(repr, available))}")
    chosen = tuple(columns) if columns is not None else tuple(c for c in available if c != weight_column)
    if not chosen:
        raise RowsError(f"{what} has no column left to be a feature; name some with columns=")
    return chosen


def common_dtype(dtypes: dict[str, np.dtype[Any]], what: str) -> np.dtype[Any]:
    """Return the dtype that holds all columns, and name the first that is not numeric."""
    for column, dtype in dtypes.items():
        if dtype.kind not in "fiub":
            raise RowsError(
                f"column {column!r} of {what} has dtype {dtype}, which is not numeric: choose the columns to use with "
                "columns=, or convert it"
            )
    dtype = np.result_type(*dtypes.values())
    check_dtype(dtype, what)
    return dtype


class PandasRows(RandomAccessRows):
    """The rows of a pandas DataFrame."""

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        columns: Sequence[str] | None = None,
        weight_column: str | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.description = "the DataFrame X"
        names = list(frame.columns)
        chosen = select_columns(names, columns, weight_column, self.description)
        check_two_dimensional((len(frame), len(chosen)), self.description)
        dtypes = {c: numpy_dtype_of_pandas(frame.dtypes[c]) for c in chosen}
        self.dtype = common_dtype(dtypes, self.description)
        self.frame = frame[list(chosen)]
        self.n_rows, self.n_features = len(frame), len(chosen)
        self.feature_names = chosen if all(isinstance(c, str) for c in chosen) else None
        self.in_memory = True
        if weight_column is not None:
            self.sample_weight = frame[weight_column].to_numpy(dtype=np.float64, na_value=np.nan)
        target = task_bytes(MEMORY_TASK_BYTES, memory_limit)
        row_bytes = self.dtype.itemsize * self.n_features
        self.ranges = cut(self.n_rows, row_bytes, 256, target)
        self.piece_bytes = target

    def read(self, start: int, stop: int) -> Iterator[Block]:
        part = self.frame.iloc[start:stop]
        if self.dtype.kind == "f":
            yield Block(part.to_numpy(dtype=self.dtype, na_value=np.nan), None, start)
        else:
            yield Block(part.to_numpy(dtype=self.dtype), None, start)


def numpy_dtype_of_pandas(dtype: Any) -> np.dtype[Any]:
    """Return the dtype that a pandas column's values have as an array; object where they are no numbers."""
    if isinstance(dtype, np.dtype):
        return dtype
    # Nullable and Arrow-backed columns: a missing value becomes NaN, so integers become float64.
    inner = getattr(dtype, "numpy_dtype", None)
    if inner is None or inner.kind not in "fiub":
        return np.dtype(object)
    return np.result_type(inner, np.float64) if inner.kind in "iub" else np.dtype(inner)


class ArrowRows(RandomAccessRows):
    """The rows of a pyarrow Table."""

    def __init__(
        self,
        table: pa.Table,
        *,
        columns: Sequence[str] | None = None,
        weight_column: str | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.description = "the table X"
        layout = ArrowLayout.of_schema(table.schema, columns, weight_column, self.description)
        check_two_dimensional((table.num_rows, layout.n_features), self.description)
        self.table = table.select(layout.read_columns)
        self._layout = layout
        self.n_rows, self.n_features = table.num_rows, layout.n_features
        self.dtype, self.feature_names, self.in_memory = layout.dtype, layout.feature_names, True
        target = task_bytes(MEMORY_TASK_BYTES, memory_limit)
        row_bytes = self.dtype.itemsize * self.n_features
        self.ranges = cut(self.n_rows, row_bytes, 256, target)
        self.piece_bytes = target

    def read(self, start: int, stop: int) -> Iterator[Block]:
        yield self._layout.block(self.table.slice(start, stop - start), start)


class ArrowLayout:
    """Which columns of an Arrow schema are features and weights, and how they become an array.

    The features are numeric columns, or one column of fixed-size lists of numbers.
    """

    def __init__(
        self,
        columns: tuple[str, ...],
        weight_column: str | None,
        dtype: np.dtype[Any],
        list_size: int | None,
        what: str,
    ) -> None:
        self.columns, self.weight_column, self.dtype, self.list_size, self.what = (
            columns,
            weight_column,
            dtype,
            list_size,
            what,
        )
        self.n_features = len(columns) if list_size is None else list_size
        self.feature_names = columns if list_size is None else None
        extra = [] if weight_column is None or weight_column in columns else [weight_column]
        self.read_columns = [*columns, *extra]

    @classmethod
    def of_schema(
        cls, schema: pa.Schema, columns: Sequence[str] | None, weight_column: str | None, what: str
    ) -> ArrowLayout:
        """Choose and check columns by an Arrow schema."""
        import pyarrow as pa

        chosen = select_columns(schema.names, columns, weight_column, what)
        types = {c: schema.field(c).type for c in chosen}
        if weight_column is not None:
            common_dtype({weight_column: _numpy_dtype_of_arrow(schema.field(weight_column).type)}, what)
        lists = [c for c, t in types.items() if pa.types.is_fixed_size_list(t)]
        if lists:
            if len(chosen) > 1:
                raise RowsError(
                    f"{what} has the list column {lists[0]!r} among others: name it alone, columns=[{lists[0]!r}]"
                )
            dtype = common_dtype({chosen[0]: _numpy_dtype_of_arrow(types[chosen[0]].value_type)}, what)
            return cls(chosen, weight_column, dtype, types[chosen[0]].list_size, what)
        dtype = common_dtype({c: _numpy_dtype_of_arrow(t) for c, t in types.items()}, what)
        return cls(chosen, weight_column, dtype, None, what)

    def block(self, table: pa.Table, start: int) -> Block:
        """Turn a table that has `read_columns` into a block; nulls become NaN."""
        import pyarrow as pa

        weight = None if self.weight_column is None else _column_values(table.column(self.weight_column))
        if self.list_size is not None:
            column = table.column(self.columns[0])
            if column.null_count:
                raise RowsError(f"column {self.columns[0]!r} of {self.what} has a null where a list is expected")
            parts = [chunk.flatten() for chunk in column.chunks]
            flat = _column_values(pa.chunked_array(parts, type=column.type.value_type))
            return Block(flat.reshape(-1, self.list_size), weight, start)
        values = [_column_values(table.column(c)) for c in self.columns]
        has_nulls = any(v.dtype.kind == "f" for v in values) and self.dtype.kind != "f"
        x = np.empty((table.num_rows, self.n_features), dtype=np.float64 if has_nulls else self.dtype)
        for j, column_values in enumerate(values):
            x[:, j] = column_values
        return Block(x, weight, start)


def _column_values(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy()
    if values.dtype == object:  # booleans with nulls
        values = values.astype(np.float64)
    return values


def _numpy_dtype_of_arrow(arrow_type: pa.DataType) -> np.dtype[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type) or pa.types.is_temporal(arrow_type):
        return np.dtype(object)
    try:
        dtype: np.dtype[Any] = np.dtype(arrow_type.to_pandas_dtype())
    except NotImplementedError:
        return np.dtype(object)
    return dtype
