"""Dask arrays and DataFrames: lazy, chunked along features too, with known or unknown lengths."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.rows.base import UNKNOWN_LENGTH_STRIDE, Block, Leaf, Rows, check_dtype, check_sample_weight
from streamgmm.rows.cut import check_piece
from streamgmm.rows.fingerprint import digest
from streamgmm.rows.tables import common_dtype, numpy_dtype_of_pandas, select_columns

if TYPE_CHECKING:
    import dask.array as da
    import dask.dataframe as dd
    from dask.delayed import Delayed


class DaskRows(Rows):
    """The rows of a 2-D Dask array; each chunk of rows is one task, fused with what makes the chunk."""

    in_memory = False

    def __init__(
        self,
        array: da.Array,
        *,
        description: str = "the Dask array X",
        feature_names: tuple[str, ...] | None = None,
        sample_weight: Any = None,
        memory_limit: int | None = None,
    ) -> None:
        import dask.array as da

        if array.ndim != 2:
            raise RowsError(
                f"{description} has {array.ndim} dimensions, shape {array.shape}; expected 2: (rows, features)"
            )
        check_dtype(array.dtype, description)
        if array.shape[0] == 0 or array.shape[1] == 0:
            raise RowsError(f"{description} has shape {array.shape}: no rows, or no features")
        self.description, self.feature_names, self.dtype = description, feature_names, array.dtype
        self.array = array.rechunk({1: -1}) if array.numblocks[1] > 1 else array
        self.n_features = int(array.shape[1])
        lengths = self.array.chunks[0]
        known = not np.isnan(lengths).any()
        self.n_rows = int(sum(lengths)) if known else None
        if known:
            self.starts = tuple(int(s) for s in accumulate((0, *lengths[:-1])))
        else:
            self.starts = tuple(i * UNKNOWN_LENGTH_STRIDE for i in range(len(lengths)))
        # A chunk is in memory as a whole.
        longest = max(lengths) if known else 0
        self.piece_bytes = int(longest) * self.n_features * self.dtype.itemsize
        check_piece(self.piece_bytes, memory_limit, description)
        self.sample_weight: da.Array | None = None
        if sample_weight is not None:
            if not isinstance(sample_weight, da.Array):
                if self.n_rows is None:
                    raise RowsError(
                        f"{description} has an unknown number of rows: give sample_weight as a Dask array with the "
                        "same chunks, or a column's name"
                    )
                weights = check_sample_weight(sample_weight, self.n_rows)
                sample_weight = da.from_array(weights, chunks=(lengths,))
            check_dtype(sample_weight.dtype, "sample_weight")
            if sample_weight.ndim != 1 or (known and sample_weight.shape != (self.n_rows,)):
                raise RowsError(f"sample_weight must have shape ({self.n_rows},); got {sample_weight.shape}")
            self.sample_weight = sample_weight.rechunk((lengths,)) if known else sample_weight
            if self.sample_weight.numblocks[0] != self.array.numblocks[0]:
                raise RowsError("sample_weight and X must have the same number of chunks of rows")

    @property
    def n_tasks(self) -> int:
        return int(self.array.numblocks[0])

    def one_task(self, number: int) -> DaskRows:
        weights = None if self.sample_weight is None else self.sample_weight.blocks[number]
        return DaskRows(self.array.blocks[number], description=self.description, sample_weight=weights)

    def tasks_with_rows(self) -> list[int]:
        # A length that is not known is no number, and so not zero.
        return [number for number, length in enumerate(self.array.chunks[0]) if length != 0]

    def _cut_digest(self) -> str:
        return digest(map(str, self.array.chunks[0]))

    def _content_digest(self) -> str:
        # Dask names arrays after what makes them.
        return digest([self.array.name, "" if self.sample_weight is None else self.sample_weight.name])

    def leaves(self, leaf: Leaf, parameters: Any) -> list[Delayed]:
        import dask.array as da
        from dask import delayed

        arrays = [self.array] if self.sample_weight is None else [self.array, self.sample_weight[:, np.newaxis]]
        results = da.map_blocks(
            _apply_to_chunk,
            *arrays,
            leaf=leaf,
            starts=self.starts,
            parameters=delayed(parameters, pure=False, traverse=False),
            dtype=object,
            chunks=((1,) * self.n_tasks, (1,)),
            meta=np.empty((0, 0), dtype=object),
            name=_fresh_name(),
        )
        return [_unwrapped(result) for result in results.to_delayed().ravel()]

    def map(self, leaf: Leaf, parameters: Any, *, n_columns: int | None, dtype: type) -> da.Array:
        """Return a lazy array of what `leaf` gives for the rows of each chunk: shape (n,) or (n, n_columns)."""
        import dask.array as da

        shape = {"drop_axis": 1} if n_columns is None else {"chunks": (self.array.chunks[0], (n_columns,))}
        return da.map_blocks(
            _map_chunk,
            self.array,
            leaf=leaf,
            starts=self.starts,
            parameters=parameters,
            dtype=dtype,
            meta=np.empty((0,) if n_columns is None else (0, 0), dtype=dtype),
            **shape,
        )


def _map_chunk(x: Any, *, leaf: Leaf, starts: tuple[int, ...], parameters: Any, block_id: Any) -> Any:
    return leaf([Block(np.asarray(x), None, starts[block_id[0]])], parameters)


def _fresh_name() -> str:
    import uuid

    return f"streamgmm-pass-{uuid.uuid4().hex}"


def _apply_to_chunk(
    x: Any, sample_weight: Any = None, *, leaf: Leaf, starts: tuple[int, ...], parameters: Any, block_id: Any
) -> Any:
    start = starts[block_id[0]]
    weights = None if sample_weight is None else np.asarray(sample_weight)[:, 0]
    result = np.empty((1, 1), dtype=object)
    result[0, 0] = leaf([Block(np.asarray(x), weights, start)], parameters)
    return result


def _unwrapped(result: Delayed) -> Delayed:
    return result[0, 0]


def rows_of_dataframe(
    frame: dd.DataFrame,
    *,
    columns: Sequence[str] | None,
    weight_column: str | None,
    sample_weight: Any,
    memory_limit: int | None = None,
) -> DaskRows:
    """Make rows of a Dask DataFrame's numeric columns; each partition is one task."""
    what = "the Dask DataFrame X"
    chosen = select_columns(list(frame.columns), columns, weight_column, what)
    dtype = common_dtype({c: numpy_dtype_of_pandas(frame.dtypes[c]) for c in chosen}, what)
    array = frame[list(chosen)].astype(dtype).to_dask_array()
    weights = sample_weight if weight_column is None else frame[weight_column].to_dask_array()
    return DaskRows(array, description=what, feature_names=chosen, sample_weight=weights, memory_limit=memory_limit)
