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


def expected_rise(
    component_weights: Floats, old: MixtureParameters, new: MixtureParameters, regularization: Regularization
) -> float:
    """Return by how much an M-step has raised the expected log-likelihood less the penalty, in nats: DeltaQ.

    An M-step's moments are those of the statistics, so that DeltaQ is a sum of Kullback-Leibler divergences from the
    new to the old parameters: of the weights, and of each Gaussian as often as it has rows,

        N KL(pi' | pi) + 1/2 sum_k [N_k |U_k'(mu_k' - mu_k)|^2 + (N_k + strength) sum_j (l_kj - 1 - log l_kj)]

    with l_k the eigenvalues of U_k' Sigma_k' U_k. Every term is a square in what has changed: near an optimum the
    difference of two expected log-likelihoods, which are large where a component is tight, would be rounding.

    Parameters
    ----------
    component_weights : ndarray of shape (n_components,)
        N_k.
    old, new : MixtureParameters
        Before the M-step and after it.
    regularization : Regularization
    """
    family, total = old.family, float(component_weights.sum())
    change = new.weights / old.weights - 1.0
    of_weights = float((old.weights * ((1.0 + change) * np.log1p(change) - change)).sum())
    distances = (family.standardise(new.means - old.means, old.precisions_cholesky) ** 2).sum(axis=1)
    ratios = family.variance_ratios(new.covariances, old.precisions_cholesky, old.n_features)
    of_covariances = (ratios - 1.0 - np.log(ratios)).sum(axis=1)
    rows = (total if family.shared else component_weights) + regularization.rows_put_in(old)
    return total * of_weights + 0.5 * float(component_weights @ distances + (rows * of_covariances).sum())
