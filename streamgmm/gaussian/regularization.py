"""What keeps covariances regular: a penalty that draws them towards a target, or a number added to their diagonals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.m_step import SMALLEST_WEIGHT, Moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.serialization import serializable
from streamgmm.typing import Floats


@serializable
@dataclass(frozen=True)
class PenalizedMStep:
    """An M-step that keeps covariances regular, in whitened coordinates.

    Sigma_k = (W_k + strength T) / (N_k + strength) + added, with W_k the scatter about the mean and T the target. For
    tied covariances `strength` counts once per component.

    Attributes
    ----------
    strength : float
        2 a in the penalty a sum_k [tr(T Sigma_k^-1) + log|Sigma_k|] of the log-likelihood, in rows. Chen & Tan, J.
        Multivariate Anal. 100 (2009), with a = 1 / sqrt(N).
    target : ndarray
        T, in the shape of one covariance. Chen and Tan's is the data's covariance, the identity in whitened
        coordinates. It widens clusters that are much tighter than the data, by a / N_k times the ratio of the
        variances; so a fit takes a target from within its components (`initialization.target`).
    added : ndarray
        Added to every covariance, in the shape of one.
    """

    strength: float
    target: Floats
    added: Floats

    @classmethod
    def automatic(
        cls,
        family: CovarianceFamily,
        whitening: Whitening,
        sum_weight: float,
        *,
        target: Floats | None = None,
        shortage: float = 0.0,
    ) -> PenalizedMStep:
        """Make the penalty of ``reg_covar="auto"``; it knows no units, and vanishes as rows are added.

        Parameters
        ----------
        family : CovarianceFamily
        whitening : Whitening
        sum_weight : float
            N.
        target : ndarray, optional
            The data's covariance where not given.
        shortage : float, default=0
            Rows that a component lacks for a covariance of its own: so many more are put in for the target.
        """
        target = family.identity(whitening.n_features) if target is None else target
        return cls(2.0 / np.sqrt(sum_weight) + shortage, target, whitening.floor)

    @classmethod
    def additive(cls, family: CovarianceFamily, whitening: Whitening, reg_covar: float) -> PenalizedMStep:
        """Make scikit-learn's `reg_covar`: a number added to the diagonal, in the data's units."""
        identity = family.identity(whitening.n_features)
        return cls(0.0, identity, family.whiten_covariances(reg_covar * identity, whitening))

    @property
    def keeps_regular(self) -> bool:
        """Whether no covariance can become singular: whether there is a penalty, or a number that is added."""
        return self.strength > 0.0 or bool(np.any(self.added))

    def maximize(self, family: CovarianceFamily, statistics: SufficientStatistics) -> Moments:
        """Compute the maximiser of the expected penalised log-likelihood, without factoring its covariances."""
        n_k = statistics.component_weights
        means = statistics.shift + statistics.offsets()
        scatters = family.scatters(statistics)
        if family.shared:
            strength = self.strength * len(n_k)
            rows = np.asarray(n_k.sum())
        else:
            strength = self.strength
            rows = n_k.reshape((-1,) + (1,) * (scatters.ndim - 1))
        # A component without rows, and without a penalty, is left with what is added; `em.degeneracy` deals with it.
        divisor = np.maximum(rows + strength, np.finfo(np.float64).tiny)
        covariances = (scatters + strength * self.target) / divisor + self.added
        # Never quite zero, so that its logarithm is finite.
        weights = np.maximum(n_k / n_k.sum(), SMALLEST_WEIGHT)
        return Moments(weights, means, covariances)

    def expected_rise(self, component_weights: Floats, old: MixtureParameters, new: MixtureParameters) -> float:
        """Return by how much an M-step has raised the expected log-likelihood less the penalty, in nats: DeltaQ.

        An M-step's moments are those of the statistics, so that DeltaQ is a sum of Kullback-Leibler divergences from
        the new to the old parameters: of the weights, and of each Gaussian as often as it has rows,

            N KL(pi' | pi) + 1/2 sum_k [N_k |U_k'(mu_k' - mu_k)|^2 + (N_k + strength) sum_j (l_kj - 1 - log l_kj)]

        with l_k the eigenvalues of U_k' Sigma_k' U_k. Every term is a square in what has changed: near an optimum the
        difference of two expected log-likelihoods, which are large where a component is tight, would be rounding.

        Parameters
        ----------
        component_weights : ndarray of shape (n_components,)
            N_k.
        old, new : MixtureParameters
            Before the M-step and after it.
        """
        family, total = old.family, float(component_weights.sum())
        change = new.weights / old.weights - 1.0
        of_weights = float((old.weights * ((1.0 + change) * np.log1p(change) - change)).sum())
        distances = (family.standardise(new.means - old.means, old.precisions_cholesky) ** 2).sum(axis=1)
        ratios = family.variance_ratios(new.covariances, old.precisions_cholesky, old.n_features)
        of_covariances = (ratios - 1.0 - np.log(ratios)).sum(axis=1)
        rows = (total if family.shared else component_weights) + self.rows_put_in(old)
        return total * of_weights + 0.5 * float(component_weights @ distances + (rows * of_covariances).sum())

    def scale(self, factor: float) -> PenalizedMStep:
        """Return what gives rows of `factor` times the weight the same fit."""
        return replace(self, strength=factor * self.strength)

    def penalty(self, parameters: MixtureParameters) -> float:
        """Return a sum_k [tr(T Sigma_k^-1) + log|Sigma_k| - log|T| - D], in nats: zero where every Sigma_k is T."""
        if self.strength == 0.0:
            return 0.0
        family, n_features = parameters.family, parameters.n_features
        traces = family.traces(self.target, parameters.precisions_cholesky, n_features)
        log_dets = -2.0 * family.log_det_precisions_cholesky(parameters.precisions_cholesky, n_features)
        constant = _log_det(self.target, n_features) + n_features
        return float(0.5 * self.rows_put_in(parameters) * (traces + log_dets - constant).sum())

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

    def rows_put_in(self, parameters: MixtureParameters) -> float:
        """Return how many rows the penalty adds to each distinct covariance."""
        return self.strength * (parameters.n_components if parameters.family.shared else 1)

    def regularized_shares(self, parameters: MixtureParameters, sum_weight: float) -> Floats:
        """Return how much of each component's variance it makes up, in the direction where that is most: shape (K,).

        Parameters
        ----------
        parameters : MixtureParameters
        sum_weight : float
            N.
        """
        family = parameters.family
        rows = sum_weight * (np.ones(1) if family.shared else parameters.weights)
        strength = self.rows_put_in(parameters)
        put_in = (strength / (rows + strength)).reshape((-1,) + (1,) * self.target.ndim) * self.target + self.added
        ratios = family.variance_ratios(put_in, parameters.precisions_cholesky, parameters.n_features)
        return np.broadcast_to(ratios.max(axis=1), parameters.n_components)


def _log_det(covariance: Floats, n_features: int) -> float:
    """Return log|Sigma| of one covariance in the shape of its family."""
    if covariance.ndim == 2:
        return float(np.linalg.slogdet(covariance)[1])
    return float(np.log(covariance).sum()) * (n_features if covariance.ndim == 0 else 1)
