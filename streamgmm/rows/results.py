"""Where results go: a Zarr array or a folder of Parquet files, local or in an object store, whole or not at all."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.rows.base import RowRange
from streamgmm.rows.replacing import check_output, is_url, replaced_whole
from streamgmm.storage import opened_place, retried

#: Bytes of a chunk of a Zarr result, and of a row group of a Parquet one, at most.
_CHUNK_BYTES = 16 * 2**20
#: Rows of a row group, at most.
_ROW_GROUP_ROWS = 2**20


@dataclass(frozen=True)
class ResultStore(ABC):
    """A place for one row of results per row of the data.

    Attributes
    ----------
    path : str
        Where it is being written.
    column : str
        The name of the result, "label" say.
    n_rows : int
    n_columns : int or None
        None for a vector.
    dtype : dtype
    """

    path: str
    column: str
    n_rows: int
    n_columns: int | None
    dtype: Any

    @abstractmethod
    def ranges(self, source: tuple[RowRange, ...]) -> tuple[RowRange, ...]:
        """Return the ranges to write, each in one task: those of the source, moved to where this store may be cut."""

    @abstractmethod
    def create(self, source: tuple[RowRange, ...]) -> None:
        """Create the empty store, for the same ranges of the source."""

    @abstractmethod
    def write(self, start: int, parts: Iterable[npt.NDArray[Any]]) -> int:
        """Write the results of one range as they come, and return their number.

        Of these not much more than `_CHUNK_BYTES` are held; ranges are written at once, by any process.
        """

    @property
    def piece_rows(self) -> int:
        """Rows whose results are worth computing at once."""
        row_bytes = int(np.dtype(self.dtype).itemsize) * (self.n_columns or 1)
        return max(1, _CHUNK_BYTES // row_bytes)

    def complete(self) -> None:  # noqa: B027 (most stores need nothing)
        """Do what is to be done when everything is written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all results."""
        return (self.n_rows,) if self.n_columns is None else (self.n_rows, self.n_columns)


class ZarrResults(ResultStore):
    """An array in Zarr format 3.

    Every task writes whole chunks: two tasks that wrote into one chunk at once would lose results.
    """

    def _chunk_rows(self, source: tuple[RowRange, ...]) -> int:
        """Choose chunks of which the tasks of the source are multiples, where that can be."""
        task_rows = source[0].stop - source[0].start
        parts = max(1, -(-task_rows // self.piece_rows))
        even = next((p for p in range(parts, 8 * parts + 1) if task_rows % p == 0), parts)
        # Rounded up: the first task is then `parts` chunks, with no small one left over.
        return max(1, -(-task_rows // even))

    def ranges(self, source: tuple[RowRange, ...]) -> tuple[RowRange, ...]:
        chunk = self._chunk_rows(source)
        stops = sorted({min(-(-part.stop // chunk) * chunk, self.n_rows) for part in source})
        return tuple(RowRange(start, stop) for start, stop in zip([0, *stops], stops, strict=False))

    def create(self, source: tuple[RowRange, ...]) -> None:
        import zarr

        chunk = self._chunk_rows(source)
        chunks = (chunk,) if self.n_columns is None else (chunk, self.n_columns)
        zarr.create_array(
            self.path, shape=self.shape, dtype=self.dtype, chunks=chunks, attributes={"name": self.column}
        )

    def write(self, start: int, parts: Iterable[npt.NDArray[Any]]) -> int:
        import zarr

        array = zarr.open_array(self.path, mode="r+")
        stop = start
        # Whole chunks: the blocks of a range need not end where those do.
        for values in _in_steps(parts, array.chunks[0]):
            array[stop : stop + len(values)] = values
            stop += len(values)
        return stop - start


class ParquetResults(ResultStore):
    """A folder of Parquet files, one per task; their names sort in the order of the rows."""

    def ranges(self, source: tuple[RowRange, ...]) -> tuple[RowRange, ...]:
        return source

    def create(self, source: tuple[RowRange, ...]) -> None:
        if not is_url(self.path):
            os.makedirs(self.path)

    def write(self, start: int, parts: Iterable[npt.NDArray[Any]]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [self.column] if self.n_columns is None else [f"{self.column}_{k}" for k in range(self.n_columns)]
        schema = pa.schema([(name, pa.from_numpy_dtype(self.dtype)) for name in names])
        place, filesystem = f"{self.path}/part-{start:015d}.parquet", None
        if is_url(self.path):
            filesystem, place = opened_place(place)
        n_written = 0
        # Hardly two densities or responsibilities are equal: a dictionary of them would take time and room.
        few_values = np.issubdtype(self.dtype, np.integer)
        with pq.ParquetWriter(place, schema, filesystem=filesystem, use_dictionary=few_values) as writer:
            for values in _in_steps(parts, min(self.piece_rows, _ROW_GROUP_ROWS)):
                writer.write_table(pa.table(list(values.reshape(len(values), -1).T), schema=schema))
                n_written += len(values)
        return n_written

    def complete(self) -> None:
        if is_url(self.path):
            # There, files come one by one: this one says that they are all there, as Spark's does.
            filesystem, place = opened_place(f"{self.path}/_SUCCESS")
            retried(lambda: filesystem.pipe_file(place, b""))


def _in_steps(parts: Iterable[npt.NDArray[Any]], n_rows: int) -> Iterator[npt.NDArray[Any]]:
    """Give the rows of several arrays so many at a time, and what is left in the end."""
    held: list[npt.NDArray[Any]] = []
    n_held = 0
    for part in parts:
        start = 0
        while start < len(part):
            held.append(part[start : start + n_rows - n_held])
            start += len(held[-1])
            n_held += len(held[-1])
            if n_held == n_rows:
                yield np.concatenate(held)
                held, n_held = [], 0
    if held:
        yield np.concatenate(held)


_STORES: dict[str, type[ResultStore]] = {".zarr": ZarrResults, ".parquet": ParquetResults}


def result_store(
    path: str, column: str, n_rows: int, n_columns: int | None, dtype: npt.DTypeLike, *, overwrite: bool
) -> ResultStore:
    """Name the store for a path, by its suffix.

    Raises
    ------
    InputError
        If the suffix is none of .zarr and .parquet, or the folder it would be in is not there.
    OutputExistsError
        If there is something at the path, unless `overwrite`.
    """
    check_output(path, overwrite=overwrite)
    suffix = Path(path).suffix
    if suffix not in _STORES:
        raise InputError(f"the name of the output must end in {' or '.join(_STORES)}; got {path}")
    return _STORES[suffix](path, column, n_rows, n_columns, np.dtype(dtype))


@contextmanager
def written_whole(store: ResultStore) -> Iterator[ResultStore]:
    """Give a store to write in beside the one named; rename it at the end, or remove it where an error comes first."""
    with replaced_whole(store.path) as temporary:
        written = replace(store, path=temporary)
        yield written
        written.complete()
