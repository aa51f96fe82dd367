"""Spherical covariances: every component has one variance for all features."""

import numpy as np

from streamgmm.gaussian.covariances.base import LOG_2_PI, variances_of
from streamgmm.gaussian.covariances.diag import Diag, scale_of
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening, whiten_uniformly
from streamgmm.typing import Floats


class Spherical(Diag):
    """phi = (1, z, |z|^2): diagonal covariances whose variances are all the same."""

    name = "spherical"
    squares = 2

    def n_factors(self, n_features: int) -> tuple[int, int]:
        return 1, 2 + n_features

    def natural_parameters(self, weights: Floats, means: Floats, precisions_cholesky: Floats) -> Floats:
        n_features = means.shape[1]
        precisions = precisions_cholesky**2
        constant = (
            np.log(weights)
            + self.log_det_precisions_cholesky(precisions_cholesky, n_features)
            - 0.5 * (n_features * LOG_2_PI + precisions * (means**2).sum(axis=1))
        )
        return np.hstack([constant[:, np.newaxis], means * precisions[:, np.newaxis], -0.5 * precisions[:, np.newaxis]])

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components

    def identity(self, n_features: int) -> Floats:
        return np.ones(())

    def log_det_precisions_cholesky(self, precisions_cholesky: Floats, n_features: int) -> Floats:
        log_det: Floats = n_features * np.log(precisions_cholesky)
        return log_det

    def full_precisions_cholesky(self, precisions_cholesky: Floats, n_components: int, n_features: int) -> Floats:
        return precisions_cholesky[:, np.newaxis, np.newaxis] * np.eye(n_features)

    def traces(self, matrix: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        traces: Floats = n_features * matrix * precisions_cholesky**2
        return traces

    def smallest_eigenvalues(self, covariances: Floats) -> Floats:
        return covariances

    def covariance_coordinates(self, covariances: Floats) -> Floats:
        return super().covariance_coordinates(covariances[:, np.newaxis])

    def covariances_of_coordinates(self, coordinates: Floats, n_features: int) -> Floats:
        return super().covariances_of_coordinates(coordinates[:, 0], n_features)

    def coordinate_metric(self, covariances: Floats, n_features: int) -> Floats:
        # One logarithm stands for that of every feature's standard deviation.
        return np.full((len(covariances), 1), np.sqrt(2.0 * n_features))

    def scatters(self, statistics: SufficientStatistics) -> Floats:
        n_features = statistics.shift.shape[1]
        squared_offsets = (statistics.offsets() ** 2).sum(axis=1)
        # The mean over the features: one covariance of this family is the mean of a diagonal one's variances.
        scatters: Floats = (statistics.sums[:, -1] - statistics.component_weights * squared_offsets) / n_features
        return scatters

    def whitening(self, center: Floats, covariance: Floats) -> Whitening:
        return whiten_uniformly(center, variances_of(covariance))

    def whiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        return covariances * float(scale_of(whitening)[0]) ** 2

    def unwhiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        return covariances / float(scale_of(whitening)[0]) ** 2

    def unwhiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        return precisions_cholesky * float(scale_of(whitening)[0])

    def whiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        return precisions_cholesky / float(scale_of(whitening)[0])
