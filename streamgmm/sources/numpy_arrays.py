"""NumPy arrays, in memory or mapped from a .npy file."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import DataChangedError, RowsError
from streamgmm.sources.base import Block, RandomAccessRows, check_dtype, check_two_dimensional
from streamgmm.sources.chunking import MEMORY_TASK_BYTES, choose_task_bytes, limit_task_bytes, partition_rows
from streamgmm.storage.fingerprint import digest_of_files
from streamgmm.storage.requests import unseen_error

#: Rows are cut at multiples of this, the rows of a kernel's block.
_ALIGNMENT = 256


class ArrayRows(RandomAccessRows):
    """The rows of an array in this process's memory."""

    def __init__(
        self,
        array: npt.NDArray[Any],
        *,
        feature_names: tuple[str, ...] | None = None,
        memory_limit: int | None = None,
        target_bytes: int = MEMORY_TASK_BYTES,
    ) -> None:
        self.description = "the array X"
        check_two_dimensional(array.shape, self.description)
        check_dtype(array.dtype, self.description)
        self.array = array
        self.n_rows, self.n_features = array.shape
        self.dtype, self.feature_names, self.in_memory = array.dtype, feature_names, True
        row_bytes = array.dtype.itemsize * self.n_features
        target = limit_task_bytes(target_bytes, memory_limit)
        self.ranges = partition_rows(self.n_rows, row_bytes, _ALIGNMENT, target)
        self.piece_bytes = 0  # they are there

    def read(self, start: int, stop: int) -> Iterator[Block]:
        yield Block(self.array[start:stop], None, start)


class NpyRows(RandomAccessRows):
    """The rows of a .npy file, mapped into memory by whoever reads them."""

    def __init__(self, path: str, *, memory_limit: int | None = None) -> None:
        self.description = path
        self.path = path
        array = self._open()
        check_two_dimensional(array.shape, path)
        check_dtype(array.dtype, path)
        self.n_rows, self.n_features = array.shape
        self.dtype, self.feature_names, self.in_memory = array.dtype, None, False
        row_bytes = array.dtype.itemsize * self.n_features
        target = choose_task_bytes(self.n_rows * row_bytes, memory_limit)
        self.ranges = partition_rows(self.n_rows, row_bytes, _ALIGNMENT, target)
        self.piece_bytes = max(part.stop - part.start for part in self.ranges) * row_bytes

    def _open(self) -> npt.NDArray[Any]:
        try:
            array: npt.NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError as error:
            raise unseen_error(self.path) from error
        except (ValueError, EOFError) as error:
            raise RowsError(f"{self.path} can't be read as a .npy file of numbers: {error}") from error
        return array

    def _mapped(self) -> npt.NDArray[Any]:
        array = self._open()
        if (array.shape, array.dtype) != ((self.n_rows, self.n_features), self.dtype):
            raise DataChangedError(
                f"{self.path} is not what it was when it was opened: shape {(self.n_rows, self.n_features)} of "
                f"{self.dtype} then, {array.shape} of {array.dtype} now, on {socket.gethostname()}"
            )
        return array

    def stored_version(self) -> str | None:
        return digest_of_files([self.path])

    def read(self, start: int, stop: int) -> Iterator[Block]:
        # Mapped afresh by each task: the pages of a mapping count as the process's memory until it is closed.
        yield Block(self._mapped()[start:stop], None, start)
