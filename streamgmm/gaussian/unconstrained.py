"""Unconstrained coordinates of a mixture: log weights, means, log-Cholesky factors. Every vector is a valid mixture."""

import numpy as np
from scipy.special import log_softmax

from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats


def to_unconstrained(parameters: MixtureParameters) -> Floats:
    """Return u = (log weights, means, log-Cholesky coordinates of the covariances), a vector."""
    covariances = parameters.family.covariance_coordinates(parameters.covariances)
    return np.concatenate([np.log(parameters.weights), parameters.means.ravel(), covariances.ravel()])


def from_unconstrained(u: Floats, covariance_type: str, n_components: int, n_features: int) -> MixtureParameters:
    """Return the mixture with coordinates u; weights are normalised.

    Raises
    ------
    SingularCovarianceError
        Where rounding leaves a covariance that can't be factor_moments.
    """
    weights = np.exp(log_softmax(u[:n_components]))
    stop = n_components * (1 + n_features)
    means = u[n_components:stop].reshape(n_components, n_features)
    family = FAMILIES[covariance_type]
    rest = u[stop:].reshape(1 if family.shared else n_components, -1)
    covariances = family.covariances_of_coordinates(rest, n_features)
    return MixtureParameters.from_covariances(covariance_type, weights, means, covariances)


def fisher_metric(parameters: MixtureParameters) -> Floats:
    """Return W, the square root of the diagonal of the complete data's Fisher information per row in u.

    sqrt(pi_k) times: 1 for log pi_k, 1 / sigma_kj for a mean, sqrt(2) for the logarithm of a diagonal entry of L and
    1 / sigma_ki for L_ij. Differences of mixtures measured with it are in nats: |W du|^2 / 2 is about the loss of
    complete-data log-likelihood.
    """
    family, n_features = parameters.family, parameters.n_features
    share = np.sqrt(parameters.weights)[:, np.newaxis]
    deviations = np.sqrt(parameters.variances())
    of_covariances = family.coordinate_metric(parameters.covariances, n_features)
    if not family.shared:
        of_covariances = share * of_covariances
    return np.concatenate([share[:, 0], (share / deviations).ravel(), of_covariances.ravel()])
