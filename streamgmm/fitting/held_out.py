"""Rows that are held out of a fit: which, and their log-density under several models, summed up in the pass.

By value, a share of all different rows: equal rows are on one side, so that none is known from the fit. Where few
different values stand for many rows, holding some of these out would say nothing: there a share of the rows of each
value is held out, by a hash of a row's place, or, of rows that were made one with a weight, a binomial share of that.
Both are the same on any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamgmm.em.passes import EStepFunction, PassOutcome, RowsInMemory
from streamgmm.exceptions import InputError
from streamgmm.gaussian.e_step import PassModel, evaluate
from streamgmm.initialization.sampling import hash_index, hash_values
from streamgmm.sources.base import Block
from streamgmm.typing import Floats, Rows

#: Rows are held out by value where the effective number of different ones that this gives is as large as this, or where
#: a row stands for so few in the mean.
_FEWEST_DIFFERENT, _MOST_EQUAL = 100, 1.5
#: Fewer rows that are held out are nothing to choose by.
FEWEST_HELD_OUT = 10


@dataclass(frozen=True)
class HeldOut:
    """Log-densities of held-out rows under several models; adds up with `+`.

    A weight says how many rows a row stands for, in the standard errors too.

    Attributes
    ----------
    sum_weight : float
    totals : ndarray of shape (n_models,)
        sum w log p.
    products : ndarray of shape (n_models, n_models)
        sum w log p_i log p_j.
    """

    sum_weight: float
    totals: Floats
    products: Floats

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(self.sum_weight + other.sum_weight, self.totals + other.totals, self.products + other.products)

    @property
    def means(self) -> Floats:
        """Mean log-density under each model, nats per row; NaN without rows."""
        return self.totals / self.sum_weight if self.sum_weight > 0.0 else np.full(len(self.totals), np.nan)

    def standard_error(self, i: int, j: int | None = None) -> float:
        """Return the standard error of a model's mean, or of the difference of two models' means."""
        if not self.sum_weight > 0.0:
            return float("nan")
        contrast = np.zeros(len(self.totals))
        contrast[i] = 1.0
        if j is not None:
            contrast[j] -= 1.0
        variance = float(contrast @ self.products @ contrast) / self.sum_weight - float(contrast @ self.means) ** 2
        return float(np.sqrt(max(variance, 0.0) / self.sum_weight))


@dataclass(frozen=True)
class SelectionOutcome(PassOutcome):
    """What a pass gives for several models, and what it says of the held-out rows."""

    held_out: HeldOut

    def __add__(self, other: PassOutcome) -> SelectionOutcome:
        if not isinstance(other, SelectionOutcome):
            return NotImplemented
        both = super().__add__(other)
        return SelectionOutcome(
            both.statistics, both.task_log_likelihoods, both.task_weights, None, self.held_out + other.held_out
        )


@dataclass(frozen=True)
class Split:
    """Which rows are held out.

    Attributes
    ----------
    share : float
        Of the rows, to hold out.
    seed : int
        Of the hash.
    by_value : bool
        Whether equal rows are on one side.
    merged : bool
        Whether equal rows were made one.
    """

    share: float
    seed: int
    by_value: bool = True
    merged: bool = False

    @classmethod
    def chosen(cls, share: float, seed: int, sample: RowsInMemory, *, complete: bool) -> Split:
        """Choose how to hold out by what is in a sample: of all rows, if `complete`, with equal ones made one."""
        n_different = sample.sum_weight**2 / float((sample.weight**2).sum())
        by_value = share * n_different >= _FEWEST_DIFFERENT or sample.sum_weight <= _MOST_EQUAL * n_different
        # Another seed than the sample's: its rows are those with the smallest hashes.
        return cls(share, seed + 2**32, by_value, complete)

    def held_weight(self, x: Rows, weight: Floats, start: int) -> Floats:
        """Return how much of the weight of each row, of which `start` is the index of the first, is held out."""
        if self.share == 0.0:
            return np.zeros(len(x))
        if self.by_value or self.merged:
            keys, _ = hash_values(np.asarray(x, dtype=np.float64), self.seed)
        else:
            keys = hash_index(np.arange(start, start + len(x), dtype=np.uint64), self.seed)
        if self.by_value:
            return np.where(keys < np.uint64(int(self.share * 2.0**64)), weight, 0.0)
        return _binomial(keys, weight, self.share)

    def rest_of(self, sample: RowsInMemory) -> RowsInMemory:
        """Return of a sample what is not held out, where that can be told."""
        if not (self.by_value or self.merged):
            return sample
        weight = sample.weight - self.held_weight(sample.x, sample.weight, 0)
        used = weight > 0.0
        return RowsInMemory(sample.x[used], weight[used]) if used.any() else sample


def _binomial(keys: npt.NDArray[np.uint64], weight: Floats, share: float) -> Floats:
    """Draw how many of the rows that a row stands for are held out; a fraction of a row is held out whole or not."""
    from scipy.stats import binom

    def uniform(number: int) -> Floats:
        return (hash_index(keys, number).astype(np.float64) + 0.5) / 2.0**64

    whole = np.floor(weight)
    held = np.where(whole == 1.0, uniform(1) < share, 0.0)
    several = whole > 1.0
    held[several] = binom.ppf(uniform(1)[several], whole[several], share)
    fraction = weight - whole
    return np.asarray(held + np.where(uniform(2) < share, fraction, 0.0), dtype=np.float64)


def check_enough_held_out(description: str, n_rows: float, share: float) -> None:
    """Refuse to choose by held-out rows where they are too few.

    Raises
    ------
    InputError
    """
    if share * n_rows < FEWEST_HELD_OUT:
        raise InputError(
            f"criterion='held_out' with held_out={share:g} leaves about {share * n_rows:.2g} of the {n_rows:g} rows of "
            f"{description} to compare by, fewer than {FEWEST_HELD_OUT}: hold out more, or use criterion='bic'"
        )


@dataclass(frozen=True)
class SelectionFunction:
    """The leaf of a pass: statistics of the rows to fit, log-densities of those held out."""

    split: Split

    def __call__(self, blocks: Iterable[Block], models: tuple[PassModel, ...]) -> SelectionOutcome:
        total: SelectionOutcome | None = None
        for block in blocks:
            weight = np.ones(len(block.x)) if block.sample_weight is None else block.sample_weight.astype(np.float64)
            held = self.split.held_weight(block.x, weight, block.start)
            outcome = EStepFunction()([Block(block.x, weight - held, block.start)], models)
            some = held > 0.0
            one = SelectionOutcome(
                outcome.statistics,
                outcome.task_log_likelihoods,
                outcome.task_weights,
                None,
                _held_out(block.x[some], held[some], models),
            )
            total = one if total is None else total + one
        if total is None:
            raise RuntimeError("a task had no rows")
        return total


def _held_out(x: Rows, weight: Floats, models: tuple[PassModel, ...]) -> HeldOut:
    used = np.isfinite(x).all(axis=1)
    x, weight = x[used], weight[used]
    log_prob = np.empty((len(models), len(x)))
    for row, model in zip(log_prob, models, strict=True):
        row[:] = evaluate(x, model.parameters.unwhiten(model.whitening), log_prob=True).log_prob
    return HeldOut(float(weight.sum()), log_prob @ weight, (log_prob * weight) @ log_prob.T)
