"""Zarr arrays, given as such or by the path of a store: formats 2 and 3, sharded or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.sources.chunking import (
    PIECE_BYTES,
    STORED_TASK_BYTES,
    check_piece,
    choose_task_bytes,
    fits,
    limit_task_bytes,
    partition_rows,
)
from streamgmm.sources.prefetch import prefetch
from streamgmm.sources.zarr_groups import find_matrix
from streamgmm.sources.zarr_kept import ArraysBeside
from streamgmm.sources.zarr_packing import dimensions, packing_of
from streamgmm.storage.fingerprint import describe_files, digest, digest_of_files
from streamgmm.storage.names import location
from streamgmm.storage.requests import ReadPolicy
from streamgmm.storage.retries import Retries
from streamgmm.storage.zarr_places import Place, PlacedArray

if TYPE_CHECKING:
    import zarr

#: What is raised for a place that holds no array.
_NOT_ZARR = (FileNotFoundError, KeyError, ValueError, NotImplementedError)


class ZarrRows(RandomAccessRows):
    """The rows of a 2-D Zarr array: one that was given as such, or found where `opened` is, with its own `path`.

    Values that are packed by the CF conventions are unpacked, as `packing` says.
    """

    def __init__(
        self,
        array: zarr.Array[Any],
        *,
        description: str,
        path: str | None = None,
        opened: str | None = None,
        keep: Sequence[str] | str = (),
        memory_limit: int | None = None,
    ) -> None:
        self.description = description
        self._path = _local_path(array) if path is None else path
        check_two_dimensional(array.shape, description)
        check_dtype(np.dtype(array.dtype), description)
        self._packing = packing_of(array, description)
        self.row_dimension = (dimensions(array) or (None,))[0]
        self.n_rows, self.n_features = array.shape
        self.dtype = np.dtype(array.dtype) if self._packing is None else self._packing.dtype
        self.feature_names = None
        self.in_memory = type(array.store).__name__ == "MemoryStore"
        self._policy = ReadPolicy.of("" if self.in_memory else self._path)
        self._placed = PlacedArray(array, Place.of(array, opened), description, self._policy)
        self._beside = ArraysBeside(array, keep, description, opened, self._policy) if keep else None
        self.kept = None if self._beside is None else self._beside.layout
        row_bytes = self.dtype.itemsize * self.n_features + (0 if self._beside is None else self._beside.row_bytes)
        target = choose_task_bytes(self.n_rows * row_bytes, memory_limit)
        piece_rows = array.chunks[0]
        if array.shards is not None and array.shards[0] * row_bytes <= limit_task_bytes(
            STORED_TASK_BYTES, memory_limit
        ):
            # A shard is one object: read it once, as a whole, where a task can hold it.
            piece_rows = array.shards[0]
        self.ranges = partition_rows(self.n_rows, row_bytes, piece_rows, target)
        #: Rows that are read with one request.
        self._piece_rows = max(1, limit_task_bytes(PIECE_BYTES, memory_limit) // (row_bytes * piece_rows)) * piece_rows
        piece_bytes = min(self._piece_rows, self.n_rows) * row_bytes
        check_piece(piece_bytes, memory_limit, description)
        self._ahead = self._policy.remote and fits(2 * piece_bytes, memory_limit)
        self.piece_bytes = (2 if self._ahead else 1) * piece_bytes

    @property
    def array(self) -> zarr.Array[Any]:
        """The array, as it is stored."""
        return self._placed.array

    def stored_version(self) -> str | None:
        if self._path is not None:
            return digest_of_files([self._path])
        if self.in_memory:
            return None
        filesystem, place = getattr(self.array.store, "fs", None), getattr(self.array.store, "path", None)
        if filesystem is None or place is None:
            # Somewhere that only the array itself knows: what can be told without reading it.
            return digest([str(self.array.store_path), str(self.array.metadata)])
        return digest(describe_files(_waiting(filesystem), f"{place}/{self.array.path}"))

    def _content_digest(self) -> str:
        beside = "" if self._beside is None else self._beside.version()
        return digest([super()._content_digest(), beside])

    def read(self, start: int, stop: int) -> Iterator[Block]:
        pieces = self._pieces(start, stop)
        return prefetch(pieces) if self._ahead else pieces

    def _pieces(self, start: int, stop: int) -> Iterator[Block]:
        while start < stop:
            end = min(stop, (start // self._piece_rows + 1) * self._piece_rows)
            yield self._piece(start, end)
            start = end

    def _piece(self, start: int, stop: int) -> Block:
        array = self.array
        try:
            x = self._policy.call(lambda: np.asarray(array[start:stop]), f"rows {start} to {stop - 1}")
        except RowsError as error:
            # What decoding raises; other errors are of the store as a whole.
            damaged = isinstance(error.__cause__, (RuntimeError, ValueError))
            raise RowsError(f"{self.description}: {self._damaged(start, stop) if damaged else error}") from error
        if not self.in_memory and self._may_be_absent(x, start):
            # Chunks that are not there stand for the fill value, but only where the store is there.
            self._placed.check_there()
        kept = None if self._beside is None else self._beside.read(start, stop)
        return Block(x if self._packing is None else self._packing.unpack(x), None, start, kept)

    def _may_be_absent(self, x: npt.NDArray[Any], start: int) -> bool:
        """Whether the first value of a chunk is the one that stands in all of a chunk that is not stored."""
        array = self.array
        chunk_rows, chunk_columns = array.chunks if array.shards is None else array.shards
        places = np.unique([0, *range(-start % chunk_rows, len(x), chunk_rows)])
        corners = x[places, ::chunk_columns]
        fill = 0 if array.fill_value is None else array.fill_value
        return bool(((corners == fill) | ((corners != corners) & (fill != fill))).any())

    def _damaged(self, start: int, stop: int) -> str:
        """Say which chunk of some rows can't be decoded."""
        chunk_rows = self.array.chunks[0]
        for first in range(start // chunk_rows * chunk_rows, stop, chunk_rows):
            try:
                self.array[first : first + chunk_rows]
            except Exception as of_chunk:
                last = min(first + chunk_rows, self.array.shape[0]) - 1
                number = first // (self.array.shards or self.array.chunks)[0]
                kind = "chunk" if self.array.shards is None else "shard"
                what = f"rows {first} to {last} can't be read, {kind} {number} is damaged"
                return f"{what}: {str(of_chunk) or type(of_chunk).__name__}"
        return f"rows {start} to {stop - 1} could not be read, each of their chunks can: try again"


def _waiting(filesystem: Any) -> Any:
    """Return the same file system for calls that wait for their answer: Zarr's are asynchronous."""
    inner = getattr(filesystem, "sync_fs", None)
    if inner is not None:
        return inner
    return type(filesystem)(**{k: v for k, v in filesystem.storage_options.items() if k != "asynchronous"})


def _local_path(array: zarr.Array[Any]) -> str | None:
    """Return where an array's files are, if they are on this machine."""
    root = getattr(array.store, "root", None)
    if root is not None:
        return str(Path(root).absolute() / array.path)
    # A store in one file, a ZIP archive.
    path = getattr(array.store, "path", None)
    return str(path.absolute()) if isinstance(path, Path) and path.is_file() else None


def open_zarr(path: str, *, keep: Sequence[str] | str = (), memory_limit: int | None = None) -> ZarrRows:
    """Open the array at a path: a store that is one array, an array inside a group, or a group with one 2-D array."""
    import zarr

    def opened() -> Any:
        zipped = "://" not in path and path.endswith(".zip") and Path(path).is_file()
        return zarr.open(zarr.storage.ZipStore(path, mode="r") if zipped else location(path), mode="r")

    try:
        node = Retries.configured().call(
            opened, may_pass=lambda error: not isinstance(error, (*_NOT_ZARR, MemoryError))
        )
    except MemoryError:
        raise
    except Exception as error:  # those of the object stores' libraries among them
        raise RowsError(f"{path} can't be opened as a Zarr array: {error}") from error
    if isinstance(node, zarr.Array):
        return ZarrRows(node, description=path, path=path, opened=path, keep=keep, memory_limit=memory_limit)

    def place(name: str) -> str:
        return f"{path.rstrip('/')}/{name}"

    name, array = find_matrix(node, path, place)
    inside = place(name)
    # An archive is one file, whatever is in it.
    file = path if type(array.store).__name__ == "ZipStore" else inside
    return ZarrRows(array, description=inside, path=file, opened=path, keep=keep, memory_limit=memory_limit)


def open_group(group: zarr.Group, *, keep: Sequence[str] | str = (), memory_limit: int | None = None) -> ZarrRows:
    """Return the rows of the one array with two dimensions in a group that is open."""
    name, array = find_matrix(group, "X", lambda name: f"X[{name!r}]")
    return ZarrRows(array, description=f"the Zarr array {array.path or name}", keep=keep, memory_limit=memory_limit)
