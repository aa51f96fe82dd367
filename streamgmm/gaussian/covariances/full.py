"""Full covariances: every component has its own matrix."""

import numpy as np

from streamgmm.gaussian.covariances.base import (
    LOG_2_PI,
    CovarianceFamily,
    cholesky_of_inverse,
    unpacked_moments,
    upper_triangle,
)
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening, whiten_fully
from streamgmm.typing import Floats


class Full(CovarianceFamily):
    """phi = (1, z, z_i z_j for i <= j): the products of all pairs of factors (1, z)."""

    name = "full"
    squares = 0

    def n_factors(self, n_features: int) -> tuple[int, int]:
        return n_features + 1, n_features + 1

    def natural_parameters(self, weights: Floats, means: Floats, precisions_cholesky: Floats) -> Floats:
        n_components, n_features = means.shape
        theta = np.empty((n_components, (n_features + 1) * (n_features + 2) // 2))
        precisions = self.precisions(precisions_cholesky)
        standardised = np.einsum("kij,ki->kj", precisions_cholesky, means)
        theta[:, 0] = (
            np.log(weights)
            + self.log_det_precisions_cholesky(precisions_cholesky, n_features)
            - 0.5 * (n_features * LOG_2_PI + (standardised**2).sum(axis=1))
        )
        theta[:, 1 : 1 + n_features] = np.einsum("kij,kj->ki", precisions_cholesky, standardised)
        rows, columns = upper_triangle(n_features)
        # Each pair i < j stands once in phi and twice in z' P z.
        theta[:, 1 + n_features :] = precisions[:, rows, columns] * np.where(rows == columns, -0.5, -1.0)
        return theta

    def shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return n_components, n_features, n_features

    def n_covariance_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features * (n_features + 1) // 2

    def min_rows(self, n_features: int) -> int:
        return n_features + 1

    def rank(self, n_features: int) -> int:
        return n_features

    def identity(self, n_features: int) -> Floats:
        return np.eye(n_features)

    def precisions_cholesky(self, covariances: Floats) -> Floats:
        return cholesky_of_inverse(covariances)

    def precisions(self, precisions_cholesky: Floats) -> Floats:
        return precisions_cholesky @ precisions_cholesky.transpose(0, 2, 1)

    def covariances_of_precisions(self, precisions: Floats) -> Floats:
        factors = self.precisions_cholesky(precisions)
        return factors @ factors.transpose(0, 2, 1)

    def log_det_precisions_cholesky(self, precisions_cholesky: Floats, n_features: int) -> Floats:
        log_det: Floats = np.log(np.diagonal(precisions_cholesky, axis1=1, axis2=2)).sum(axis=1)
        return log_det

    def full_precisions_cholesky(self, precisions_cholesky: Floats, n_components: int, n_features: int) -> Floats:
        return precisions_cholesky

    def traces(self, matrix: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        traces: Floats = (matrix * self.precisions(precisions_cholesky)).sum(axis=(-2, -1))
        return np.atleast_1d(traces)

    def standardise(self, offsets: Floats, precisions_cholesky: Floats) -> Floats:
        standardised: Floats = np.einsum("kij,ki->kj", precisions_cholesky, offsets)
        return standardised

    def variance_ratios(self, covariances: Floats, precisions_cholesky: Floats, n_features: int) -> Floats:
        products: Floats = np.swapaxes(precisions_cholesky, -1, -2) @ covariances @ precisions_cholesky
        ratios: Floats = np.linalg.eigvalsh(products.reshape(-1, n_features, n_features)).astype(np.float64)
        return ratios

    def smallest_eigenvalues(self, covariances: Floats) -> Floats:
        smallest: Floats = np.linalg.eigvalsh(covariances)[:, 0].astype(np.float64)
        return smallest

    def covariance_coordinates(self, covariances: Floats) -> Floats:
        n_features = covariances.shape[-1]
        rows, columns = np.tril_indices(n_features)
        lower = np.linalg.cholesky(covariances).reshape(-1, n_features, n_features)[:, rows, columns]
        diagonal = rows == columns
        lower[:, diagonal] = np.log(lower[:, diagonal])
        return lower.astype(np.float64, copy=False)

    def covariances_of_coordinates(self, coordinates: Floats, n_features: int) -> Floats:
        rows, columns = np.tril_indices(n_features)
        diagonal = rows == columns
        lower = np.zeros((len(coordinates), n_features, n_features))
        lower[:, rows, columns] = np.where(diagonal, np.exp(np.where(diagonal, coordinates, 0.0)), coordinates)
        return lower @ lower.transpose(0, 2, 1)

    def coordinate_metric(self, covariances: Floats, n_features: int) -> Floats:
        rows, columns = np.tril_indices(n_features)
        variances = np.diagonal(covariances.reshape(-1, n_features, n_features), axis1=1, axis2=2)
        return np.where(rows == columns, np.sqrt(2.0), 1.0 / np.sqrt(variances[:, rows]))

    def scatters(self, statistics: SufficientStatistics) -> Floats:
        n_features = statistics.shift.shape[1]
        moments = unpacked_moments(statistics.sums[:, 1 + n_features :], n_features)
        offsets = statistics.offsets()
        n_k = statistics.component_weights[:, np.newaxis, np.newaxis]
        return moments - n_k * offsets[:, :, np.newaxis] * offsets[:, np.newaxis, :]

    def whitening(self, center: Floats, covariance: Floats) -> Whitening:
        return whiten_fully(center, covariance)

    def whiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        a = _matrix(whitening.matrix)
        return _symmetric(a @ covariances @ a.T)

    def unwhiten_covariances(self, covariances: Floats, whitening: Whitening) -> Floats:
        c = _matrix(whitening.inverse)
        return _symmetric(c @ covariances @ c.T)

    def unwhiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        # (A' U)(A' U)' = A' P A, and A' U is upper triangular because A' and U are.
        return np.triu(_matrix(whitening.matrix).T @ precisions_cholesky)

    def whiten_precisions_cholesky(self, precisions_cholesky: Floats, whitening: Whitening) -> Floats:
        return np.triu(_matrix(whitening.inverse).T @ precisions_cholesky)


def _matrix(matrix: Floats | None) -> Floats:
    if matrix is None:
        raise TypeError("full and tied covariances need a whitening by a matrix")
    return matrix


def _symmetric(matrices: Floats) -> Floats:
    """Remove the asymmetry that rounding leaves in a product A S A'."""
    symmetric: Floats = 0.5 * (matrices + np.swapaxes(matrices, -1, -2))
    return symmetric
