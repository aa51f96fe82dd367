"""Columns that go with the rows: carried over as they are stored, next to what is computed of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError

if TYPE_CHECKING:
    import pyarrow as pa

#: Attributes of an array of times that hold whole numbers, as the CF conventions have it, by Arrow's unit of time.
_CF_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: What a schema says of a column of whole numbers by which folders are named: how many digits their names have.
DIGITS = b"streamgmm.digits"
#: What stands for a time that is missing.
_NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class ArraySpec:
    """What an array is whose first dimension are the rows.

    Attributes
    ----------
    dtype : dtype
    shape : tuple of int
        Of what belongs to one row.
    dims : tuple of str
        Names of its other dimensions.
    attributes : mapping
    fill_value : object
        None for the default of its dtype.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fill_value: Any = None


class Kept(Protocol):
    """What is kept of some rows."""

    def slice(self, start: int, n_rows: int) -> Self:
        """Return what is kept of some of them."""

    def as_table(self) -> pa.Table:
        """Return it as the columns of a table."""

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return it as arrays."""


class KeptLayout(Protocol):
    """What is kept of all rows: names and types."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in their order."""

    def as_schema(self) -> pa.Schema:
        """Return the schema of `Kept.as_table`."""

    def as_specs(self) -> dict[str, ArraySpec]:
        """Return what the arrays of `Kept.as_arrays` are.

        Raises
        ------
        RowsError
            If there is a column that no array of numbers, texts or times can hold.
        """


@dataclass(frozen=True)
class TableLayout:
    """Columns of a table."""

    schema: pa.Schema

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    def as_schema(self) -> pa.Schema:
        return self.schema

    def as_specs(self) -> dict[str, ArraySpec]:
        return {one.name: _spec_of(one.name, one.type) for one in self.schema}


@dataclass(frozen=True)
class KeptTable:
    """Columns of a table for some rows."""

    table: pa.Table

    def slice(self, start: int, n_rows: int) -> KeptTable:
        return KeptTable(self.table.slice(start, n_rows))

    def as_table(self) -> pa.Table:
        return self.table

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: _array_of(name, self.table.column(name)) for name in self.table.column_names}


def without_views(table: pa.Table) -> pa.Table:
    """Return a table whose texts are no views, which polars gives and neither Parquet's writer nor a cast knows."""
    import pyarrow as pa

    columns = [_without_views(column) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(column.type):
        inner = column.type.value_type
        if not types.is_string_view(inner):
            return column
        parts = [
            pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary.cast(pa.large_string()))
            for chunk in column.chunks
        ]
        return pa.chunked_array(parts, type=pa.dictionary(pa.int32(), pa.large_string()))
    if types.is_string_view(column.type):
        return column.cast(pa.large_string())
    return column.cast(pa.large_binary()) if types.is_binary_view(column.type) else column


def _spec_of(name: str, arrow_type: pa.DataType) -> ArraySpec:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(arrow_type):
        return _spec_of(name, arrow_type.value_type)
    if types.is_boolean(arrow_type) or types.is_integer(arrow_type) or types.is_floating(arrow_type):
        return ArraySpec(np.dtype(arrow_type.to_pandas_dtype()))
    if types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type):
        return ArraySpec(np.dtypes.StringDType())
    if types.is_date(arrow_type) or types.is_timestamp(arrow_type):
        unit = "days" if types.is_date(arrow_type) else _CF_UNITS[arrow_type.unit]
        zone = getattr(arrow_type, "tz", None)
        attributes = {"units": f"{unit} since 1970-01-01", "calendar": "proleptic_gregorian", "_FillValue": _NO_TIME}
        if zone is not None:
            attributes["time_zone"] = f"UTC (shown in {zone})"
        return ArraySpec(np.dtype(np.int64), attributes=attributes, fill_value=_NO_TIME)
    raise RowsError(
        f"keep: column {name!r} has type {arrow_type}, which no Zarr array here can hold: write to a name that ends in "
        ".parquet, or leave it out"
    )


def _array_of(name: str, column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return the values of a column as what `_spec_of` says."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_date(kind) or types.is_timestamp(kind):
        numbers = column.cast(pa.date32()).cast(pa.int32()) if types.is_date(kind) else column
        return np.asarray(pc.fill_null(numbers.cast(pa.int64()), _NO_TIME).to_numpy())
    if column.null_count:
        if types.is_floating(kind):
            return np.asarray(pc.fill_null(column, float("nan")).to_numpy())
        raise RowsError(
            f"keep: column {name!r} ({kind}) has {column.null_count} missing value(s) among some rows, for which a "
            "Zarr array has no place: write to a name that ends in .parquet, or leave it out"
        )
    values = column.to_numpy()
    return np.asarray(values, dtype=_spec_of(name, kind).dtype)
