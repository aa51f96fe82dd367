"""The log-densities that rows had under a mixture: what is rare among them, an outlier has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.typing import Floats

#: Rows that must lie below a quantile, at least: with ten the share below it is known to about a third.
_FEWEST_BELOW = 10
#: All shares that may be kept: 20 to a decade from one in a million on, and the same from the other end.
_LOWER = 10.0 ** (np.arange(-120, -6) / 20.0)
_LEVELS = np.concatenate([_LOWER, [0.5], 1.0 - _LOWER[::-1]])


@dataclass(frozen=True, eq=False)
class Calibration:
    """Quantiles of the log-density of rows under a mixture.

    Attributes
    ----------
    n_rows : int
        Rows that they come from, by their weights: all, or a sample.
    levels : ndarray of shape (n_levels,), float64
        Shares of the rows, rising.
    log_densities : ndarray of shape (n_levels,), float64
        Nats; that share of the rows has a log-density of at most this.
    """

    n_rows: int
    levels: Floats
    log_densities: Floats

    def threshold(self, rate: float) -> float:
        """Return the log-density below which a share of the rows lies.

        Between two levels the line through them says it, over the logarithm of the share.

        Parameters
        ----------
        rate : float
            The share.

        Returns
        -------
        float
            Nats.

        Raises
        ------
        InputError
            If the rows are too few to say it.
        """
        if not 0.0 < rate < 1.0:
            raise InputError(f"rate must lie between 0 and 1, got {rate!r}")
        if not len(self.levels) or not self.levels[0] <= rate <= self.levels[-1]:
            known = f"from {self.levels[0]:.2g} to {self.levels[-1]:.6g}" if len(self.levels) else "at no rate"
            raise InputError(
                f"rate={rate:g}: the {self.n_rows:,} rows that the quantiles of the log-density come from tell these "
                f"{known}; calibrate the model with more rows (calibrate), or give a threshold"
            )
        return float(np.interp(_stretched(rate), _stretched(self.levels), self.log_densities))


def _stretched(share: Floats | float) -> Floats:
    """Return the log-odds: nearly the logarithm of a small share, or of what a large one leaves."""
    share = np.asarray(share, dtype=np.float64)
    odds: Floats = np.log(share) - np.log1p(-share)
    return odds


def calibrate(log_density: Floats, sample_weight: Floats) -> Calibration:
    """Return the quantiles of log-densities, where there are rows enough to tell them.

    Parameters
    ----------
    log_density : ndarray of shape (n,)
    sample_weight : ndarray of shape (n,)
        How many rows each stands for.
    """
    known = np.isfinite(log_density) & (sample_weight > 0.0)
    log_density, weight = log_density[known], sample_weight[known]
    # A weight is how many rows there are of the kind: equal ones may be one of the sample.
    n_rows = float(weight.sum())
    levels = _LEVELS[np.minimum(_LEVELS, 1.0 - _LEVELS) * n_rows >= _FEWEST_BELOW]
    if not len(levels):
        return Calibration(round(n_rows), levels, levels)
    values = np.quantile(log_density, levels, weights=weight, method="inverted_cdf")
    return Calibration(round(n_rows), levels, np.asarray(values, dtype=np.float64))
