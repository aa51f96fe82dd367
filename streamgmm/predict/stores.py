"""Where results go: a Zarr group or a folder of Parquet files, local or in an object store, whole or not at all."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.sources.base import RowRange
from streamgmm.storage.atomic_output import atomic_output, is_url, location, naming_output
from streamgmm.storage.outputs import check_output
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import check_url, open_url

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
    output : str or None
        The place that it is for, as errors name it; None where that is `path`.
    of : str
        What columns and labels are of: "component" or "cluster".
    """

    path: str
    column: str
    n_rows: int
    n_columns: int | None
    dtype: Any
    output: str | None = None
    of: str = "component"

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

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.path if self.output is None else self.output

    def complete(self) -> None:  # noqa: B027 (most stores need nothing)
        """Do what is to be done when everything is written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all results."""
        return (self.n_rows,) if self.n_columns is None else (self.n_rows, self.n_columns)


class ZarrResults(ResultStore):
    """An array of the column's name, with named dimensions, in a group of Zarr format 3: xarray opens that.

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
        with naming_output(self.name):
            group = zarr.create_group(location(self.path), zarr_format=3)
            group.create_array(
                self.column,
                shape=self.shape,
                dtype=self.dtype,
                chunks=chunks,
                dimension_names=("row", self.of)[: len(chunks)],
                attributes={"long_name": _LONG_NAMES.get(self.column, self.column).format(self.of)},
            )
            # What xarray looks for first, and without which it warns. Zarr warns that its specification does not have
            # it yet; readers that don't know it pass over it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(location(self.path), zarr_format=3)

    def write(self, start: int, parts: Iterable[npt.NDArray[Any]]) -> int:
        import zarr

        with naming_output(self.name):
            array = zarr.open_array(location(self.path), path=self.column, mode="r+")
        stop = start
        # Whole chunks: the blocks of a range need not end where those do.
        for values in _in_steps(parts, array.chunks[0]):
            with naming_output(self.name):
                array[stop : stop + len(values)] = values
            stop += len(values)
        return stop - start


class ParquetResults(ResultStore):
    """A folder of Parquet files, one per task; their names sort in the order of the rows."""

    def ranges(self, source: tuple[RowRange, ...]) -> tuple[RowRange, ...]:
        return source

    def create(self, source: tuple[RowRange, ...]) -> None:
        if not is_url(self.path):
            with naming_output(self.name):
                os.makedirs(self.path)

    def write(self, start: int, parts: Iterable[npt.NDArray[Any]]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [self.column] if self.n_columns is None else [f"{self.column}_{k}" for k in range(self.n_columns)]
        schema = pa.schema([(name, pa.from_numpy_dtype(self.dtype)) for name in names])
        place, filesystem = f"{self.path}/part-{start:015d}.parquet", None
        if is_url(self.path):
            filesystem, place = open_url(place)
        n_written = 0
        # Hardly two densities or responsibilities are equal: a dictionary of them would take time and room.
        few_values = np.issubdtype(self.dtype, np.integer)
        with naming_output(self.name):
            writer = pq.ParquetWriter(place, schema, filesystem=filesystem, use_dictionary=few_values)
        try:
            for values in _in_steps(parts, min(self.piece_rows, _ROW_GROUP_ROWS)):
                table = pa.table(list(values.reshape(len(values), -1).T), schema=schema)
                with naming_output(self.name):
                    writer.write_table(table)
                n_written += len(values)
        except BaseException:
            # It closes its file, and has an error of its own where the one that ended it left no room for a footer.
            with suppress(Exception):
                writer.close()
            raise
        with naming_output(self.name):
            writer.close()
        return n_written

    def complete(self) -> None:
        if is_url(self.path):
            # There, files come one by one: this one says that they are all there, as Spark's does.
            filesystem, place = open_url(f"{self.path}/_SUCCESS")
            with naming_output(self.name):
                retry(lambda: filesystem.pipe_file(place, b""))


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


#: What xarray shows of a column.
_LONG_NAMES = {
    "label": "most probable {}, -1 where a value is missing",
    "proba": "responsibility of the {}",
    "log_density": "log-density, in nats",
}

_STORES: dict[str, type[ResultStore]] = {".zarr": ZarrResults, ".parquet": ParquetResults}


def check_result_place(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise an error where no results can, or may, be written.

    Raises
    ------
    InputError
        If the suffix is none of .zarr and .parquet.
    OutputExistsError
        If there is something at the path, unless `overwrite`.
    OutputError
        If nothing can be written there.
    """
    check_url(os.fspath(path))
    if Path(path).suffix not in _STORES:
        raise InputError(f"the name of the output must end in {' or '.join(_STORES)}; got {os.fspath(path)}")
    check_output(path, overwrite=overwrite, is_folder=True)


def name_store(
    path: str | os.PathLike[str],
    column: str,
    n_rows: int,
    n_columns: int | None,
    dtype: npt.DTypeLike,
    of: str = "component",
) -> ResultStore:
    """Name the store for a path that `check_result_place` has let pass, by its suffix."""
    name = os.fspath(path)
    return _STORES[Path(name).suffix](name, column, n_rows, n_columns, np.dtype(dtype), name, of)


@contextmanager
def write_atomically(store: ResultStore) -> Iterator[ResultStore]:
    """Give a store to write in beside the one named; rename it at the end, or remove it where an error comes first."""
    with atomic_output(store.path) as temporary:
        written = replace(store, path=temporary)
        yield written
        written.complete()
