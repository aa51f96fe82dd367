"""When to stop: on what is left to gain, not on the last change.

One EM step from theta to M(theta) raises the expected log-likelihood by DeltaQ = sum(S (Theta(M(theta)) - Theta(theta))),
found without subtracting two huge log-likelihoods. Near an optimum EM converges linearly; with the rate rho (the ratio
of successive distances to the optimum) what is left to gain at theta is DeltaQ / (1 - rho), and DeltaQ shrinks by rho^2
from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

#: Steps over which the largest rate counts: the ratio of two steps alone can be small by chance.
_STEPS = 3
_HIGHEST_RATE = 1.0 - 1e-6


class StopReason(Enum):
    """Why a fit stopped, and what to do about it."""

    CONVERGED = "converged"
    MAX_ITER = "max_iter reached"

    @property
    def advice(self) -> str:
        """What the user may want to do next."""
        if self is StopReason.CONVERGED:
            return "the estimated gap to the optimum is under tol"
        return "raise max_iter or tol, or start better: n_init, init_params, means_init"


def convergence_rate(gains: Sequence[float]) -> float:
    """Estimate EM's rate from the gains DeltaQ of successive steps; 1 - 1e-6 at most, and that where nothing is known."""
    recent = [g for g in gains if np.isfinite(g)][-(_STEPS + 1) :]
    if len(recent) < 2:
        return _HIGHEST_RATE
    ratios = [b / a if a > 0.0 else 0.0 for a, b in zip(recent[:-1], recent[1:], strict=True)]
    return float(min(np.sqrt(max(0.0, *ratios)), _HIGHEST_RATE))


def remaining_gain(gains: Sequence[float]) -> float:
    """Estimate what is left to gain, in the unit of the gains, from those of successive EM steps.

    Infinity before the second step. Zero where the last step gained nothing (rounding can make its gain negative).
    """
    if len(gains) < 2:
        return float("inf")
    return max(gains[-1], 0.0) / (1.0 - convergence_rate(gains))
