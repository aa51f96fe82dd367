"""Scores of any number of rows, written next to the columns that say which row each is."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import RowsError
from streamgmm.execution.passes import count_rows, run_pass
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.outputs import Piece, ScoreOutput
from streamgmm.predict.prepare import Written, prepare_predictions
from streamgmm.predict.scores import Scorer
from streamgmm.sources.base import UNKNOWN_LENGTH_STRIDE, Block
from streamgmm.storage.staging import Staging, stage_output

if TYPE_CHECKING:
    from streamgmm.estimators.gaussian_mixture import GaussianMixture


@dataclass(frozen=True)
class Counts:
    """What was counted while rows were written; adds up with `+`."""

    n_rows: int = 0
    n_missing: int = 0
    n_outliers: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class _Parts:
    """What was counted in each part, by its first row or number; adds up with `+`."""

    of_part: Mapping[int, Counts]

    def __add__(self, other: _Parts) -> _Parts:
        return _Parts({**self.of_part, **other.of_part})


@dataclass(frozen=True)
class _Write:
    """A block function that writes one part of an output, and says so.

    Attributes
    ----------
    scorer : Scorer
    output : ScoreOutput
    staging : Staging
    numbered : bool
        Whether the rows are numbered through; else by chunk.
    """

    scorer: Scorer
    output: ScoreOutput
    staging: Staging
    numbered: bool

    def name_part(self, start: int) -> int:
        """Return the number of a part: its first row, or its chunk."""
        return start if self.numbered else start // UNKNOWN_LENGTH_STRIDE

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> _Parts:
        blocks = iter(blocks)
        first = next(blocks)
        part, counts = self.name_part(first.start), Counts()

        def scored() -> Iterator[Piece]:
            nonlocal counts
            for block in chain([first], blocks):
                for piece in block.pieces(self.output.piece_rows):
                    scores = self.scorer(piece, parameters)
                    outliers = scores.values.get("outlier")
                    n_outliers = 0 if outliers is None else int(outliers.sum())
                    counts += Counts(len(piece.x), scores.n_missing, n_outliers)
                    yield Piece(scores.values, piece.kept, len(piece.x))

        # A partition of Dask may have no rows, and is no file.
        pieces = (piece for piece in scored() if piece.n_rows)
        begun = next(pieces, None)
        if begun is not None:
            self.output.write(f"{part:015d}", first.start, chain([begun], pieces), lambda: asdict(counts))
        self.staging.mark(part, asdict(counts))
        return _Parts({part: counts})


def write_predictions(
    model: GaussianMixture,
    source: Any,
    output: str | os.PathLike[str],
    *,
    write: Sequence[str] | str = ("label",),
    keep: Sequence[Hashable] | str = (),
    columns: Sequence[str] | None = None,
    where: str | None = None,
    if_exists: str = "fail",
    overwrite: bool = False,
    outlier_rate: float | None = None,
    outlier_threshold: float | None = None,
    float_type: str = "float64",
    compression: str | None = None,
    row_group_rows: int | None = None,
    partition_by: Sequence[str] = (),
    prefix: str = "",
) -> Written:
    """Score rows of any number with a fitted mixture, and write the results next to the columns that name each row.

    All results come from one reading. The order of the rows is kept: files sort in it by their names, and row groups
    and rows in them follow it. A run that is stopped is gone on with by the same call, which computes only what is
    lacking and ends with the bytes of a run that nothing stopped.

    Parameters
    ----------
    model : GaussianMixture
        A fitted model. Rows with missing values are an error, or have the label -1, NaN and False, by its `missing`.
    source : array, table, Dask collection, zarr.Array, str or path
        The rows; anything that `GaussianMixture.fit` takes but xarray's, of which `GaussianMixture.predict` makes
        arrays on their grid.
    output : str or path
        A name that ends in .parquet (a folder of files) or .zarr (a group that `xarray.open_zarr` opens, with an array
        for each result, chunked along the rows). It appears when everything is written, and not before. It must not be
        the source, lie inside it or contain it.
    write : sequence of str, default=("label",)
        Of "label" (the smallest integer that holds all labels and -1), "probability" (of the label), "log_density"
        (nats), "outlier" (bool) and "responsibilities" (columns "proba_0", "proba_1", ..., or the array "proba").
    keep : sequence of str, or "all", default=()
        Columns of a table, partition keys and names of an index among them, that are carried over with their own
        types; of a Zarr array, other arrays of its group with the same first dimension.
    columns : sequence of str, default=None
        The features of a table; those of the fit where not given.
    where : str, default=None
        Which rows of Parquet files are meant, as `GaussianMixture.fit` takes it; the others are not written.
    if_exists : {"fail", "skip", "replace"}, default="fail"
        What to do where the output exists. Where it is what this very call would write (of rows that are stored), it
        is finished, and nothing is done.
    overwrite : bool, default=False
        The same as ``if_exists="replace"``.
    outlier_rate : float, default=None
        The share of the rows of the fit that would be outliers, as `GaussianMixture.outliers` takes it.
    outlier_threshold : float, default=None
        The log-density in nats below which a row is an outlier; instead of `outlier_rate`.
    float_type : {"float64", "float32"}, default="float64"
        Of densities and probabilities; they are computed in float64.
    compression : str, default=None
        Of Parquet "snappy" (what None means), "zstd", "gzip", "lz4", "brotli" or "none"; of Zarr "zstd" (what None
        means), "gzip", "lz4" or "none".
    row_group_rows : int, default=None
        Rows of a row group of Parquet; as many as 32 MB hold, and a million at most, if None.
    partition_by : sequence of str, default=()
        Columns that are kept whose values name folders, ``date=2026-01-01/country=DE``, instead of being in the files.
    prefix : str, default=""
        What the names of the results begin with, where columns that are kept have such names.

    Returns
    -------
    Written
        Numbers of rows, of rows with missing values and of outliers.

    Raises
    ------
    InputError
        If an option, the source or the output can't be used; whether anything can be written there is tried first.
    OutputExistsError
        If another output exists and ``if_exists="fail"``.
    OutputError
        If the output can't be written: no permission, no room, no folder that it would be in.
    InUseError
        If another run is writing the same output.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> from streamgmm import GaussianMixture, write_predictions
    >>> visits = pd.DataFrame({"id": ["a", "b", "c", "d"], "minutes": [1.0, 1.5, 60.0, 61.0]})
    >>> model = GaussianMixture(2, random_state=0).fit(visits[["minutes"]])
    >>> output = f"{tempfile.mkdtemp()}/scored.parquet"
    >>> write_predictions(model, visits, output, write=["label"], keep=["id"]).n_rows
    4
    >>> scored = pd.read_parquet(output)
    >>> bool((scored.label == model.predict(visits)).all()), list(scored.id)
    (True, ['a', 'b', 'c', 'd'])
    """
    prepared = prepare_predictions(
        model,
        source,
        output,
        write=write,
        keep=keep,
        columns=columns,
        where=where,
        if_exists=if_exists,
        overwrite=overwrite,
        outlier_rate=outlier_rate,
        outlier_threshold=outlier_threshold,
        float_type=float_type,
        compression=compression,
        row_group_rows=row_group_rows,
        partition_by=partition_by,
        prefix=prefix,
    )
    if isinstance(prepared, Written):
        return prepared
    rows, scorer, target, parameters = prepared.rows, prepared.scorer, prepared.target, prepared.parameters
    name, job = target.name, target.job or None
    if rows.n_rows is None and target.needs_lengths:
        rows = count_rows(rows)
    tasks = rows.tasks_with_rows()
    if not tasks:
        raise RowsError(f"{rows.description} has no rows")
    with stage_output(name, job, overwrite=prepared.replaces) as staging:
        staged = replace(target, path=staging.data)
        if not staging.resumes:
            staged.create(rows.n_rows, rows.task_rows(tasks[0]) or 0)
            staging.begin(job or "")
        numbered = rows.n_rows is not None
        function = _Write(scorer, staged, staging, numbered)
        done = {start: Counts(**said) for start, said in staging.done.items()}
        left = [number for number in tasks if function.name_part(rows.task_start(number)) not in done]
        if left:
            done |= run_pass(rows.some_tasks(left), function, parameters).of_part
        if not any(counts.n_rows for counts in done.values()):
            raise RowsError(f"{rows.description} has no rows")
        total = sum(done.values(), Counts())
        staged.complete([(start, counts.n_rows) for start, counts in sorted(done.items())], asdict(total))
    n_outliers = total.n_outliers if "outlier" in scorer.write else None
    return Written(name, total.n_rows, total.n_missing, n_outliers, len(done), len(staging.done))
