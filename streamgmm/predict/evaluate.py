"""What a mixture says of rows: labels, responsibilities, densities; as an array, lazily, or summed up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.execution.passes import fill_from_rows, map_rows, run_pass
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.scores import Scorer
from streamgmm.sources.base import Block, BlockFunction, Provenance, Rows

if TYPE_CHECKING:
    import dask.array as da

#: What can be predicted, and the dtype of the result.
KINDS: dict[str, type] = {"labels": np.int64, "proba": np.float64, "log_density": np.float64}
#: By which name a scorer knows it.
_SCORE_OF = {"labels": "label", "proba": "responsibilities", "log_density": "log_density"}


@dataclass(frozen=True)
class Predict:
    """A block function that evaluates a mixture at blocks of rows.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    missing : str
        "raise", or "drop": a row with a missing value gets the label -1, or NaN.
    provenance : Provenance
        For the error where a value is missing.
    clusters : tuple of int, or None
        The cluster of each component, where these are what to predict.
    """

    kind: str
    missing: str
    provenance: Provenance
    clusters: tuple[int, ...] | None = None

    @property
    def scorer(self) -> Scorer:
        """What evaluates the mixture."""
        return Scorer((_SCORE_OF[self.kind],), self.missing, self.provenance, self.clusters)

    @property
    def of(self) -> str:
        """What labels and probabilities are of."""
        return self.scorer.of

    @property
    def dtype(self) -> type:
        """The dtype of the result."""
        return KINDS[self.kind]

    def count_columns(self, parameters: MixtureParameters) -> int | None:
        """Return how many columns the result has; None for a vector."""
        return self.scorer.count_labels(parameters.n_components) if self.kind == "proba" else None

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> npt.NDArray[Any]:
        parts = [self.block(block, parameters) for block in blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def block(self, block: Block, parameters: MixtureParameters) -> npt.NDArray[Any]:
        """Evaluate at one block."""
        (found,) = self.scorer(block, parameters).values.values()
        return found.astype(self.dtype, copy=False)


def compute_rows(
    rows: Rows, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
) -> npt.NDArray[Any] | da.Array:
    """Compute something for each row: a NumPy array for rows in memory, a lazy Dask array for others."""
    compute = fill_from_rows if rows.in_memory else map_rows
    return compute(rows, function, parameters, n_columns=n_columns, dtype=dtype)


def predict(rows: Rows, function: Predict, parameters: MixtureParameters) -> npt.NDArray[Any] | da.Array:
    """Evaluate a mixture at rows."""
    n_columns = function.count_columns(parameters)
    return compute_rows(rows, function, parameters, n_columns=n_columns, dtype=function.dtype)


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
