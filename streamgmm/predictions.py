"""What a mixture says of rows: labels, responsibilities, densities; as an array, lazily, summed up, or written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.mixture.e_step import evaluate
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.passes import fill_from_rows, map_rows, run_pass
from streamgmm.rows.base import Block, Provenance, RandomAccessRows, Rows
from streamgmm.rows.collections import DaskRows
from streamgmm.rows.results import ResultStore, result_store, written_whole

if TYPE_CHECKING:
    import dask.array as da

    from streamgmm.estimator import GaussianMixture

#: What can be predicted, and the dtype of the result.
KINDS: dict[str, type] = {"labels": np.int64, "proba": np.float64, "log_density": np.float64}


@dataclass(frozen=True)
class Predict:
    """A leaf that evaluates a mixture at blocks of rows.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    missing : str
        "raise", or "drop": a row with a missing value gets the label -1, or NaN.
    provenance : Provenance
        For the error where a value is missing.
    """

    kind: str
    missing: str
    provenance: Provenance

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> npt.NDArray[Any]:
        parts = [self.block(block, parameters) for block in blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def block(self, block: Block, parameters: MixtureParameters) -> npt.NDArray[Any]:
        """Evaluate at one block."""
        found = evaluate(
            block.x,
            parameters,
            log_prob=self.kind == "log_density",
            resp=self.kind == "proba",
            labels=self.kind == "labels",
        )
        if found.n_missing and self.missing == "raise":
            raise self.provenance.missing_values_error(block.start + found.first_missing, None, found.n_missing)
        return {"labels": found.labels, "proba": found.resp, "log_density": found.log_prob}[self.kind]


def n_columns_of(kind: str, parameters: MixtureParameters) -> int | None:
    """Return how many columns a kind of prediction has; None for a vector."""
    return parameters.n_components if kind == "proba" else None


def predict(rows: Rows, parameters: MixtureParameters, kind: str, *, missing: str) -> npt.NDArray[Any] | da.Array:
    """Evaluate a mixture at rows: a NumPy array for rows in memory, a lazy Dask array for others."""
    leaf = Predict(kind, missing, rows.provenance)
    n_columns, dtype = n_columns_of(kind, parameters), KINDS[kind]
    if isinstance(rows, DaskRows):
        return rows.map(leaf, parameters, n_columns=n_columns, dtype=dtype)
    if not isinstance(rows, RandomAccessRows):
        raise TypeError(f"no way to map {type(rows).__name__}")
    if rows.in_memory:
        return fill_from_rows(rows, leaf, parameters, n_columns=n_columns, dtype=dtype)
    return map_rows(rows, leaf, parameters, n_columns=n_columns, dtype=dtype)


@dataclass(frozen=True)
class LogLikelihood:
    """The log-likelihood of rows, in nats, and the sum of their weights; adds up with `+`."""

    total: float
    sum_weight: float

    def __add__(self, other: LogLikelihood) -> LogLikelihood:
        return LogLikelihood(self.total + other.total, self.sum_weight + other.sum_weight)

    @property
    def mean(self) -> float:
        """Nats per row; NaN where there are no rows."""
        return self.total / self.sum_weight if self.sum_weight > 0.0 else float("nan")


@dataclass(frozen=True)
class _Score:
    predict: Predict

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> LogLikelihood:
        total = LogLikelihood(0.0, 0.0)
        for block in blocks:
            log_prob = self.predict.block(block, parameters)
            weight = np.ones(len(log_prob)) if block.sample_weight is None else block.sample_weight
            known = ~np.isnan(log_prob) & (weight > 0.0)
            total += LogLikelihood(float(weight[known] @ log_prob[known]), float(weight[known].sum()))
        return total


def log_likelihood(rows: Rows, parameters: MixtureParameters, *, missing: str) -> LogLikelihood:
    """Sum up the log-density over all rows, in one pass, in float64."""
    result: LogLikelihood = run_pass(rows, _Score(Predict("log_density", missing, rows.provenance)), parameters)
    return result


#: The name of a result's column, or columns, by its kind.
_COLUMN = {"labels": "label", "proba": "proba", "log_density": "log_density"}


@dataclass(frozen=True)
class _Write:
    predict: Predict
    store: ResultStore

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> int:
        # One write for a task's range: the blocks of a range need not end where a chunk of the store does.
        first, *others = blocks
        parts = [self.predict.block(block, parameters) for block in (first, *others)]
        values = np.concatenate(parts)
        self.store.write(first.start, values)
        return len(values)


def write_predictions(
    model: GaussianMixture,
    source: Any,
    output: str,
    *,
    kind: str = "labels",
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> int:
    """Evaluate a fitted mixture at rows of any number, and write the results to a store.

    Parameters
    ----------
    model : GaussianMixture
        A fitted model.
    source : array, table, zarr.Array, str or path
        The rows; anything that `GaussianMixture.fit` takes but Dask collections, of which `GaussianMixture.predict`
        makes lazy arrays.
    output : str
        A name that ends in .zarr (one array, chunked along the rows) or .parquet (a folder of files whose names sort in
        the order of the rows). It appears when everything is written, and not before.
    kind : {"labels", "proba", "log_density"}, default="labels"
        int64 labels (column "label"), float64 responsibilities ("proba_0", "proba_1", ...) or float64 log-densities in
        nats ("log_density").
    columns : sequence of str, default=None
        The features of a table; those of the fit where not given.
    overwrite : bool, default=False
        Whether to replace what is there.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError
        If the kind, the source or the output can't be used.
    OutputExistsError
        If the output exists and `overwrite` is false.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> from streamgmm import GaussianMixture, write_predictions
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> model = GaussianMixture(2, random_state=0).fit(x)
    >>> folder = tempfile.mkdtemp()
    >>> write_predictions(model, x, f"{folder}/labels.zarr")
    4
    >>> labels = zarr.open_array(f"{folder}/labels.zarr")[:]
    >>> bool((labels == model.predict(x)).all())
    True
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    rows, parameters = model.open(source, columns=columns), model.parameters()
    if not isinstance(rows, RandomAccessRows) or rows.n_rows is None:
        raise InputError("source is a Dask collection: model.predict(source) gives a lazy Dask array to write")
    n_columns = n_columns_of(kind, parameters)
    named = result_store(output, _COLUMN[kind], rows.n_rows, n_columns, KINDS[kind], overwrite=overwrite)
    ranges = named.ranges(rows.ranges)
    with written_whole(named) as store:
        store.create(ranges)
        n_written: int = run_pass(
            rows.recut(ranges), _Write(Predict(kind, model.missing, rows.provenance), store), parameters
        )
    return n_written
