"""Where scores go: one row for each row of the data, next to the columns that are kept of it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.predict.scores import ScoreColumn
from streamgmm.sources.kept import Kept, KeptLayout
from streamgmm.storage.outputs import check_output
from streamgmm.storage.urls import check_url

#: Bytes of a chunk of an array, and of the results that are computed at once, at most.
CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Piece:
    """Results for some rows, and what goes with these.

    Attributes
    ----------
    scores : mapping of ndarray
    kept : Kept or None
    n_rows : int
    """

    scores: Mapping[str, npt.NDArray[Any]]
    kept: Kept | None
    n_rows: int


@dataclass(frozen=True)
class Options:
    """How results are stored.

    Attributes
    ----------
    compression : str or None
        None for what is usual.
    row_group_rows : int or None
        Rows of a row group of Parquet; None for as many as 32 MB hold, a million at most.
    partition_by : tuple of str
        Columns whose values become folders.
    prefix : str
        What the names of results begin with.
    """

    compression: str | None = None
    row_group_rows: int | None = None
    partition_by: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class ScoreOutput(ABC):
    """A place for results.

    Attributes
    ----------
    path : str
        Where the data are written: a folder.
    name : str
        What errors call it.
    scores : mapping of ScoreColumn
    kept : KeptLayout or None
    options : Options
    job : str
        What the output says it was made by: a fingerprint, "" where that can't be told.
    row_dimension : str or None
        What the source calls the dimension of the rows.
    """

    path: str
    name: str
    scores: Mapping[str, ScoreColumn]
    kept: KeptLayout | None
    options: Options
    job: str = ""
    row_dimension: str | None = None

    def __post_init__(self) -> None:
        columns = self.scores.values()
        names = {self.options.prefix + name for column in columns for name in (column.name, *column.names)}
        for name in () if self.kept is None else self.kept.names:
            if name in names:
                raise InputError(
                    f"keep: the column {name!r} has the name of a result; leave it out, or give the results other "
                    "names with prefix="
                )
        self.check()

    @staticmethod
    @abstractmethod
    def check_options(options: Options, keep: Sequence[Hashable] | str) -> None:
        """Raise InputError where an option can't be had here, whatever the rows are."""

    @abstractmethod
    def check(self) -> None:
        """Raise InputError where a column that is kept can't be stored here."""

    @abstractmethod
    def find_job(self) -> str | None:
        """Return what an output that is there says it was made by; None where it does not say, or is something else."""

    @abstractmethod
    def create(self, n_rows: int | None, part_rows: int) -> None:
        """Create the empty output.

        Parameters
        ----------
        n_rows : int or None
            None where that is not known; see `needs_lengths`.
        part_rows : int
            Rows of the first part.
        """

    @abstractmethod
    def write(self, part: str, start: int, pieces: Iterable[Piece], said: Callable[[], Mapping[str, int]]) -> None:
        """Write the results of one part as they come; parts are written at once, by any process.

        Parameters
        ----------
        part : str
            What the part is called: such names sort in the order of the rows.
        start : int
            Its first row.
        pieces : iterable of Piece
        said : callable
            Returns what there is to say of the part, once all pieces have been taken.
        """

    @abstractmethod
    def complete(self, parts: Sequence[tuple[int, int]], said: Mapping[str, int]) -> None:
        """Do what is to be done when all parts are written.

        Parameters
        ----------
        parts : sequence of (int, int)
            The first row of each part, and its number of rows, in their order.
        said : mapping of str to int
            What there is to say of them all; `find_said` finds it again.
        """

    @abstractmethod
    def find_said(self) -> dict[str, int]:
        """Return what an output that is there says of its rows; nothing where it does not."""

    #: Whether the number of the rows, and where each part begins, must be known before they are written.
    needs_lengths: ClassVar[bool] = False

    @property
    def piece_rows(self) -> int:
        """Rows whose results are worth computing at once."""
        return max(1, CHUNK_BYTES // max(column.row_bytes for column in self.scores.values()))


def check_output_place(path: str | os.PathLike[str], *, overwrite: bool) -> None:
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
    _kind_of(os.fspath(path))
    check_output(path, overwrite=overwrite, is_folder=True)


def parse_said(said: Any) -> dict[str, int]:
    """Return what an output says of its rows, from what stands there; nothing where that is something else."""
    if not isinstance(said, dict) or not all(type(value) is int for value in said.values()):
        return {}
    return dict(said)


def check_options(path: str, options: Options, keep: Sequence[Hashable] | str) -> None:
    """Raise InputError where an option can't be had at a path, by its suffix, whatever the rows are."""
    if options.row_group_rows is not None and options.row_group_rows < 1:
        raise InputError(f"row_group_rows must be 1 or more; got {options.row_group_rows}")
    if not isinstance(options.prefix, str) or "\0" in options.prefix:
        raise InputError(f"prefix must be a text that names can begin with; got {options.prefix!r}")
    _kind_of(path).check_options(options, keep)


def open_output(
    path: str | os.PathLike[str], scores: Mapping[str, ScoreColumn], kept: KeptLayout | None, options: Options
) -> ScoreOutput:
    """Return the output for a path that `check_output_place` has let pass, by its suffix.

    Raises
    ------
    InputError
        If an option, or a column that is kept, can't be stored there.
    """
    name = os.fspath(path)
    return _kind_of(name)(name, name, scores, kept, options)


def _kind_of(path: str) -> type[ScoreOutput]:
    check_url(path)
    if Path(path).suffix == ".parquet":
        from streamgmm.predict.parquet_output import ParquetOutput

        return ParquetOutput
    if Path(path).suffix == ".zarr":
        from streamgmm.predict.zarr_output import ZarrOutput

        return ZarrOutput
    raise InputError(f"the name of the output must end in .zarr or .parquet; got {path}")
