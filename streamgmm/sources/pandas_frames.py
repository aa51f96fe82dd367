"""pandas DataFrames in memory: converted a range of rows at a time, never as a whole."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.arrow_tables import not_numeric, numbers_of, numeric_dtype
from streamgmm.sources.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.sources.chunking import MEMORY_TASK_BYTES, limit_task_bytes, partition_rows
from streamgmm.sources.kept import KeptTable, TableLayout
from streamgmm.sources.schema import ColumnRequest, FeatureSchema

if TYPE_CHECKING:
    import pandas as pd

#: What pandas calls the values of an object column that are numbers.
_NUMBERS = ("decimal", "integer", "floating", "mixed-integer-float", "boolean")
#: What a dtype is instead of numbers, and what to do, by NumPy's kind.
_INSTEAD = {
    "M": "points in time: convert them to numbers, (t - t0).dt.total_seconds()",
    "m": "durations: convert them to numbers, t.dt.total_seconds()",
    "U": "text: convert it to numbers",
    "c": "complex numbers: give their real and imaginary parts as columns of their own",
}


def find_common_dtype(dtypes: Mapping[Any, np.dtype[Any]], what: str) -> np.dtype[Any]:
    """Return the dtype that holds all columns, and name the first that is not numeric."""
    for column, dtype in dtypes.items():
        if dtype.kind not in "fiub":
            instead = _INSTEAD.get(dtype.kind, "no numbers: convert it")
            shown = "str" if dtype == np.dtype(str) else dtype
            raise RowsError(
                f"column {column!r} of {what} has dtype {shown}, which is not numeric but holds {instead}, or choose "
                "the columns to use with columns="
            )
    dtype = np.result_type(*dtypes.values())
    check_dtype(dtype, what)
    return dtype


class PandasRows(RandomAccessRows):
    """The rows of a pandas DataFrame."""

    _kept_columns: KeptColumns | None = None

    def __init__(self, frame: pd.DataFrame, request: ColumnRequest, *, memory_limit: int | None = None) -> None:
        self.description = "the DataFrame X"
        chosen = request.choose(list(frame.columns), self.description, index=frame.index.names)
        check_two_dimensional((len(frame), len(chosen.features)), self.description)
        dtypes = {name: get_column_dtype(frame[name], name, self.description) for name in chosen.features}
        self.dtype = find_common_dtype(dtypes, self.description)
        self.frame = frame[list(chosen.features)]
        self.n_rows, self.n_features = len(frame), len(chosen.features)
        self.schema = FeatureSchema(chosen.features, chosen.weight)
        self.feature_names = chosen.features
        self.in_memory = True
        if chosen.kept:
            self._kept_columns = KeptColumns.of(frame, chosen.kept, self.description)
            self.kept = self._kept_columns.layout
            self._kept_frame = frame
        if chosen.weight is not None:
            weights = frame[chosen.weight]
            find_common_dtype(
                {chosen.weight: get_column_dtype(weights, chosen.weight, self.description)}, self.description
            )
            self.sample_weight = column_values(weights, np.dtype(np.float64))
        target = limit_task_bytes(MEMORY_TASK_BYTES, memory_limit)
        row_bytes = self.dtype.itemsize * self.n_features
        self.ranges = partition_rows(self.n_rows, row_bytes, 256, target)
        self.piece_bytes = target

    def read(self, start: int, stop: int) -> Iterator[Block]:
        kept = None if self._kept_columns is None else self._kept_columns.take(self._kept_frame.iloc[start:stop])
        yield Block(frame_values(self.frame.iloc[start:stop], self.dtype), None, start, kept)


@dataclass(frozen=True)
class KeptColumns:
    """Columns of frames, and names of their index, that go with the rows.

    Attributes
    ----------
    names : tuple of hashable
    layout : TableLayout
    what : str
        The frame, as errors name it.
    """

    names: tuple[Hashable, ...]
    layout: TableLayout
    what: str

    @classmethod
    def of(cls, frame: pd.DataFrame, names: tuple[Hashable, ...], what: str) -> KeptColumns:
        """Say what types the columns have in a table.

        Raises
        ------
        RowsError
            If Arrow has no type for one.
        """
        import pyarrow as pa

        types = {}
        for name in names:
            try:
                found = pa.array(_values_of(frame, name), from_pandas=True).type
            except (pa.ArrowException, TypeError) as error:
                raise RowsError(
                    f"keep: column {name!r} of {what} can't be a column of an Arrow table: {error}"
                ) from error
            unknown = pa.types.is_dictionary(found) and pa.types.is_null(found.value_type)
            # Categories that Dask does not know before it computes are texts, nearly always.
            types[str(name)] = pa.string() if unknown else found
        return cls(names, TableLayout(pa.schema(list(types.items()))), what)

    def take(self, frame: pd.DataFrame) -> KeptTable:
        """Return the columns of some rows."""
        import pyarrow as pa

        arrays = []
        for name, of_table in zip(self.names, self.layout.schema, strict=True):
            try:
                values = _values_of(frame, name)
                if hasattr(values.dtype, "categories") and not pa.types.is_dictionary(of_table.type):
                    values = values.astype(object)
                arrays.append(pa.array(values, type=of_table.type, from_pandas=True))
            except (pa.ArrowException, TypeError) as error:
                raise RowsError(
                    f"keep: column {name!r} of {self.what} has values that are not {of_table.type}: {error}"
                ) from error
        return KeptTable(pa.table(arrays, schema=self.layout.schema))


def _values_of(frame: pd.DataFrame, name: Hashable) -> Any:
    """Return the values of a column, or of a level of the index."""
    return frame[name] if name in frame.columns else frame.index.get_level_values(name)


def frame_values(frame: pd.DataFrame, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the values of a frame whose columns hold numbers, shape (n, n_columns)."""
    if all(isinstance(of_column, np.dtype) and of_column.kind in "fiub" for of_column in frame.dtypes):
        # What pandas converts by itself, as one array.
        return np.asarray(frame.to_numpy(dtype=dtype))
    values = np.empty(frame.shape, dtype=dtype)
    for j in range(frame.shape[1]):
        values[:, j] = column_values(frame.iloc[:, j], dtype)
    return values


def column_values(column: pd.Series, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return the values of a column whose dtype holds numbers; missing ones are NaN where the result's dtype has it."""
    if hasattr(column.dtype, "categories"):
        categories, codes = column.cat.categories.to_numpy(), column.cat.codes.to_numpy()
        values = np.append(categories.astype(np.float64), np.nan)[codes] if (codes < 0).any() else categories[codes]
        return np.asarray(values, dtype=dtype)
    if (isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiub") or hasattr(column.dtype, "fill_value"):
        return np.asarray(column, dtype=dtype)
    arrow_type = getattr(column.dtype, "pyarrow_dtype", None)
    if arrow_type is not None:
        import pyarrow as pa

        return numbers_of(pa.chunked_array([pa.array(column.array)], type=arrow_type)).astype(dtype, copy=False)
    missing = {"na_value": np.nan} if dtype.kind == "f" else {}
    values = column.to_numpy(dtype=dtype, **missing)
    return np.asarray(values)


def get_column_dtype(column: pd.Series, name: Hashable, what: str) -> np.dtype[Any]:
    """Return the dtype of a column's numbers; its values are looked at where its dtype does not say what they are."""
    import pandas as pd

    arrow_type = getattr(column.dtype, "pyarrow_dtype", None)
    if arrow_type is not None and numeric_dtype(arrow_type) is None:
        raise RowsError(f"column {name!r} of {what} {not_numeric(arrow_type)}")
    if column.dtype == object:
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind in _NUMBERS:
            return np.dtype(np.float64)
        if kind == "empty":
            raise RowsError(
                f"column {name!r} of {what} has dtype object and holds only nulls, no numbers: choose the columns to "
                "use with columns="
            )
        if isinstance(column.dropna().iloc[0], (list, tuple, np.ndarray)):
            raise RowsError(
                f"column {name!r} of {what} has dtype object and holds lists, which is not numeric: give them as an "
                f"array, np.stack(X[{name!r}]), or as an Arrow table"
            )
    return numpy_dtype_of_pandas(column.dtype)


def numpy_dtype_of_pandas(dtype: Any) -> np.dtype[Any]:
    """Return the dtype that a pandas column's values have as an array, one that holds NaN where a value may be missing.

    Where they are no numbers it is object, or one that says what they are.
    """
    if isinstance(dtype, np.dtype):
        return dtype
    categories = getattr(dtype, "categories", None)
    if categories is not None:
        inner = numpy_dtype_of_pandas(categories.dtype)
        return _with_nan(inner) if inner.kind in "fiub" else np.dtype(object)
    if hasattr(dtype, "subtype") and hasattr(dtype, "fill_value"):  # sparse
        return numpy_dtype_of_pandas(dtype.subtype)
    if hasattr(dtype, "tz"):
        return np.dtype("datetime64[ns]")
    if str(dtype) in ("string", "str"):
        return np.dtype(str)
    # Nullable and Arrow-backed columns.
    arrow_type = getattr(dtype, "pyarrow_dtype", None)
    if arrow_type is not None:
        numeric = numeric_dtype(arrow_type)
        return np.dtype(object) if numeric is None else _with_nan(numeric)
    values = getattr(dtype, "numpy_dtype", None)
    return np.dtype(object) if values is None or values.kind not in "fiub" else _with_nan(np.dtype(values))


def _with_nan(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.float64) if dtype.kind in "iub" else dtype
