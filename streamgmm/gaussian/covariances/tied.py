"""Tied covariances: one matrix that all components share."""

import numpy as np

from streamgmm.gaussian.covariances.base import LOG_2_PI, cholesky_of_inverse
from streamgmm.gaussian.covariances.full import Full
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.typing import Floats


class Tied(Full):
    """phi = (1, z).

    The quadratic term -z' P z / 2 is the same for every component: it cancels out of the responsibilities, and its sum
    over the rows is -tr(P Q) / 2 with Q = sum w z z', which no iteration changes. Q is collected once (the `scatter`
    of the statistics), and every other pass costs 2 K (1 + D) per row instead of K D^2.

    Coordinates and whitening are those of full covariances: one matrix (D, D) broadcasts as a stack of one.
    """

    name = "tied"
    shared = True

    def n_factors(self, n_features: int) -> tuple[int, int]:
        return 1, n_features + 1

    def natural_parameters(self, weights: Floats, means: Floats, precisions_cholesky: Floats) -> Floats:
        n_components, n_features = means.shape
        theta = np.empty((n_components, 1 + n_features))
        standardised = means @ precisions_cholesky
        theta[:, 0] = (
            np.log(weights)
            + self.log_det_precisions_cholesky(precisions_cholesky, n_features)
            - 0.5 * (n_features * LOG_2_PI + (standardised**2).sum(axis=1))
        )
        theta[:, 1:] = standardised @ precisions_cholesky.T
        return theta

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_features, n_features

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2

    def min_rows(self, n_features: int) -> int:
        return 1

    def precisions_cholesky(self, covariances: Floats) -> Floats:
        factor: Floats = cholesky_of_inverse(covariances[np.newaxis], shared=True)[0]
        return factor

    def precisions(self, precisions_cholesky: Floats) -> Floats:
        return precisions_cholesky @ precisions_cholesky.T

    def covariances_of_precisions(self, precisions: Floats) -> Floats:
        factor: Floats = cholesky_of_inverse(precisions[np.newaxis], shared=True)[0]
        return factor @ factor.T

    def log_det_precisions_cholesky(self, precisions_cholesky: Floats, n_features: int) -> Floats:
        log_det: Floats = np.log(np.diag(precisions_cholesky)).sum(keepdims=True)
        return log_det

    def full_precisions_cholesky(self, precisions_cholesky: Floats, n_components: int, n_features: int) -> Floats:
        return np.broadcast_to(precisions_cholesky, (n_components, n_features, n_features))

    def standardise(self, offsets: Floats, precisions_cholesky: Floats) -> Floats:
        return offsets @ precisions_cholesky

    def smallest_eigenvalues(self, covariances: Floats) -> Floats:
        return np.linalg.eigvalsh(covariances)[:1].astype(np.float64)

    def covariances_of_coordinates(self, coordinates: Floats, n_features: int) -> Floats:
        one: Floats = super().covariances_of_coordinates(coordinates, n_features)[0]
        return one

    def scatters(self, statistics: SufficientStatistics) -> Floats:
        offsets = statistics.offsets()
        return _scatter(statistics) - (offsets.T * statistics.component_weights) @ offsets

    def expected_log_likelihood(
        self, statistics: SufficientStatistics, weights: Floats, means: Floats, precisions_cholesky: Floats
    ) -> float:
        linear = super().expected_log_likelihood(statistics, weights, means, precisions_cholesky)
        return linear - 0.5 * float((self.precisions(precisions_cholesky) * _scatter(statistics)).sum())


def _scatter(statistics: SufficientStatistics) -> Floats:
    if statistics.scatter is None:
        raise TypeError("tied covariances need statistics with a scatter")
    return statistics.scatter
