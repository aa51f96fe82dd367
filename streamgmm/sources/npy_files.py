""".npy files that are not on this machine's file system: read by ranges, never as a whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.sources.chunking import (
    PIECE_BYTES,
    check_piece,
    choose_task_bytes,
    fits,
    limit_task_bytes,
    partition_rows,
)
from streamgmm.sources.prefetch import prefetch
from streamgmm.storage.fingerprint import digest_of_files
from streamgmm.storage.requests import ReadPolicy
from streamgmm.storage.urls import get_filesystem

#: More than any header of an array of numbers.
_HEADER_BYTES = 4096
#: Rows are cut at multiples of this, the rows of a kernel's block.
_ALIGNMENT = 256


class RemoteNpyRows(RandomAccessRows):
    """The rows of a .npy file at a URL."""

    def __init__(self, url: str, *, memory_limit: int | None = None) -> None:
        self.description = self._url = url
        self._policy = ReadPolicy.of(url)
        shape, self._columns_first, self.dtype, self._offset = self._header()
        check_two_dimensional(shape, url)
        check_dtype(self.dtype, url)
        self._n_rows, self.n_features = shape
        self.n_rows = self._n_rows
        self._check_size()
        self.feature_names, self.in_memory = None, False
        row_bytes = self.dtype.itemsize * self.n_features
        target = choose_task_bytes(self.n_rows * row_bytes, memory_limit)
        self.ranges = partition_rows(self.n_rows, row_bytes, _ALIGNMENT, target)
        self._piece_rows = max(1, min(limit_task_bytes(PIECE_BYTES, memory_limit) // row_bytes, self.n_rows))
        piece_bytes = self._piece_rows * row_bytes
        check_piece(piece_bytes, memory_limit, url)
        self._ahead = self._policy.remote and fits(2 * piece_bytes, memory_limit)
        self.piece_bytes = (2 if self._ahead else 1) * piece_bytes

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
        start = io.BytesIO(self._bytes(0, _HEADER_BYTES, "its header", exact=False))
        try:
            version = np.lib.format.read_magic(start)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = read(start)
        except (ValueError, EOFError) as error:
            raise RowsError(f"{self._url} can't be read as a .npy file of numbers: {error}") from error
        return shape, columns_first, dtype, start.tell()

    def _check_size(self) -> None:
        def request() -> int | None:
            filesystem, place = get_filesystem(self._url)
            found: int | None = filesystem.info(place).get("size")
            return found

        size = self._policy.call(request, self._url)
        needed = self._offset + self._n_rows * self.n_features * self.dtype.itemsize
        if size is not None and size < needed:
            raise RowsError(
                f"{self._url} can't be read: its header says {self._n_rows} rows of {self.n_features} features, "
                f"{needed} bytes, and it has {size}: it was not written to its end"
            )

    def _bytes(self, start: int, stop: int, what: str, *, exact: bool = True) -> bytes:
        def request() -> bytes:
            filesystem, place = get_filesystem(self._url)
            data: bytes = filesystem.cat_file(place, start=start, end=stop)
            if exact and len(data) != stop - start:
                raise OSError(f"{len(data)} bytes came instead of {stop - start}")
            return data

        return self._policy.call(request, f"{self._url}: {what}")

    def stored_version(self) -> str | None:
        return digest_of_files([self._url])

    def read(self, start: int, stop: int) -> Iterator[Block]:
        pieces = self._pieces(start, stop)
        return prefetch(pieces) if self._ahead else pieces

    def _pieces(self, start: int, stop: int) -> Iterator[Block]:
        for first in range(start, stop, self._piece_rows):
            last = min(stop, first + self._piece_rows)
            if self._columns_first:
                x = np.empty((last - first, self.n_features), dtype=self.dtype)
                for j in range(self.n_features):
                    x[:, j] = self._values(j * self._n_rows + first, last - first, first, last)
            else:
                n_values = (last - first) * self.n_features
                x = self._values(first * self.n_features, n_values, first, last).reshape(-1, self.n_features)
            yield Block(x, None, first)

    def _values(self, start: int, count: int, first: int, last: int) -> npt.NDArray[Any]:
        """Read consecutive values of the file, those of the rows first, ..., last - 1."""
        size = self.dtype.itemsize
        begin = self._offset + start * size
        data = self._bytes(begin, begin + count * size, f"rows {first} to {last - 1}")
        return np.frombuffer(data, dtype=self.dtype)
