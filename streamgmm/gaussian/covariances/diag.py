"""Diagonal covariances: every component has one variance per feature."""

import numpy as np

from streamgmm.gaussian.covariances.base import LOG_2_PI, CovarianceFamily, inverse_standard_deviations, variances_of
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening, whiten_by_feature
from streamgmm.typing import Floats


class Diag(CovarianceFamily):
    """phi = (1, z, z_j^2)."""

    name = "diag"
    squares = 1

    def n_factors(self, n_features: int) -> tuple[int, int]:
        return 1, 1 + 2 * n_features

    def natural_parameters(self, weights: Floats, means: Floats, precisions_cholesky: Floats) -> Floats:
        n_features = means.shape[1]
        precisions = precisions_cholesky**2
        constant = (
            np.log(weights)
            + self.log_det_precisions_cholesky(precisions_cholesky, n_features)
            - 0.5 * (n_features * LOG_2_PI + ((means * precisions_cholesky) ** 2).sum(axis=1))
        )
        return np.hstack([constant[:, np.newaxis], means * precisions, -0.5 * precisions])

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features

    def min_rows(self, n_features: int) -> int:
        return 2

    def rank(self, n_features: int) -> int:
        return 1

    def identity(self, n_features: int) -> Floats:
        return np.ones(n_features)

    def precisions_cholesky(self, covariances: Floats) -> Floats:
        return inverse_standard_deviations(covariances)

    def precisions(self, precisions_cholesky: Floats) -> Floats:
        precisions: Floats = precisions_cholesky**2
        return precisions

    def covariances_of_precisions(self, precisions: Floats) -> Floats:
        covariances: Floats = 1.0 / precisions
        return covariances

    def log_det_precisions_cholesky(self, precisions_cholesky: Floats, n_features: int) -> Floats:
        log_det: Floats = np.log(precisions_cholesky).sum(axis=1)
        return log_det

    def full_precisions_cholesky(self, precisions_cholesky: Floats, n_components: int, n_features: int) -> Floats:
        return precisions_cholesky[:, :, np.newaxis] * np.eye(n_features)

    def traces(self, matrix: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        traces: Floats = (matrix * precisions_cholesky**2).sum(axis=1)
        return traces

    def standardise(self, offsets: Floats, precisions_cholesky: Floats) -> Floats:
        return offsets * precisions_cholesky.reshape(len(offsets), -1)

    def variance_ratios(self, covariances: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        ratios = (covariances * precisions_cholesky**2).reshape(len(precisions_cholesky), -1)
        return np.broadcast_to(ratios, (len(ratios), n_features))

    def smallest_eigenvalues(self, covariances: Floats) -> Floats:
        smallest: Floats = covariances.min(axis=1)
        return smallest

    def covariance_coordinates(self, covariances: Floats) -> Floats:
        coordinates: Floats = 0.5 * np.log(covariances)
        return coordinates

    def covariances_of_coordinates(self, coordinates: Floats, n_features: int) -> Floats:
        covariances: Floats = np.exp(2.0 * coordinates)
        return covariances

    def coordinate_metric(self, covariances: Floats, n_features: int) -> Floats:
        return np.full(covariances.shape, np.sqrt(2.0))

    def scatters(self, statistics: SufficientStatistics) -> Floats:
        n_features = statistics.shift.shape[1]
        offsets = statistics.offsets()
        scatters: Floats = (
            statistics.sums[:, 1 + n_features :] - statistics.component_weights[:, np.newaxis] * offsets**2
        )
        return scatters

    def whitening(self, center: Floats, covariance: Floats) -> Whitening:
        return whiten_by_feature(center, variances_of(covariance))

    def whiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        return covariances * scale_of(whitening) ** 2

    def unwhiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        return covariances / scale_of(whitening) ** 2

    def unwhiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        return precisions_cholesky * scale_of(whitening)

    def whiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        return precisions_cholesky / scale_of(whitening)


def scale_of(whitening: Whitening) -> Floats:
    """Return the scales of a whitening, which those of diag and spherical covariances have."""
    if whitening.scale is None:
        raise TypeError("diag and spherical covariances need a whitening that scales")
    return whitening.scale
