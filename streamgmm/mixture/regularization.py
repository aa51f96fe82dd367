"""What keeps covariances regular: a penalty that draws them towards a target, or a number added to their diagonals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.families import CovarianceFamily
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.parameters import MixtureParameters


@dataclass(frozen=True)
class Regularization:
    """What keeps covariances regular, in the frame's coordinates.

    Sigma_k = (W_k + strength T) / (N_k + strength) + added, with W_k the scatter about the mean and T the target. For
    tied covariances `strength` counts once per component.

    Attributes
    ----------
    strength : float
        2 a in the penalty a sum_k [tr(T Sigma_k^-1) + log|Sigma_k|] of the log-likelihood, in rows. Chen & Tan, J.
        Multivariate Anal. 100 (2009), with a = 1 / sqrt(N).
    target : ndarray
        T, in the shape of one covariance. Chen and Tan's is the data's covariance, the identity in the frame. It widens
        clusters that are much tighter than the data, by a / N_k times the ratio of the variances; so a fit takes a
        target from within its components (`fitting.target`).
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
        frame: Frame,
        sum_weight: float,
        *,
        target: Floats | None = None,
        shortage: float = 0.0,
    ) -> Regularization:
        """Make the penalty of ``reg_covar="auto"``; it knows no units, and vanishes as rows are added.

        Parameters
        ----------
        family : CovarianceFamily
        frame : Frame
        sum_weight : float
            N.
        target : ndarray, optional
            The data's covariance where not given.
        shortage : float, default=0
            Rows that a component lacks for a covariance of its own: so many more are put in for the target.
        """
        target = family.identity(frame.n_features) if target is None else target
        return cls(2.0 / np.sqrt(sum_weight) + shortage, target, frame.floor)

    @classmethod
    def additive(cls, family: CovarianceFamily, frame: Frame, reg_covar: float) -> Regularization:
        """Make scikit-learn's `reg_covar`: a number added to the diagonal, in the data's units."""
        identity = family.identity(frame.n_features)
        return cls(0.0, identity, family.covariances_to_frame(reg_covar * identity, frame))

    @property
    def keeps_regular(self) -> bool:
        """Whether no covariance can become singular: whether there is a penalty, or a number that is added."""
        return self.strength > 0.0 or bool(np.any(self.added))

    def scaled(self, factor: float) -> Regularization:
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

    def shares(self, parameters: MixtureParameters, sum_weight: float) -> Floats:
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
