"""One pass of EM over rows, for any number of models: the rows are read once and computed for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from streamgmm.execution.malloc import freed_memory_kept
from streamgmm.execution.passes import Parts, PassCost, run_here, run_measured_pass
from streamgmm.gaussian.e_step import PassModel, e_step
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.serialization import serializable
from streamgmm.sources.base import Block, Rows
from streamgmm.sources.numpy_arrays import ArrayRows
from streamgmm.typing import Floats

#: Bytes of rows in memory that one task computes: a fourth of all, so that samples too keep some cores busy, but
#: not less than is worth a thread's waking up.
_MOST_TASK_BYTES, _FEWEST_TASK_BYTES = 4 * 2**20, 2 * 2**20


@serializable
@dataclass(frozen=True)
class UnlikelyRows:
    """The rows that a model explains worst, a bounded number; adds up with `+`.

    Attributes
    ----------
    x : ndarray of shape (n, n_features), float64
    weight, log_prob : ndarray of shape (n,), float64
        Weights, and log-densities in whitened coordinates.
    n_most : int
        The bound.
    """

    x: Floats
    weight: Floats
    log_prob: Floats
    n_most: int

    def __add__(self, other: UnlikelyRows) -> UnlikelyRows:
        x, weight, log_prob = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("x", "weight", "log_prob")
        )
        order = np.argsort(log_prob, kind="stable")[: self.n_most]
        return UnlikelyRows(x[order], weight[order], log_prob[order], self.n_most)

    @classmethod
    def of_block(cls, block: Block, log_prob: Floats, n_most: int) -> UnlikelyRows:
        """Return those of one block."""
        order = np.argsort(log_prob, kind="stable")[:n_most]
        order = order[np.isfinite(log_prob[order])]
        weight = np.ones(len(order)) if block.sample_weight is None else block.sample_weight[order].astype(np.float64)
        return cls(np.asarray(block.x[order], dtype=np.float64), weight, log_prob[order], n_most)


@serializable
@dataclass(frozen=True)
class PassOutcome:
    """What a pass gives for several models; adds up with `+`.

    Attributes
    ----------
    statistics : tuple of SufficientStatistics
        Of each model.
    task_log_likelihoods : ndarray of shape (n_tasks, n_models), float64
        sum w log p(z) of each task's rows under each model, nats.
    task_weights : ndarray of shape (n_tasks,), float64
        Sum of the weights of each task's rows.
    unlikely : UnlikelyRows or None
        Those of the first model, where it asked for them.
    """

    statistics: tuple[SufficientStatistics, ...]
    task_log_likelihoods: Floats
    task_weights: Floats
    unlikely: UnlikelyRows | None

    def __add__(self, other: PassOutcome) -> PassOutcome:
        return PassOutcome(
            tuple(a + b for a, b in zip(self.statistics, other.statistics, strict=True)),
            np.concatenate([self.task_log_likelihoods, other.task_log_likelihoods]),
            np.concatenate([self.task_weights, other.task_weights]),
            None if self.unlikely is None or other.unlikely is None else self.unlikely + other.unlikely,
        )


@dataclass(frozen=True)
class EStepFunction:
    """The leaf of an EM pass: the statistics of a task's blocks under each of some models."""

    def __call__(self, blocks: Iterable[Block], models: tuple[PassModel, ...]) -> PassOutcome:
        # Statistics are small: what one block frees is there for the next. (A survey keeps rows among what it frees.)
        with freed_memory_kept():
            return self._outcome(blocks, models)

    def _outcome(self, blocks: Iterable[Block], models: tuple[PassModel, ...]) -> PassOutcome:
        totals: list[SufficientStatistics] = []
        unlikely: UnlikelyRows | None = None
        n_unlikely = models[0].n_unlikely
        for block in blocks:
            log_prob = np.empty(len(block.x)) if n_unlikely else None
            found = [
                e_step(block.x, block.sample_weight, model, log_prob if number == 0 else None)
                for number, model in enumerate(models)
            ]
            if log_prob is not None:
                kept = UnlikelyRows.of_block(block, log_prob, n_unlikely)
                unlikely = kept if unlikely is None else unlikely + kept
            if found[0].first_missing >= 0:
                found = [replace(one, first_missing=block.start + one.first_missing) for one in found]
            totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
        if not totals:
            raise RuntimeError("a task had no rows")
        return PassOutcome(
            tuple(totals),
            np.array([[one.log_likelihood for one in totals]]),
            np.array([totals[0].sum_weight]),
            unlikely,
        )


def read_models(rows: Rows, models: tuple[PassModel, ...], parts: Parts | None = None) -> tuple[PassOutcome, PassCost]:
    """Read all rows once for some models."""
    outcome, cost = run_measured_pass(rows, EStepFunction(), models, parts, small=True)
    return outcome, cost


@serializable
@dataclass(frozen=True)
class RowsInMemory:
    """Some rows with their weights, whose E-steps are computed here and now.

    Attributes
    ----------
    x : ndarray of shape (n, n_features), float64
        In the data's coordinates.
    weight : ndarray of shape (n,), float64
    """

    x: Floats
    weight: Floats

    def __len__(self) -> int:
        return len(self.x)

    @property
    def sum_weight(self) -> float:
        """Sum of the weights."""
        return float(self.weight.sum())

    def first(self, n: int) -> RowsInMemory:
        """Return the first n rows."""
        return self if n >= len(self) else RowsInMemory(self.x[:n], self.weight[:n])

    def whiten(self, whitening: Whitening) -> Floats:
        """Return the rows in whitened coordinates."""
        return whitening.whiten(self.x)

    def as_rows(self) -> ArrayRows:
        """Return the rows as a source."""
        target = max(_FEWEST_TASK_BYTES, min(_MOST_TASK_BYTES, self.x.nbytes // 4))
        rows = ArrayRows(self.x, target_bytes=target)
        if not (self.weight == 1.0).all():
            rows.sample_weight = self.weight
        return rows

    def read(self, model: PassModel) -> SufficientStatistics:
        """Do an E-step."""
        outcome = cast(PassOutcome, run_here(self.as_rows(), EStepFunction(), (model,)))
        return outcome.statistics[0]
