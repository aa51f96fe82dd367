"""Mixtures of one feature: cumulative probabilities, and the values that have them."""

from __future__ import annotations

import numpy as np
from scipy.optimize.elementwise import find_root
from scipy.special import ndtr, ndtri

from streamgmm.typing import Floats, Integers

#: Components whose share is smaller move no quantile that can be asked for.
_NO_SHARE = 1e-300


def cumulative(y: Floats, weights: Floats, means: Floats, deviations: Floats, *, upper: bool = False) -> Floats:
    """Return the probability of a value of at most y; of more than y where `upper`, which keeps its digits there.

    Parameters
    ----------
    y : ndarray of shape (n,)
    weights, means, deviations : ndarray of shape (n, K), or (K,) where they are the same for all
    upper : bool
    """
    standard = (y[:, np.newaxis] - means) / deviations
    below: Floats = (weights * ndtr(-standard if upper else standard)).sum(axis=-1)
    return below


def quantile(probability: Floats, weights: Floats, means: Floats, deviations: Floats) -> Floats:
    """Return the values below which a mixture has some probabilities, one mixture for each.

    Between the smallest and the largest of the components' own quantiles lies that of the mixture.

    Parameters
    ----------
    probability : ndarray of shape (n,)
        Between 0 and 1, without these.
    weights, means, deviations : ndarray of shape (n, K)
        NaN where a row has none.

    Returns
    -------
    ndarray of shape (n,)
    """
    own = means + deviations * ndtri(probability)[:, np.newaxis]
    counts = weights > _NO_SHARE
    low = np.where(counts, own, np.inf).min(axis=1)
    high = np.where(counts, own, -np.inf).max(axis=1)
    known = np.isfinite(low) & np.isfinite(high)
    found = np.where(low == high, low, np.nan)
    rows = np.flatnonzero(known & (low < high))
    if len(rows):
        found[rows] = _root_between(rows, low, high, probability, weights, means, deviations)
    return found


def _root_between(
    rows: Integers, low: Floats, high: Floats, probability: Floats, weights: Floats, means: Floats, deviations: Floats
) -> Floats:
    # Rounding may put an end of the bracket on the wrong side of the root by a hair, of the value or of a deviation.
    widest = np.where(weights > _NO_SHARE, deviations, 0.0).max(axis=1)
    slack = 8.0 * np.finfo(float).eps * (np.maximum(np.abs(low), np.abs(high)) + widest)[rows]

    def excess(y: Floats, row: Floats) -> Floats:
        at, p = row.astype(int), probability[row.astype(int)]
        mixture = weights[at], means[at], deviations[at]
        below, beyond = cumulative(y, *mixture) - p, (1.0 - p) - cumulative(y, *mixture, upper=True)
        found: Floats = np.where(p > 0.5, beyond, below)
        return found

    result = find_root(
        excess,
        (low[rows] - slack, high[rows] + slack),
        args=(rows.astype(float),),
        tolerances={"xrtol": 4e-16, "xatol": 0.0, "frtol": 0.0, "fatol": 0.0},
        maxiter=200,
    )
    # Where there is no root to this precision the bracket is no wider than rounding.
    middle = 0.5 * (low[rows] + high[rows])
    root: Floats = np.where(np.asarray(result.success), np.asarray(result.x), middle)
    return root
