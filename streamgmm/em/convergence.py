"""When to stop: on what is left to gain, not on the last change.

One EM step from theta to M(theta) raises the expected log-likelihood by
DeltaQ = sum(S (Theta(M(theta)) - Theta(theta))), found without subtracting two huge log-likelihoods. Near an optimum
EM converges linearly; with the rate rho (the ratio of successive distances to the optimum) what is left to gain at
theta is DeltaQ / (1 - rho), and DeltaQ shrinks by rho^2 from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise

import numpy as np

from streamgmm.serialization import serializable

#: Steps over which the largest rate counts: the ratio of two steps alone can be small by chance.
_STEPS = 3
#: Gains without which no rate is estimated.
_FEWEST_GAINS = 3


@serializable
class StopReason(Enum):
    """Why a fit stopped, and what to do about it.

    Attributes
    ----------
    CONVERGED
        The estimated gap to the optimum is under `tol`.
    NOISE_FLOOR
        What is left to gain is less than the rounding of the log-likelihood.
    MAX_ITER
        All `max_iter` iterations are done.
    DEGENERATE
        A component starves or has collapsed, and the fit is one that repairs none.
    STOPPED
        The callback asked for an end.
    GIVEN
        The parameters were given: there was no fit.
    """

    CONVERGED = "converged"
    NOISE_FLOOR = "rounding reached"
    MAX_ITER = "max_iter reached"
    DEGENERATE = "a component has collapsed"
    STOPPED = "stopped when asked to"
    GIVEN = "parameters were given"

    @property
    def advice(self) -> str:
        """What the user may want to do next."""
        return {
            StopReason.CONVERGED: "the estimated gap to the optimum is under tol",
            StopReason.NOISE_FLOOR: "nothing is left to gain but the rounding of the log-likelihood",
            StopReason.MAX_ITER: "raise max_iter or tol, or start better: n_init, init_params, means_init",
            StopReason.DEGENERATE: "use reg_covar='auto', fewer components, or another covariance_type",
            StopReason.STOPPED: "fit again with the same checkpoint to go on, or with more time",
            StopReason.GIVEN: "nothing was fitted",
        }[self]


def estimate_rate(gains: Sequence[float]) -> float:
    """Estimate EM's rate from the gains DeltaQ of successive steps: the largest over the last few.

    1 where nothing is known yet, and where the gains still grow. Two gains tell nothing: near a saddle the second is
    small, whatever is left to gain.
    """
    recent = gains[-(_STEPS + 1) :]
    if len(recent) < _FEWEST_GAINS:
        return 1.0
    ratios = [later / earlier if earlier > 0.0 else 0.0 for earlier, later in pairwise(recent)]
    return float(min(np.sqrt(max(0.0, *ratios)), 1.0))


def estimate_remaining_gain(gains: Sequence[float]) -> float:
    """Estimate what is left to gain, in the unit of the gains, from those of successive EM steps.

    Zero where the last step gained nothing (rounding can make its gain negative); infinity where the rate is not known.
    """
    rate = estimate_rate(gains)
    if len(gains) > 1 and gains[-1] <= 0.0:
        return 0.0
    return gains[-1] / (1.0 - rate) if rate < 1.0 else float("inf")
