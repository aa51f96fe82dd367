"""Sufficient statistics: all that leaves a task of an E-step, and they add up with `+`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamgmm.serialization import serializable
from streamgmm.typing import Floats


@serializable
@dataclass(frozen=True)
class SufficientStatistics:
    """The statistics of a set of rows under one mixture, in whitened coordinates.

    Attributes
    ----------
    sums : ndarray of shape (n_components, F), float64
        sum over rows of w * outer(resp, phi): N_k in column 0, then the weighted sums and the weighted products in the
        order of the family's features phi(z - shift_k).
    shift : ndarray of shape (n_components, n_features), float64
        The points about which the moments were taken: zero in the fast kernel, the means in the centered one.
    log_likelihood : float
        sum of w * logsumexp(logits), in nats. For tied covariances without `scatter` the logits leave out the
        quadratic term that all components share.
    sum_weight : float
        Sum of the row weights.
    n_missing : int
        Rows with a weight and a missing value; they are in no sum.
    first_missing : int
        Index in the whole data of the first of them, -1 where there is none.
    scatter : ndarray of shape (n_features, n_features), float64, or None
        sum over rows and components of w * resp * outer(z - shift_k, z - shift_k); tied covariances only.
    """

    sums: Floats
    shift: Floats
    log_likelihood: float
    sum_weight: float
    n_missing: int = 0
    first_missing: int = -1
    scatter: Floats | None = None

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Return the statistics of both sets of rows together (`self`'s rows come first)."""
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        if (self.scatter is None) != (other.scatter is None):
            raise ValueError("statistics with a scatter and without one can't be added")
        scatter = None if self.scatter is None or other.scatter is None else self.scatter + other.scatter
        return SufficientStatistics(
            sums=self.sums + other.sums,
            shift=self.shift,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            sum_weight=self.sum_weight + other.sum_weight,
            n_missing=self.n_missing + other.n_missing,
            first_missing=self.first_missing if self.first_missing >= 0 else other.first_missing,
            scatter=scatter,
        )

    def scaled(self, factor: float) -> SufficientStatistics:
        """Return the statistics of the rows with their weights multiplied by `factor`."""
        return replace(
            self,
            sums=factor * self.sums,
            log_likelihood=factor * self.log_likelihood,
            sum_weight=factor * self.sum_weight,
            scatter=None if self.scatter is None else factor * self.scatter,
        )

    @property
    def component_weights(self) -> Floats:
        """N_k, the weight of the rows that each component answers for: shape (n_components,)."""
        return self.sums[:, 0]

    def offsets(self) -> Floats:
        """Each component's mean relative to its shift: shape (n_components, n_features).

        A component without any rows keeps its shift.
        """
        n_features = self.shift.shape[1]
        n_k = np.maximum(self.component_weights, np.finfo(np.float64).tiny)
        return self.sums[:, 1 : 1 + n_features] / n_k[:, np.newaxis]
