"""Zarr arrays, given as such or by the path of a store: formats 2 and 3, sharded or not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.retries import Retries
from streamgmm.rows.ahead import read_ahead
from streamgmm.rows.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.rows.cut import PIECE_BYTES, STORED_TASK_BYTES, check_piece, cut, fits, stored_task_bytes, task_bytes
from streamgmm.rows.fingerprint import described_files, digest, digest_of_files
from streamgmm.rows.reading import Reading

if TYPE_CHECKING:
    import zarr

#: What is raised for a place that holds no array.
_NOT_ZARR = (FileNotFoundError, KeyError, ValueError, NotImplementedError)


class _StoredArray:
    """An array, and the URL that was opened to find it, where one was.

    A file system that Zarr has opened has with it the secrets that fsspec found here, in a configuration file or in
    variables. Workers are sent the URL, and what the array is. They open it when they read, without a request for what
    it is, and find secrets where they are; a scheduler, which unpacks tasks too, opens nothing.
    """

    def __init__(self, array: zarr.Array[Any], url: str | None) -> None:
        self.array, self._url = array, url

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url is None:
            return type(self), (self.array, None)
        return _UnopenedArray, (self._url, self.array.store_path.path, self.array.metadata)


class _UnopenedArray:
    """What `_StoredArray` is for workers."""

    def __init__(self, url: str, path: str, metadata: Any) -> None:
        self._url, self._path, self._metadata = url, path, metadata

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._url, self._path, self._metadata)

    @cached_property
    def array(self) -> zarr.Array[Any]:
        import zarr

        store = zarr.storage.FsspecStore.from_url(self._url, read_only=True)
        return zarr.Array(zarr.AsyncArray(self._metadata, zarr.storage.StorePath(store, self._path)))


class ZarrRows(RandomAccessRows):
    """The rows of a 2-D Zarr array: one that was given as such, or found where `opened` is, with its own `path`."""

    def __init__(
        self,
        array: zarr.Array[Any],
        *,
        description: str,
        path: str | None = None,
        opened: str | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.description = description
        self._path = _local_path(array) if path is None else path
        check_two_dimensional(array.shape, description)
        check_dtype(np.dtype(array.dtype), description)
        on_workers = opened if type(array.store).__name__ == "FsspecStore" else None
        self._stored: _StoredArray | _UnopenedArray = _StoredArray(array, on_workers)
        self.n_rows, self.n_features = array.shape
        self.dtype, self.feature_names = np.dtype(array.dtype), None
        self.in_memory = type(array.store).__name__ == "MemoryStore"
        self._reading = Reading.of("" if self.in_memory else self._path)
        row_bytes = self.dtype.itemsize * self.n_features
        target = stored_task_bytes(self.n_rows * row_bytes, memory_limit)
        piece_rows = array.chunks[0]
        if array.shards is not None and array.shards[0] * row_bytes <= task_bytes(STORED_TASK_BYTES, memory_limit):
            # A shard is one object: read it once, as a whole, where a task can hold it.
            piece_rows = array.shards[0]
        self.ranges = cut(self.n_rows, row_bytes, piece_rows, target)
        #: Rows that are read with one request.
        self._piece_rows = max(1, task_bytes(PIECE_BYTES, memory_limit) // (row_bytes * piece_rows)) * piece_rows
        piece_bytes = min(self._piece_rows, self.n_rows) * row_bytes
        check_piece(piece_bytes, memory_limit, description)
        self._ahead = self._reading.remote and fits(2 * piece_bytes, memory_limit)
        self.piece_bytes = (2 if self._ahead else 1) * piece_bytes

    @property
    def array(self) -> zarr.Array[Any]:
        """The array."""
        return self._stored.array

    def stored_version(self) -> str | None:
        if self._path is not None:
            return digest_of_files([self._path])
        if self.in_memory:
            return None
        filesystem, place = getattr(self.array.store, "fs", None), getattr(self.array.store, "path", None)
        if filesystem is None or place is None:
            # Somewhere that only the array itself knows: what can be told without reading it.
            return digest([str(self.array.store_path), str(self.array.metadata)])
        return digest(described_files(_waiting(filesystem), f"{place}/{self.array.path}"))

    def read(self, start: int, stop: int) -> Iterator[Block]:
        pieces = self._pieces(start, stop)
        return read_ahead(pieces) if self._ahead else pieces

    def _pieces(self, start: int, stop: int) -> Iterator[Block]:
        while start < stop:
            end = min(stop, (start // self._piece_rows + 1) * self._piece_rows)
            yield self._piece(start, end)
            start = end

    def _piece(self, start: int, stop: int) -> Block:
        try:
            x = self._reading.call(lambda: np.asarray(self.array[start:stop]), f"rows {start} to {stop - 1}")
        except RowsError as error:
            # What decoding raises; other errors are of the store as a whole.
            damaged = isinstance(error.__cause__, (RuntimeError, ValueError))
            raise RowsError(f"{self.description}: {self._damaged(start, stop) if damaged else error}") from error
        return Block(x, None, start)

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
        return str(root / array.path)
    # A store in one file, a ZIP archive.
    path = getattr(array.store, "path", None)
    return str(path) if isinstance(path, Path) and path.is_file() else None


def open_zarr(path: str, *, memory_limit: int | None = None) -> ZarrRows:
    """Open the array at a path: a store that is one array, an array inside a group, or a group with one 2-D array."""
    import zarr

    try:
        node = Retries.configured().call(lambda: zarr.open(path, mode="r"), final=(*_NOT_ZARR, MemoryError))
    except MemoryError:
        raise
    except Exception as error:  # those of the object stores' libraries among them
        raise RowsError(f"{path} can't be opened as a Zarr array: {error}") from error
    if isinstance(node, zarr.Array):
        return ZarrRows(node, description=path, path=path, opened=path, memory_limit=memory_limit)
    arrays = {name: member for name, member in node.members(max_depth=None) if isinstance(member, zarr.Array)}
    matrices = [name for name, member in arrays.items() if member.ndim == 2]
    if len(matrices) != 1:
        found = ", ".join(f"{path.rstrip('/')}/{name} {member.shape}" for name, member in sorted(arrays.items()))
        raise RowsError(
            f"{path} is a Zarr group with {len(matrices)} two-dimensional arrays; give the path of the array to use "
            f"({found or 'it has no arrays'})"
        )
    inside = f"{path.rstrip('/')}/{matrices[0]}"
    return ZarrRows(arrays[matrices[0]], description=inside, path=inside, opened=path, memory_limit=memory_limit)
