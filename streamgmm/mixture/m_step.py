"""The M-step: from sufficient statistics to parameters, centrally, in the frame's coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.families import CovarianceFamily
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.regularization import Regularization
from streamgmm.mixture.statistics import SufficientStatistics

#: Smallest mixing proportion: the logarithm of a weight is always finite.
SMALLEST_WEIGHT = 1e-300


@dataclass(frozen=True)
class Moments:
    """Weights, means and covariances as an M-step gives them; the covariances may be singular still."""

    weights: Floats
    means: Floats
    covariances: Floats


def moments(family: CovarianceFamily, statistics: SufficientStatistics, regularization: Regularization) -> Moments:
    """Compute the maximiser of the expected (penalised) log-likelihood, without factoring its covariances."""
    n_k = statistics.component_weights
    means = statistics.shift + statistics.offsets()
    scatters = family.scatters(statistics)
    if family.shared:
        strength = regularization.strength * len(n_k)
        rows = np.asarray(n_k.sum())
    else:
        strength = regularization.strength
        rows = n_k.reshape((-1,) + (1,) * (scatters.ndim - 1))
    # A component without rows, and without a penalty, is left with what is added; `fitting.degeneracy` deals with it.
    divisor = np.maximum(rows + strength, np.finfo(np.float64).tiny)
    covariances = (scatters + strength * regularization.target) / divisor + regularization.added
    # Never quite zero, so that its logarithm is finite.
    weights = np.maximum(n_k / n_k.sum(), SMALLEST_WEIGHT)
    return Moments(weights, means, covariances)


def factored(family: CovarianceFamily, found: Moments) -> MixtureParameters:
    """Turn an M-step's moments into parameters.

    Raises
    ------
    SingularCovarianceError
        If a covariance is not positive definite.
    """
    return MixtureParameters.from_covariances(family.name, found.weights, found.means, found.covariances)
