"""Several mixtures on the same rows: mean log-densities, and differences with their standard errors, in one reading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.sources.base import Block, Provenance, Rows
from streamgmm.typing import Floats


@dataclass(frozen=True)
class Compared:
    """How mixtures explain rows.

    Attributes
    ----------
    means : list of float
        Mean log-likelihoods, nats per row.
    gains : list of float
        Their differences to the first.
    standard_errors : list of float
        Of these, from the differences of each row.
    sum_weight : float
    """

    means: list[float]
    gains: list[float]
    standard_errors: list[float]
    sum_weight: float


@dataclass(frozen=True)
class _Sums:
    """Sums over rows; adds up with `+`."""

    weight: float
    log_prob: Floats
    gain: Floats
    squared_gain: Floats

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.weight + other.weight,
            self.log_prob + other.log_prob,
            self.gain + other.gain,
            self.squared_gain + other.squared_gain,
        )


@dataclass(frozen=True)
class _Compare:
    """A block function that evaluates several mixtures."""

    missing: str
    provenance: Provenance

    def __call__(self, blocks: Iterable[Block], models: Sequence[MixtureParameters]) -> _Sums:
        total = _Sums(0.0, np.zeros(len(models)), np.zeros(len(models)), np.zeros(len(models)))
        for block in blocks:
            found = [evaluate(block.x, parameters, log_prob=True) for parameters in models]
            if found[0].n_missing and self.missing == "raise":
                raise self.provenance.missing_values_error(
                    block.start + found[0].first_missing, None, found[0].n_missing, of_all=False
                )
            log_prob = np.stack([one.log_prob for one in found])
            weight = np.ones(len(block.x)) if block.sample_weight is None else block.sample_weight
            known = ~np.isnan(log_prob).any(axis=0) & (weight > 0.0)
            log_prob, weight = log_prob[:, known], np.asarray(weight[known], dtype=np.float64)
            gain = log_prob - log_prob[0]
            total += _Sums(float(weight.sum()), log_prob @ weight, gain @ weight, gain**2 @ weight)
        return total


def compare_densities(rows: Rows, models: Sequence[MixtureParameters], *, missing: str) -> Compared:
    """Evaluate mixtures of the same features at the same rows.

    Parameters
    ----------
    rows : Rows
    models : sequence of MixtureParameters
        The first is what the others are compared with.
    missing : str
        "raise", or "drop": rows with missing values don't count.
    """
    sums: _Sums = run_pass(rows, _Compare(missing, rows.provenance), tuple(models))
    with np.errstate(invalid="ignore", divide="ignore"):
        means, gains = sums.log_prob / sums.weight, sums.gain / sums.weight
        variances = np.maximum(sums.squared_gain / sums.weight - gains**2, 0.0)
        # A weight is how many rows there are of the kind.
        errors = np.sqrt(variances / sums.weight)
    return Compared(means.tolist(), gains.tolist(), errors.tolist(), sums.weight)
