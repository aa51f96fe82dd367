"""The parameters of a mixture, in the data's coordinates or in whitened coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamgmm.gaussian.covariances import FAMILIES, CovarianceFamily
from streamgmm.gaussian.whitening import Whitening
from streamgmm.serialization import serializable
from streamgmm.typing import Floats, Integers


@serializable
@dataclass(frozen=True)
class MixtureParameters:
    """Weights, means and covariances of K components over D features.

    Attributes
    ----------
    covariance_type : str
        "full", "tied", "diag" or "spherical".
    weights : ndarray of shape (K,), float64
        Mixing proportions; they sum to 1.
    means : ndarray of shape (K, D), float64
    covariances : ndarray, float64
        Of shape (K, D, D), (D, D), (K, D) or (K,), by family.
    precisions_cholesky : ndarray, float64
        Upper-triangular U with inv(Sigma) = U U', or 1 / sd, in the shape of `covariances`.
    """

    covariance_type: str
    weights: Floats
    means: Floats
    covariances: Floats
    precisions_cholesky: Floats

    @classmethod
    def from_covariances(
        cls, covariance_type: str, weights: Floats, means: Floats, covariances: Floats
    ) -> MixtureParameters:
        """Make parameters, factoring the covariances.

        Raises
        ------
        SingularCovarianceError
            If a covariance is not positive definite.
        """
        factor = FAMILIES[covariance_type].precisions_cholesky(covariances)
        return cls(covariance_type, weights, means, covariances, factor)

    @property
    def family(self) -> CovarianceFamily:
        """The covariance family."""
        return FAMILIES[self.covariance_type]

    @property
    def n_components(self) -> int:
        """Number of components, K."""
        return len(self.weights)

    @property
    def n_features(self) -> int:
        """Number of features, D."""
        return int(self.means.shape[1])

    @property
    def n_parameters(self) -> int:
        """Number of free parameters: weights, means and covariances."""
        return count_free_parameters(self.covariance_type, self.n_components, self.n_features)

    @property
    def precisions(self) -> Floats:
        """Inverse covariances, in the shape of `covariances`."""
        return self.family.precisions(self.precisions_cholesky)

    def largest_first(self) -> MixtureParameters:
        """Return the same mixture with its components in the order of their weights, the largest first."""
        return self.select(np.argsort(-self.weights, kind="stable"))

    def select(self, components: Integers) -> MixtureParameters:
        """Return some of the components, in this order, with the weights that they have."""
        family = self.family
        return MixtureParameters(
            self.covariance_type,
            self.weights[components],
            self.means[components],
            family.select(self.covariances, components),
            family.select(self.precisions_cholesky, components),
        )

    def most_separating(self, n_features: int) -> Integers:
        """Return the features of whose variance most is between the components, in their own order."""
        center = self.weights @ self.means
        between = self.weights @ (self.means - center) ** 2
        within = self.weights @ self.variances()
        order = np.argsort(-between / (between + within), kind="stable")
        return np.sort(order[:n_features])

    def equals(self, other: MixtureParameters) -> bool:
        """Tell whether all parameters are the same to the last bit."""
        return self.covariance_type == other.covariance_type and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("weights", "means", "covariances")
        )

    def natural_parameters(self) -> Floats:
        """Return Theta, shape (K, F): the logits of a row are Theta @ phi(row)."""
        return self._natural_parameters

    @cached_property
    def _natural_parameters(self) -> Floats:
        theta = self.family.natural_parameters(self.weights, self.means, self.precisions_cholesky)
        theta.flags.writeable = False
        return theta

    def full_precisions_cholesky(self) -> Floats:
        """Return every component's U as a matrix, shape (K, D, D)."""
        return self.family.full_precisions_cholesky(self.precisions_cholesky, self.n_components, self.n_features)

    def variances(self) -> Floats:
        """Return every component's variances, shape (K, D)."""
        covariances, shape = self.covariances, (self.n_components, self.n_features)
        if self.covariance_type in ("full", "tied"):
            covariances = np.diagonal(covariances, axis1=-2, axis2=-1)
        elif self.covariance_type == "spherical":
            covariances = covariances[:, np.newaxis]
        return np.broadcast_to(covariances, shape)

    def full_covariances(self) -> Floats:
        """Return every component's covariance as a matrix, shape (K, D, D)."""
        identity = np.eye(self.n_features)
        if self.covariance_type == "full":
            return self.covariances
        if self.covariance_type == "tied":
            return np.broadcast_to(self.covariances, (self.n_components, self.n_features, self.n_features))
        variances = self.covariances.reshape(self.n_components, -1)
        return variances[:, :, np.newaxis] * identity

    def as_full(self) -> MixtureParameters:
        """Return the same mixture with a full covariance for every component."""
        return MixtureParameters(
            "full", self.weights, self.means, self.full_covariances(), self.full_precisions_cholesky()
        )

    def unwhiten(self, whitening: Whitening) -> MixtureParameters:
        """Map from whitened coordinates to the data's, with no new factorisation."""
        family = self.family
        return MixtureParameters(
            self.covariance_type,
            self.weights,
            whitening.unwhiten(self.means),
            family.unwhiten_covariances(self.covariances, whitening),
            family.unwhiten_precisions_cholesky(self.precisions_cholesky, whitening),
        )

    def whiten(self, whitening: Whitening) -> MixtureParameters:
        """Map from the data's coordinates to whitened ones, with no new factorisation."""
        family = self.family
        return MixtureParameters(
            self.covariance_type,
            self.weights,
            whitening.whiten(self.means),
            family.whiten_covariances(self.covariances, whitening),
            family.whiten_precisions_cholesky(self.precisions_cholesky, whitening),
        )

    def own_whitening(self) -> Whitening:
        """Make the whitening of the mixture's own mean and covariance, for evaluating it far from any fit."""
        center = self.weights @ self.means
        offsets = self.means - center
        if self.covariance_type in ("full", "tied"):
            within = np.einsum("k,kij->ij", self.weights, self.full_covariances())
            covariance = within + (offsets.T * self.weights) @ offsets
        else:
            covariance = self.weights @ (self.variances() + offsets**2)
        return self.family.whitening(center, covariance)


def count_free_parameters(covariance_type: str, n_components: int, n_features: int) -> int:
    """Return the number of free parameters of a mixture."""
    family = FAMILIES[covariance_type]
    return family.n_covariance_parameters(n_components, n_features) + n_components * (n_features + 1) - 1
