"""Dask DataFrames: columns are found by their names in each partition, whatever order its file had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import Block
from streamgmm.sources.checking import as_chunk_weights
from streamgmm.sources.dask_arrays import Chunk, DaskRows
from streamgmm.sources.kept import KeptTable
from streamgmm.sources.pandas_frames import (
    KeptColumns,
    column_values,
    find_common_dtype,
    frame_values,
    get_column_dtype,
    numpy_dtype_of_pandas,
)
from streamgmm.sources.schema import Chosen, ColumnRequest, FeatureSchema

if TYPE_CHECKING:
    import dask.dataframe as dd

#: Operations of Dask whose partitions are what a user's function, or a file, makes of them.
_UNSURE = {"MapPartitions", "FromMap", "FromDelayed", "DelayedsExpr", "_DelayedExpr", "FromGraph"}


def open_dataframe(
    frame: dd.DataFrame, request: ColumnRequest, *, sample_weight: Any, memory_limit: int | None = None
) -> DaskRows:
    """Make rows of a Dask DataFrame's numeric columns; each partition is one task."""
    what = "the Dask DataFrame X"
    if frame.ndim != 2:
        raise RowsError(f"X is a Dask {type(frame).__name__}, one column: give a DataFrame, X.to_frame()")
    names = list(frame.columns)
    chosen = request.choose(names, what, index=[frame.index.name])
    weight_column = chosen.weight
    kept = None
    if chosen.kept:
        # Dask says what types the columns have; its partitions are held to that.
        kept = KeptColumns.of(frame._meta_nonempty, chosen.kept, what)
    dtype = find_common_dtype({c: numpy_dtype_of_pandas(frame.dtypes[c]) for c in chosen.features}, what)
    if weight_column is not None:
        find_common_dtype({weight_column: numpy_dtype_of_pandas(frame.dtypes[weight_column])}, what)
    frame = narrow_frame(frame, chosen.all)
    # The partitions themselves, which the tasks look at: Dask's own conversion stacks columns as they come.
    array = frame.map_partitions(
        as_it_is, meta=np.empty((0, len(chosen.features)), dtype=dtype), enforce_metadata=False
    )
    if is_dask_series(sample_weight):
        of_series = np.empty((0,), dtype=numpy_dtype_of_pandas(sample_weight.dtype))
        sample_weight = sample_weight.map_partitions(as_it_is, meta=of_series, enforce_metadata=False)
    rows = DaskRows(
        array,
        description=what,
        feature_names=chosen.features,
        sample_weight=None if weight_column is not None else sample_weight,
        memory_limit=memory_limit,
        reader=PartitionReader(what, chosen, kept),
    )
    rows.schema = FeatureSchema(chosen.features, chosen.weight)
    rows.kept = None if kept is None else kept.layout
    return rows


def narrow_frame(frame: dd.DataFrame, columns: Sequence[Any]) -> dd.DataFrame:
    """Return a DataFrame of which Dask need read no other columns, where that is sure to change nothing else."""
    names = list(frame.columns)
    needed = [name for name in columns if name in names]
    return frame[needed] if set(needed) != set(names) and not _unsure(frame) else frame


def as_it_is(partition: Any) -> Any:
    """Return a partition."""
    return partition


def is_dask_series(value: Any) -> bool:
    """Tell a Dask Series from other weights without importing Dask."""
    return type(value).__name__ == "Series" and type(value).__module__.startswith("dask")


def check_once(names: Sequence[Any], needed: Sequence[Any], what: str) -> None:
    """Raise RowsError where one of the columns that are needed is not there, or more than once."""
    for column in needed:
        n = sum(1 for name in names if name == column)
        if n == 0:
            raise RowsError(f"{what} has no column {column!r}; it has {', '.join(map(repr, names)) or 'none'}")
        if n > 1:
            raise RowsError(f"{what} has {n} columns named {column!r}: give each its own name")


def _unsure(frame: dd.DataFrame) -> bool:
    """Whether a partition may have other columns than Dask says: then Dask is not asked for some of them.

    Its error would name no partition. Partitions of Parquet files are read by the names of one schema.
    """
    try:
        operations = list(frame.expr.walk())
    except AttributeError:
        return True
    return any(cls.__name__ in _UNSURE for operation in operations for cls in type(operation).__mro__)


@dataclass(frozen=True)
class PartitionReader:
    """Reads the partitions of a Dask DataFrame.

    Attributes
    ----------
    description : str
    chosen : Chosen
    kept : KeptColumns, or None
    """

    description: str
    chosen: Chosen
    kept: KeptColumns | None = None

    def block(self, columns: list[Any], sample_weight: tuple[Any, ...], chunk: Chunk) -> Block:
        (partition,) = columns
        where = f"partition {chunk.number} of {self.description}"
        features, weight_column = list(self.chosen.features), self.chosen.weight
        needed = self.chosen.numbers
        if not hasattr(partition, "columns") or not hasattr(partition, "dtypes"):
            raise RowsError(
                f"{where} is a {type(partition).__module__}.{type(partition).__qualname__}; expected a DataFrame with "
                f"the columns {', '.join(map(repr, needed))}: mend what makes it"
            )
        if len(partition) == 0:
            # Often made without columns, or without their dtypes.
            of_column = () if weight_column is None else (np.empty(0),)
            empty = [as_chunk_weights(one, where, n_rows=0) for one in sample_weight or of_column]
            kept = None if self.kept is None else KeptTable(self.kept.layout.schema.empty_table())
            return Block(np.empty((0, len(features))), empty[0] if empty else None, chunk.start, kept)
        check_once(list(partition.columns), needed, where)
        dtypes = {column: get_column_dtype(partition[column], column, where) for column in needed}
        x = frame_values(partition[features], find_common_dtype({column: dtypes[column] for column in features}, where))
        if weight_column is not None:
            find_common_dtype({weight_column: dtypes[weight_column]}, where)
            sample_weight = (column_values(partition[weight_column], np.dtype(np.float64)),)
        weights = [as_chunk_weights(one, where, n_rows=len(x)) for one in sample_weight]
        return Block(x, weights[0] if weights else None, chunk.start, self._keep(partition, where))

    def _keep(self, partition: Any, where: str) -> KeptTable | None:
        if self.kept is None:
            return None
        names = [name for name in self.kept.names if name != partition.index.name]
        check_once(list(partition.columns), names, where)
        return replace(self.kept, what=where).take(partition)
