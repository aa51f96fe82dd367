"""From a source of rows to Dask tasks: the one place that asks what kind of source it is.

A source says how it is cut, and reads what it is told to. Here lazy values are made of that: of a block function,
``function(blocks, parameters)``, for each part of the source. Loading and computing are one task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from streamgmm.execution.broadcast import broadcast_task
from streamgmm.execution.tree_reduce import add_up
from streamgmm.sources.base import BlockFunction, RandomAccessRows, RowRange, Rows, attach_weights
from streamgmm.sources.dask_arrays import Chunk, ChunkReader, DaskRows, GatheredChunk

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed


class Tasks(Protocol):
    """Makes the tasks of a source."""

    def for_parts(self, function: BlockFunction, parameters: Any) -> list[Delayed]:
        """Return one lazy value for each part: ``function(blocks, parameters)``."""

    def for_groups(
        self,
        function: BlockFunction,
        parameters: Any,
        groups: Sequence[Sequence[int]],
        combine: Callable[..., Any],
    ) -> list[Delayed] | None:
        """Return one lazy value for each group of parts, ``combine(*values)``; None where a task is a single part."""

    def as_array(
        self, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
    ) -> da.Array:
        """Return a lazy array of what `function` gives for the rows, shape (n,) or (n, n_columns); a chunk per part."""


@singledispatch
def tasks_of(rows: Rows) -> Tasks:
    """Return what makes the tasks of some rows."""
    raise TypeError(f"there is no way to make tasks of {type(rows).__name__}")


@dataclass(frozen=True)
class RangeTasks:
    """Tasks that are told which rows to read."""

    rows: RandomAccessRows

    def for_parts(self, function: BlockFunction, parameters: Any) -> list[Delayed]:
        return self.for_groups(function, parameters, [(number,) for number in range(self.rows.n_tasks)], add_up)

    def for_groups(
        self,
        function: BlockFunction,
        parameters: Any,
        groups: Sequence[Sequence[int]],
        combine: Callable[..., Any],
    ) -> list[Delayed]:
        """Dask's schedulers run these tasks in their order, as far as nothing else decides."""
        rows = self.rows
        weights = rows.sample_weight
        source = rows.without_weights().repartition(())
        task = broadcast_task(partial(_read_and_apply, function, combine), source, parameters, n_tasks=len(groups))
        # Of tasks that are alike otherwise Dask takes those with the last keys first.
        name = f"rows-{uuid4().hex}"
        lazy = []
        for place, group in enumerate(groups):
            ranges = [rows.ranges[number] for number in group]
            of_rows = None if weights is None else [weights[part.start : part.stop] for part in ranges]
            lazy.append(task(ranges, of_rows, dask_key_name=(name, f"{len(groups) - place:09d}")))
        return lazy

    def as_array(
        self, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
    ) -> da.Array:
        import dask.array as da

        chunks = []
        for part, value in zip(self.rows.ranges, self.for_parts(function, parameters), strict=True):
            n = part.stop - part.start
            shape = (n,) if n_columns is None else (n, n_columns)
            chunks.append(da.from_delayed(value, shape=shape, meta=np.empty((0,) * len(shape), dtype=dtype)))
        return da.concatenate(chunks, axis=0)


@tasks_of.register
def _(rows: RandomAccessRows) -> RangeTasks:
    return RangeTasks(rows)


def _read_and_apply(
    function: BlockFunction,
    combine: Callable[..., Any],
    source: RandomAccessRows,
    parameters: Any,
    ranges: Sequence[RowRange],
    sample_weights: Sequence[npt.NDArray[Any]] | None,
) -> Any:
    """Apply a block function to each of some ranges with their weights, and combine what it gives."""
    weights = [None] * len(ranges) if sample_weights is None else sample_weights
    return combine(
        *(
            function(attach_weights(source.read(part.start, part.stop), part.start, of_rows), parameters)
            for part, of_rows in zip(ranges, weights, strict=True)
        )
    )


@dataclass(frozen=True)
class ChunkTasks:
    """Tasks that are fused with those of a user's graph that make a chunk of rows."""

    rows: DaskRows

    def for_parts(self, function: BlockFunction, parameters: Any) -> list[Delayed]:
        from dask import delayed

        shared = delayed((self.rows.reader, self.rows.chunks, function, parameters), pure=False, traverse=False)
        name = f"streamgmm-pass-{uuid4().hex}"
        results = self._map(_apply_to_chunk, shared, ((1,) * self.rows.n_tasks, (1,)), object, name=name)
        return [result[0, 0] for result in results.to_delayed().ravel()]

    def for_groups(
        self,
        function: BlockFunction,
        parameters: Any,
        groups: Sequence[Sequence[int]],
        combine: Callable[..., Any],
    ) -> None:
        return None

    def as_array(
        self, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
    ) -> da.Array:
        from dask import delayed

        shared = delayed((self.rows.reader, self.rows.chunks, function, parameters), pure=True, traverse=False)
        results = self._map(_map_chunk, shared, (self.rows.array.chunks[0], (n_columns or 1,)), dtype)
        return results if n_columns is not None else results[:, 0]

    def _map(self, function: Any, shared: Any, chunks: Any, dtype: npt.DTypeLike, **options: Any) -> da.Array:
        """Apply a function to what there is for each chunk of rows."""
        import dask.array as da

        source, sample_weight = self.rows.array, self.rows.sample_weight
        weights = () if sample_weight is None else (sample_weight, "i")
        # As they are: to put chunks together, or to reshape weights, is to believe what is said of them.
        if source.numblocks[1] > 1:
            nothing: npt.NDArray[Any] = np.empty((0,), dtype=object)
            source = da.blockwise(
                GatheredChunk.of_columns, "i", source, "ij", *weights, align_arrays=False, dtype=object, meta=nothing
            )
            options["new_axis"] = 1
        elif weights:
            # Nothing is summed over, so that Dask makes one task of it and of what makes the chunk.
            source = da.blockwise(
                GatheredChunk.of_column, "ij", source, "ij", *weights,
                concatenate=True, align_arrays=False, dtype=object, meta=np.empty((0, 0), dtype=object),
            )  # fmt: skip
        meta: npt.NDArray[Any] = np.empty((0, 0), dtype=dtype)
        return da.map_blocks(function, source, shared=shared, dtype=dtype, chunks=chunks, meta=meta, **options)


@tasks_of.register
def _(rows: DaskRows) -> ChunkTasks:
    return ChunkTasks(rows)


#: What all tasks of a Dask collection share: how chunks are read and where they lie, the function and its parameters.
_Shared = tuple[ChunkReader, tuple[Chunk, ...], BlockFunction, Any]


def _map_chunk(value: Any, *, shared: _Shared, block_id: Any) -> Any:
    reader, chunks, function, parameters = shared
    result = function([GatheredChunk.read(value, reader, chunks[block_id[0]])], parameters)
    return result if result.ndim == 2 else result[:, np.newaxis]


def _apply_to_chunk(value: Any, *, shared: _Shared, block_id: Any) -> Any:
    reader, chunks, function, parameters = shared
    result = np.empty((1, 1), dtype=object)
    result[0, 0] = function([GatheredChunk.read(value, reader, chunks[block_id[0]])], parameters)
    return result
