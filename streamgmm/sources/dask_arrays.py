"""Dask arrays: lazy, chunked along features too, with known or unknown lengths."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import UNKNOWN_LENGTH_STRIDE, Block, Rows, as_sample_weight, check_dtype
from streamgmm.sources.checking import (
    as_chunk_weights,
    as_plain_array,
    check_chunk,
    remedy_for_array_type,
    unmasked_dtype,
)
from streamgmm.sources.chunking import check_piece
from streamgmm.storage.fingerprint import digest

if TYPE_CHECKING:
    import dask.array as da


@dataclass(frozen=True)
class Chunk:
    """What Dask says of one chunk of rows.

    Attributes
    ----------
    number : int
    start : int
        Index of its first row, as `Block` has it.
    n_rows : int or None
        None where Dask does not know.
    """

    number: int
    start: int
    n_rows: int | None


class ChunkReader(Protocol):
    """Makes a block of what the graph gives for a chunk, and refuses what is not as it was said to be."""

    def block(self, columns: list[Any], sample_weight: tuple[Any, ...], chunk: Chunk) -> Block:
        """Return the rows of a chunk.

        Parameters
        ----------
        columns : list
            What there is for each chunk along the features.
        sample_weight : tuple
            The same for the weights; empty where there are none. (A chunk of weights may be None, by mistake.)
        chunk : Chunk
        """
        ...


@dataclass(frozen=True)
class ArrayChunkReader:
    """Reads the chunks of a Dask array.

    Attributes
    ----------
    description : str
    widths : tuple of int
        Features of each chunk along the features.
    """

    description: str
    widths: tuple[int, ...]

    def block(self, columns: list[Any], sample_weight: tuple[Any, ...], chunk: Chunk) -> Block:
        parts: list[npt.NDArray[Any]] = []
        for number, (value, width) in enumerate(zip(columns, self.widths, strict=True)):
            place = f"{chunk.number}" if len(columns) == 1 else f"({chunk.number}, {number})"
            where = f"chunk {place} of {self.description}"
            part = as_plain_array(value, where)
            of_all = parts[0].shape[0] if parts and chunk.n_rows is None else chunk.n_rows
            index = place.strip("()") + (", 0" if len(columns) == 1 else "")
            check_chunk(part, where, n_rows=of_all, n_features=width, see=f"X.blocks[{index}].compute()")
            parts.append(part)
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        where = f"chunk {chunk.number} of {self.description}"
        weights = [as_chunk_weights(one, where, n_rows=len(x)) for one in sample_weight]
        return Block(x, weights[0] if weights else None, chunk.start)


class DaskRows(Rows):
    """The rows of a 2-D Dask array; each chunk of rows is one task, fused with what makes the chunk.

    Parameters
    ----------
    array : dask.array.Array
        Its chunks may be anything that `reader` takes.
    description : str
    feature_names : tuple of str, optional
    sample_weight : array or dask.array.Array, optional
    memory_limit : int, optional
    reader : ChunkReader, optional
        For chunks that are no arrays.
    """

    in_memory = False

    def __init__(
        self,
        array: da.Array,
        *,
        description: str = "the Dask array X",
        feature_names: tuple[str, ...] | None = None,
        sample_weight: Any = None,
        memory_limit: int | None = None,
        reader: ChunkReader | None = None,
    ) -> None:
        _check_said(array, description)
        self.description, self.feature_names = description, feature_names
        self.dtype = unmasked_dtype(array._meta) if isinstance(array._meta, np.ndarray) else array.dtype
        self.array = array
        self.n_features = int(array.shape[1])
        self.reader: ChunkReader = reader or ArrayChunkReader(description, tuple(map(int, array.chunks[1])))
        lengths = self.array.chunks[0]
        known = not np.isnan(lengths).any()
        self.n_rows = int(sum(lengths)) if known else None
        starts = (
            [*accumulate((0, *lengths[:-1]))] if known else [i * UNKNOWN_LENGTH_STRIDE for i in range(len(lengths))]
        )
        self.chunks = tuple(
            Chunk(number, int(start), int(length) if known else None)
            for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
        )
        # A chunk is in memory as a whole.
        longest = max(lengths) if known else 0
        self.piece_bytes = int(longest) * self.n_features * self.dtype.itemsize
        check_piece(self.piece_bytes, memory_limit, description)
        self.sample_weight = None if sample_weight is None else self._weights(sample_weight)

    def _weights(self, sample_weight: Any) -> da.Array:
        """Return weights as a Dask array whose chunks are those of the rows."""
        import dask.array as da

        lengths = self.array.chunks[0]
        if not isinstance(sample_weight, da.Array):
            if self.n_rows is None:
                raise RowsError(
                    f"{self.description} has an unknown number of rows: give sample_weight as a Dask array with the "
                    "same chunks, or a column's name"
                )
            return da.from_array(as_sample_weight(sample_weight, self.n_rows), chunks=(lengths,))
        check_dtype(sample_weight.dtype, "sample_weight")
        known = self.n_rows is not None and not np.isnan(sample_weight.shape).any()
        if sample_weight.ndim != 1 or (known and sample_weight.shape != (self.n_rows,)):
            expected = "n_rows" if self.n_rows is None else self.n_rows
            raise RowsError(f"sample_weight must have shape ({expected},); got {sample_weight.shape}")
        weights = sample_weight.rechunk((lengths,)) if known else sample_weight
        if weights.numblocks[0] != self.array.numblocks[0]:
            raise RowsError(
                f"sample_weight has {weights.numblocks[0]} chunk(s) and {self.description} has "
                f"{self.array.numblocks[0]} of rows, of unknown lengths: they must be the same"
            )
        return weights

    @property
    def n_tasks(self) -> int:
        return int(self.array.numblocks[0])

    def read_by(self, reader: ChunkReader) -> DaskRows:
        """Return the same rows, their chunks read by another reader."""
        other = copy(self)
        other.reader = reader
        return other

    def some_tasks(self, numbers: Sequence[int]) -> Self:
        other = copy(self)
        other.array = self.array.blocks[list(numbers)]
        other.chunks = tuple(self.chunks[number] for number in numbers)
        lengths = [chunk.n_rows for chunk in other.chunks]
        known = [length for length in lengths if length is not None]
        other.n_rows = sum(known) if len(known) == len(lengths) else None
        if self.sample_weight is not None:
            other.sample_weight = self.sample_weight.blocks[list(numbers)]
        return other

    def task_start(self, number: int) -> int:
        return self.chunks[number].start

    def task_rows(self, number: int) -> int | None:
        return self.chunks[number].n_rows

    def with_lengths(self, lengths: Sequence[int]) -> Self:
        """Return the same rows where it has been counted how many each chunk has."""
        other = copy(self)
        starts = accumulate((0, *lengths[:-1]))
        other.chunks = tuple(
            Chunk(chunk.number, start, length)
            for chunk, start, length in zip(self.chunks, starts, lengths, strict=True)
        )
        other.n_rows = sum(lengths)
        return other

    def tasks_with_rows(self) -> list[int]:
        # A length that is not known may be any.
        return [number for number, chunk in enumerate(self.chunks) if chunk.n_rows != 0]

    def _partition_digest(self) -> str:
        return digest(map(str, self.array.chunks[0]))

    def _content_digest(self) -> str:
        # Dask names arrays after what makes them.
        return digest([self.array.name, "" if self.sample_weight is None else self.sample_weight.name])


def _check_said(array: da.Array, description: str) -> None:
    """Refuse an array for what is said of it: nothing is computed."""
    if array.ndim != 2:
        raise RowsError(f"{description} has {array.ndim} dimensions, shape {array.shape}; expected 2: (rows, features)")
    kind = type(array._meta)
    remedy = remedy_for_array_type(kind)
    if remedy is not None:
        raise RowsError(f"{description} has chunks that are {kind.__module__}.{kind.__name__}, not NumPy's: {remedy}")
    check_dtype(array.dtype, description)
    if np.isnan(array.shape[1]):
        raise RowsError(
            f"{description} has an unknown number of features, shape {array.shape}: X.compute_chunk_sizes() counts "
            "them, or select features by their numbers"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise RowsError(f"{description} has shape {array.shape}: no rows, or no features")


@dataclass(frozen=True)
class GatheredChunk:
    """What a graph gives for one chunk of rows, untouched.

    Attributes
    ----------
    columns : list
        What there is for each chunk along the features.
    sample_weight : tuple
        The same for the weights; empty where there are none.
    """

    columns: list[Any]
    sample_weight: tuple[Any, ...] = ()

    @classmethod
    def of_columns(cls, columns: list[Any], *sample_weight: Any) -> GatheredChunk:
        """Gather several chunks along the features."""
        return cls(columns, sample_weight)

    @classmethod
    def of_column(cls, column: Any, *sample_weight: Any) -> GatheredChunk:
        """Gather a single one."""
        return cls([column], sample_weight)

    @staticmethod
    def read(value: Any, reader: ChunkReader, chunk: Chunk) -> Block:
        """Make a block of a chunk, gathered or not."""
        gathered = value if isinstance(value, GatheredChunk) else GatheredChunk([value])
        return reader.block(gathered.columns, gathered.sample_weight, chunk)
