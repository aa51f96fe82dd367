"""The M-step: from sufficient statistics to parameters, centrally, in the frame's coordinates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.families import CovarianceFamily
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.statistics import SufficientStatistics

#: Smallest mixing proportion: the logarithm of a weight is always finite.
SMALLEST_WEIGHT = 1e-300


@dataclass(frozen=True)
class Regularization:
    """What keeps covariances regular, in the frame's coordinates.

    Sigma_k = (W_k + strength I) / (N_k + strength) + added, with W_k the scatter about the mean. For tied covariances
    `strength` counts once per component.

    Attributes
    ----------
    strength : float
        2 a in the penalty a sum_k [tr(S0 Sigma_k^-1) + log|Sigma_k|] of the log-likelihood, in rows, with S0 the data's
        covariance (the identity in the frame). Chen & Tan, J. Multivariate Anal. 100 (2009), with a = 1 / sqrt(N).
    added : ndarray
        Added to every covariance, in the shape of one.
    """

    strength: float
    added: Floats

    @classmethod
    def automatic(cls, frame: Frame, sum_weight: float) -> Regularization:
        """Make the penalty of ``reg_covar="auto"``; it knows no units, and vanishes as rows are added."""
        return cls(2.0 / np.sqrt(sum_weight), frame.floor)

    @classmethod
    def additive(cls, family: CovarianceFamily, frame: Frame, reg_covar: float) -> Regularization:
        """Make scikit-learn's `reg_covar`: a number added to the diagonal, in the data's units."""
        one = reg_covar * family.identity(frame.n_features)
        return cls(0.0, family.covariances_to_frame(one, frame))

    def scaled(self, factor: float) -> Regularization:
        """Return what gives rows of `factor` times the weight the same fit."""
        return replace(self, strength=factor * self.strength)

    def penalty(self, parameters: MixtureParameters) -> float:
        """Return a sum_k [tr(Sigma_k^-1) + log|Sigma_k| - D], in nats: zero where every covariance is the data's."""
        if self.strength == 0.0:
            return 0.0
        family, n_features = parameters.family, parameters.n_features
        traces = family.traces(family.identity(n_features), parameters.precisions_cholesky, n_features)
        log_dets = -2.0 * family.log_det_precisions_cholesky(parameters.precisions_cholesky, n_features)
        times = parameters.n_components if family.shared else 1
        return float(0.5 * self.strength * times * (traces + log_dets - n_features).sum())

    def cost_of_added(self, parameters: MixtureParameters, component_weights: Floats) -> float:
        """Return 1/2 sum_k N_k tr(added Sigma_k^-1), in nats, for given N_k.

        Sigma_k = W_k / N_k + added maximises the expected log-likelihood less this: with it, a step with `added` is one
        of the minorise-maximise kind too.
        """
        if not np.any(self.added):
            return 0.0
        family = parameters.family
        traces = family.traces(self.added, parameters.precisions_cholesky, parameters.n_features)
        n_k = np.array([component_weights.sum()]) if family.shared else component_weights
        return float(0.5 * (n_k * traces).sum())


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
    identity = family.identity(means.shape[1])
    if family.shared:
        strength = regularization.strength * len(n_k)
        rows = np.asarray(n_k.sum())
    else:
        strength = regularization.strength
        rows = n_k.reshape((-1,) + (1,) * (scatters.ndim - 1))
    # A component without rows, and without a penalty, is left with what is added; `fitting.degeneracy` deals with it.
    divisor = np.maximum(rows + strength, np.finfo(np.float64).tiny)
    covariances = (scatters + strength * identity) / divisor + regularization.added
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
