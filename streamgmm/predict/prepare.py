"""What is to be done to write scores: all that can be checked of it before a row is read, and whether it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from streamgmm._version import __version__
from streamgmm.exceptions import InputError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.outputs import Options, ScoreOutput, check_options, check_output_place, open_output
from streamgmm.predict.scores import Scorer, check_float_type, check_scores
from streamgmm.sources.base import Rows
from streamgmm.storage.fingerprint import digest
from streamgmm.storage.outputs import exists_error, output_exists
from streamgmm.storage.places import InUse, check_apart, find_places
from streamgmm.storage.staging import clear_staging, is_being_published

if TYPE_CHECKING:
    from streamgmm.estimators.gaussian_mixture import GaussianMixture

_IF_EXISTS = ("fail", "skip", "replace")


@dataclass(frozen=True)
class Written:
    """What was written.

    Parameters
    ----------
    output : str
        Where it is.
    n_rows : int
        Rows of the output.
    n_missing : int
        Rows among them with a missing value, which have no scores.
    n_outliers : int or None
        Rows that are outliers; None where that was not asked for.
    n_parts : int
        Parts that the rows were written in.
    n_resumed : int
        Parts that an earlier run had completed before it was stopped.
    skipped : bool
        Whether the output was there already, and nothing was done. The numbers of rows are those that it says; zero
        where it is another's (``if_exists="skip"``).
    """

    output: str
    n_rows: int = 0
    n_missing: int = 0
    n_outliers: int | None = None
    n_parts: int = 0
    n_resumed: int = 0
    skipped: bool = False


@dataclass(frozen=True)
class Prepared:
    """What is to be scored, how, and where to.

    Attributes
    ----------
    rows : Rows
    scorer : Scorer
    parameters : MixtureParameters
    target : ScoreOutput
    replaces : bool
        Whether it takes the place of what is there.
    """

    rows: Rows
    scorer: Scorer
    parameters: MixtureParameters
    target: ScoreOutput
    replaces: bool


def prepare_predictions(
    model: GaussianMixture,
    source: Any,
    output: str | os.PathLike[str],
    *,
    write: Sequence[str] | str,
    keep: Sequence[Hashable] | str,
    columns: Sequence[str] | None,
    where: str | None,
    if_exists: str,
    overwrite: bool = False,
    outlier_rate: float | None,
    outlier_threshold: float | None,
    float_type: str,
    compression: str | None,
    row_group_rows: int | None,
    partition_by: Sequence[str],
    prefix: str,
) -> Prepared | Written:
    """Check what `streamgmm.write_predictions` was given, and open the rows; `Written` where nothing is to be done.

    Raises
    ------
    InputError, OutputExistsError, OutputError
        As `streamgmm.write_predictions` does.
    """
    names = check_scores(write)
    if if_exists not in _IF_EXISTS:
        raise InputError(f"if_exists must be one of {', '.join(map(repr, _IF_EXISTS))}; got {if_exists!r}")
    check_float_type(float_type)
    name = os.fspath(output)
    folders = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
    options = Options(compression, row_group_rows, folders, prefix)
    check_options(name, options, keep)
    parameters = model._parameters()
    threshold = model._threshold_for(names, outlier_rate, outlier_threshold)
    check_apart(name, InUse("the rows", find_places(source)), *model._places_in_use())
    replaces = overwrite or if_exists == "replace"
    check_output_place(name, overwrite=True)
    # In an object store objects come one by one: what is there in part is none yet.
    in_part = is_being_published(name)
    exists = output_exists(name, is_folder=True) and not in_part
    if exists and if_exists == "skip" and not overwrite:
        return Written(name, skipped=True)
    if type(source).__module__.startswith("xarray."):
        raise InputError(
            "source is of xarray: model.predict(source) gives a DataArray on its grid, which writes itself, "
            ".to_zarr(...)"
        )
    rows = model._open(source, columns=columns, keep=keep, where=where)
    scorer = Scorer(names, model.missing, rows.provenance, model._clusters(), threshold, float_type)
    target = open_output(name, scorer.columns(parameters.n_components), rows.kept, options)
    job = None if rows.in_memory else _fingerprint(rows, parameters, scorer, target)
    target = replace(target, job=job or "", row_dimension=rows.row_dimension)
    if exists and not replaces:
        if job is None or target.find_job() != job:
            raise exists_error(name)
        clear_staging(name)
        said = target.find_said()
        n_outliers = said.get("n_outliers") if "outlier" in names else None
        return Written(name, said.get("n_rows", 0), said.get("n_missing", 0), n_outliers, skipped=True)
    return Prepared(rows, scorer, parameters, target, replaces or in_part)


def _fingerprint(rows: Rows, parameters: MixtureParameters, scorer: Scorer, target: ScoreOutput) -> str:
    """Return what tells one output from others, to the last byte."""
    import pyarrow
    import zarr

    said = {
        "rows": rows.fingerprint(),
        "kept": repr(rows.kept),
        "scores": [*scorer.write, scorer.missing, scorer.clusters, scorer.threshold, scorer.float_type],
        "options": asdict(target.options),
        "output": type(target).__name__,
        "versions": [__version__, pyarrow.__version__, zarr.__version__],
    }
    arrays = (parameters.weights, parameters.means, parameters.covariances, parameters.precisions_cholesky)
    return digest([json.dumps(said, sort_keys=True), *(array.tobytes() for array in arrays)])
