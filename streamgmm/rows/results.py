"""Where results go: a Zarr array or a folder of Parquet files, local or in an object store, whole or not at all."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
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

#: Bytes of a chunk of a Zarr result.
_CHUNK_BYTES = 16 * 2**20


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
    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        """Write the results of one range; ranges are written at once, by any process."""

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
        row_bytes = np.dtype(self.dtype).itemsize * (self.n_columns or 1)
        parts = max(1, -(-task_rows // max(1, _CHUNK_BYTES // row_bytes)))
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

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        import zarr

        zarr.open_array(self.path, mode="r+")[start : start + len(values)] = values


class ParquetResults(ResultStore):
    """A folder of Parquet files, one per task; their names sort in the order of the rows."""

    def ranges(self, source: tuple[RowRange, ...]) -> tuple[RowRange, ...]:
        return source

    def create(self, source: tuple[RowRange, ...]) -> None:
        if not is_url(self.path):
            os.makedirs(self.path)

    def write(self, start: int, values: npt.NDArray[Any]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.n_columns is None:
            columns = {self.column: values}
        else:
            columns = {f"{self.column}_{k}": values[:, k] for k in range(self.n_columns)}
        name = f"{self.path}/part-{start:015d}.parquet"
        if not is_url(self.path):
            pq.write_table(pa.table(columns), name)
            return
        filesystem, place = opened_place(name)
        pq.write_table(pa.table(columns), place, filesystem=filesystem)

    def complete(self) -> None:
        if is_url(self.path):
            # There, files come one by one: this one says that they are all there, as Spark's does.
            filesystem, place = opened_place(f"{self.path}/_SUCCESS")
            retried(lambda: filesystem.pipe_file(place, b""))


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
