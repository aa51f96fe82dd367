"""Rows: a source of rows that is cut into tasks, and blocks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import MissingValuesError, RowsError
from streamgmm.sources.kept import Kept, KeptLayout
from streamgmm.sources.schema import FeatureSchema
from streamgmm.storage.fingerprint import digest

#: Where lengths are not known, the rows of part i are numbered from i times this.
UNKNOWN_LENGTH_STRIDE = 2**40

#: From the blocks of one task and the parameters of a pass to a value that adds up with `+`.
BlockFunction = Callable[[Iterable["Block"], Any], Any]


@dataclass(frozen=True)
class Block:
    """Some consecutive rows in memory.

    Attributes
    ----------
    x : ndarray of shape (n, n_features)
        Of any real dtype and layout.
    sample_weight : ndarray of shape (n,), or None
    start : int
        Index of the first row in the whole data; where the lengths of the parts of the data are not known, the number
        of the part times 2^40, plus the row's place in it.
    kept : Kept, or None
        What goes with the rows, where the source was opened to keep something.
    """

    x: npt.NDArray[Any]
    sample_weight: npt.NDArray[Any] | None
    start: int
    kept: Kept | None = None

    def pieces(self, n_rows: int) -> Iterator[Block]:
        """Give the rows so many at a time; a block without rows as it is."""
        for start in range(0, max(len(self.x), 1), n_rows):
            rows = slice(start, start + n_rows)
            weight = None if self.sample_weight is None else self.sample_weight[rows]
            x = self.x[rows]
            kept = None if self.kept is None else self.kept.slice(start, len(x))
            yield Block(x, weight, self.start + start, kept)

    def __sizeof__(self) -> int:
        # By which Dask weighs what its workers keep, and what it would cost to move it.
        return 64 + int(self.x.nbytes) + (0 if self.sample_weight is None else int(self.sample_weight.nbytes))


@dataclass(frozen=True)
class RowRange:
    """The rows start, ..., stop - 1 of the whole data: what one task reads."""

    start: int
    stop: int


@dataclass(frozen=True)
class Provenance:
    """What errors about a row need to name it; small enough to send with every task."""

    description: str
    n_rows: int | None
    feature_names: tuple[str, ...] | None

    def place(self, row: int) -> str:
        """Name a row by its index, or by its chunk and its place there where lengths are not known."""
        if self.n_rows is None:
            return f"row {row % UNKNOWN_LENGTH_STRIDE} of chunk {row // UNKNOWN_LENGTH_STRIDE}"
        return f"row {row}"

    def missing_values_error(
        self, row: int, feature: int | None, n_missing: int, *, of_all: bool = True
    ) -> MissingValuesError:
        """Make the error for rows with missing values; `of_all` says whether all rows were looked at."""
        where = self.place(row)
        if feature is not None:
            name = f" ({self.feature_names[feature]!r})" if self.feature_names else ""
            where += f", column {feature}{name}"
        return MissingValuesError(
            f"{self.description} has NaN or inf in {'' if of_all else 'at least '}{n_missing} row(s), the first at "
            f"{where}: clean them, or leave such rows out with missing='drop'"
        )

    def too_large_error(self, row: int, feature: int, value: float, largest: float) -> RowsError:
        """Make the error for a value whose square is no number of float64 any more."""
        name = f" ({self.feature_names[feature]!r})" if self.feature_names else ""
        return RowsError(
            f"{self.description} has {value:g} at {self.place(row)}, column {feature}{name}, which is too large to be "
            f"squared: values up to {largest:g} can be fitted. Leave such rows out, or give them NaN and use "
            "missing='drop', if it stands for no value; else divide the column by a number"
        )


class Rows(ABC):
    """A source of rows.

    Attributes
    ----------
    description : str
        What and where, as errors name it.
    n_rows : int or None
        None where only reading can tell (Dask collections of unknown lengths).
    n_features : int
    dtype : dtype
    feature_names : tuple of str, or None
    in_memory : bool
        Whether the rows are in this process's memory; its passes then run in this process.
    piece_bytes : int
        Decoded bytes of rows that a task holds at once, at most; 0 where the rows are there anyway, or the lengths of
        their parts are not known.
    memory_limit : int or None
        Bytes that a process may use for rows.
    version : str or None
        Which table the rows are of, and at which version, where it has some.
    where : str or None
        By which condition they are those that are meant.
    schema : FeatureSchema
        The columns of a table that are features and weights.
    kept : KeptLayout, or None
        What goes with the rows of each block.
    row_dimension : str, or None
        What the dimension of the rows is called, where it has a name.
    """

    description: str
    n_rows: int | None
    n_features: int
    dtype: np.dtype[Any]
    feature_names: tuple[str, ...] | None
    in_memory: bool
    piece_bytes: int
    memory_limit: int | None = None
    version: str | None = None
    where: str | None = None
    schema: FeatureSchema = FeatureSchema()
    kept: KeptLayout | None = None
    row_dimension: str | None = None

    @property
    def provenance(self) -> Provenance:
        """What errors about a row need."""
        return Provenance(self.description, self.n_rows, self.feature_names)

    @property
    @abstractmethod
    def n_tasks(self) -> int:
        """Into how many tasks the rows are cut; this comes from the data and the memory limit alone."""

    @abstractmethod
    def some_tasks(self, numbers: Sequence[int]) -> Rows:
        """Return the rows of some of the `tasks_with_rows`, one or more, as a source of their own."""

    @abstractmethod
    def task_start(self, number: int) -> int:
        """Return the index of a task's first row, as `Block` has it."""

    @abstractmethod
    def task_rows(self, number: int) -> int | None:
        """Return the number of a task's rows; None where only reading can tell."""

    def blocks(self, number: int) -> Iterator[Block]:
        """Read the rows of one task with their weights, here and now."""
        raise NotImplementedError(f"{type(self).__name__} is read by tasks of Dask alone")

    def tasks_with_rows(self) -> Sequence[int]:
        """Return the numbers of the tasks that may have rows."""
        return range(self.n_tasks)

    def stored_version(self) -> str | None:
        """Return what changes when the files do that hold the rows; None where none do."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these rows, and their cut into tasks, from others; JSON can hold it."""
        table = {} if self.version is None else {"table": self.version}
        return {
            **table,
            "rows": self.n_rows,
            "features": self.n_features,
            "dtype": str(self.dtype),
            "feature names": None if self.feature_names is None else [str(name) for name in self.feature_names],
            "tasks": self._partition_digest(),
            "content": self._content_digest(),
        }

    @abstractmethod
    def _partition_digest(self) -> str:
        """Return a digest of the cut into tasks."""

    @abstractmethod
    def _content_digest(self) -> str:
        """Return a digest of the rows themselves, or of what changes with them."""


class RandomAccessRows(Rows):
    """Rows of which any range can be read."""

    #: What each task reads, in order, without gaps.
    ranges: tuple[RowRange, ...]
    #: Weights of all rows, shape (n_rows,), or None; sources that read them from a column leave it None.
    sample_weight: npt.NDArray[Any] | None = None

    @property
    def n_tasks(self) -> int:
        return len(self.ranges)

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[Block]:
        """Read the rows start, ..., stop - 1, in blocks; blocks carry weights only where a column holds them."""

    def without_weights(self) -> RandomAccessRows:
        """Return the same rows without `sample_weight`, so that a task is sent no weights but its own."""
        if self.sample_weight is None:
            return self
        other = copy(self)
        other.sample_weight = None
        return other

    def repartition(self, ranges: tuple[RowRange, ...]) -> Self:
        """Return the same rows cut into other tasks."""
        other = copy(self)
        other.ranges = ranges
        return other

    def some_tasks(self, numbers: Sequence[int]) -> Self:
        return self.repartition(tuple(self.ranges[number] for number in numbers))

    def task_start(self, number: int) -> int:
        return self.ranges[number].start

    def task_rows(self, number: int) -> int:
        return self.ranges[number].stop - self.ranges[number].start

    def _partition_digest(self) -> str:
        return digest(f"{part.start} {part.stop}" for part in self.ranges)

    def _content_digest(self) -> str:
        version = self.stored_version()
        if version is not None:
            return digest([version, _bytes_of(self.sample_weight)])
        blocks = (block for number in range(self.n_tasks) for block in self.blocks(number))
        return digest(_bytes_of(array) for block in blocks for array in (block.x, block.sample_weight))

    def blocks(self, number: int) -> Iterator[Block]:
        part = self.ranges[number]
        weights = None if self.sample_weight is None else self.sample_weight[part.start : part.stop]
        return attach_weights(self.read(part.start, part.stop), part.start, weights)


def _bytes_of(array: npt.NDArray[Any] | None) -> bytes:
    return b"" if array is None else array.tobytes()


def attach_weights(blocks: Iterable[Block], start: int, sample_weight: npt.NDArray[Any] | None) -> Iterator[Block]:
    """Attach weights, those of the rows from `start` on, to blocks of rows."""
    for block in blocks:
        if sample_weight is None:
            yield block
        else:
            first = block.start - start
            yield replace(block, sample_weight=sample_weight[first : first + len(block.x)])


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    """Raise RowsError unless a dtype is one of real numbers or booleans."""
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise RowsError(
            f"{what} has dtype {dtype}; streamgmm needs float64, float32, float16, integers or booleans: "
            "convert it first"
        )


def check_two_dimensional(shape: tuple[int, ...], what: str) -> None:
    """Raise RowsError unless a shape is (rows, features), neither of them zero."""
    if len(shape) != 2:
        raise RowsError(
            f"{what} has {len(shape)} dimensions, shape {shape}; expected 2: (rows, features). "
            "Reshape your data: reshape(-1, 1) where it has a single feature"
        )
    if shape[0] == 0:
        raise RowsError(f"{what} has no rows (0 samples), shape {shape}; a minimum of 1 is required")
    if shape[1] == 0:
        raise RowsError(f"{what} has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")


def check_not_masked(weights: np.ma.MaskedArray[Any, Any], where: str) -> None:
    """Raise RowsError where a weight is masked: a row without a weight is not a row of any weight."""
    if np.ma.is_masked(weights):
        rows = np.flatnonzero(np.ma.getmaskarray(weights))
        raise RowsError(
            f"{where} is masked in {len(rows)} row(s), the first at row {rows[0]}: fill in the weights, with 0 for "
            "rows to leave out (sample_weight.filled(0))"
        )


def as_sample_weight(sample_weight: Any, n_rows: int) -> npt.NDArray[Any]:
    """Return row weights as an array of shape (n_rows,); their values are checked when they are read."""
    weights: npt.NDArray[Any] = np.asanyarray(sample_weight)
    if isinstance(weights, np.ma.MaskedArray):
        check_not_masked(weights, "sample_weight")
        weights = np.asarray(np.ma.getdata(weights))
    if weights.ndim == 0 and weights.dtype.kind in "fiub":
        weights = np.full(n_rows, weights)
    check_dtype(weights.dtype, "sample_weight")
    if weights.shape != (n_rows,):
        raise RowsError(f"sample_weight must have shape ({n_rows},), one weight per row; got {weights.shape}")
    return weights
