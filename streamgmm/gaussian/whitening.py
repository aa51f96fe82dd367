"""Whitening: the affine coordinates z = A (x - c) in which a fit works.

A whitens as far as the covariance family allows without leaving the family: the inverse Cholesky factor of the data's
covariance for full and tied, one scale per feature for diag, one for all for spherical. In whitened coordinates the
quadratic form z' P z does not cancel, so that its products can be formed without subtracting the means first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from streamgmm.serialization import serializable
from streamgmm.typing import Floats

#: A feature that never varies gets this fraction of its magnitude as its standard deviation.
CONSTANT_FEATURE_SPREAD = 1e-6


@serializable
@dataclass(frozen=True)
class Whitening:
    """An affine map of the features, and the data's covariance expressed in it.

    Attributes
    ----------
    center : ndarray of shape (n_features,), float64
        c, in the data's units.
    scale : ndarray of shape (n_features,), float64, or None
        The diagonal of A where A is diagonal (diag, spherical), else None.
    matrix, inverse : ndarray of shape (n_features, n_features), float64, or None
        A and its inverse, both lower triangular (full, tied), else None.
    log_det : float
        log |det A|, in nats: log p(x) = log p(z) + log_det.
    floor : ndarray or float
        The variance, in whitened coordinates and in the shape of one covariance of the family, that was added to the
        data's covariance where that is singular; zero where it is not.
    constant_features : tuple of int
        The features that do not vary in the data.
    singular : bool
        Whether the data's covariance is singular to working precision.
    """

    center: Floats
    scale: Floats | None
    matrix: Floats | None
    inverse: Floats | None
    log_det: float
    floor: Floats
    constant_features: tuple[int, ...]
    singular: bool

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.center)

    def whiten(self, x: Floats) -> Floats:
        """Map points (n, n_features) from the data's coordinates to whitened ones."""
        centred = x - self.center
        if self.scale is not None:
            return centred * self.scale
        assert self.matrix is not None
        return centred @ self.matrix.T

    def unwhiten(self, z: Floats) -> Floats:
        """Map points (n, n_features) from whitened coordinates to the data's."""
        if self.scale is not None:
            return z / self.scale + self.center
        assert self.inverse is not None
        return z @ self.inverse.T + self.center


def _varying_standard_deviations(center: Floats, variances: Floats) -> tuple[Floats, tuple[int, ...]]:
    """Find standard deviations, with a stand-in for the features whose values differ by no more than their rounding."""
    spread = np.sqrt(np.maximum(variances, 0.0))
    constant = spread <= 4.0 * np.finfo(np.float64).eps * np.abs(center)
    magnitude = np.where(center == 0.0, 1.0, np.abs(center))
    spread = np.where(constant, CONSTANT_FEATURE_SPREAD * magnitude, spread)
    return spread, tuple(np.flatnonzero(constant).tolist())


def whiten_fully(center: Floats, covariance: Floats) -> Whitening:
    """Make the whitening of full and tied covariances: A is the inverse Cholesky factor of the data's covariance.

    Eigenvalues of the correlation matrix under 10 D eps (what rounding alone leaves) are raised to it.
    """
    n_features = len(center)
    spread, constant = _varying_standard_deviations(center, np.diag(covariance))
    correlation = covariance / np.outer(spread, spread)
    floor = np.zeros((n_features, n_features))
    for j in constant:
        correlation[j, :] = correlation[:, j] = 0.0
        correlation[j, j] = floor[j, j] = 1.0
    eigenvalues, eigenvectors = linalg.eigh(correlation)
    smallest = 10.0 * n_features * np.finfo(np.float64).eps
    raised = np.maximum(smallest - eigenvalues, 0.0)
    if raised.any():
        addition = (eigenvectors * raised) @ eigenvectors.T
        correlation = correlation + addition
        floor += addition
    inverse = spread[:, np.newaxis] * linalg.cholesky(correlation, lower=True)
    matrix = linalg.solve_triangular(inverse, np.eye(n_features), lower=True)
    singular = bool(constant) or bool(raised.any())
    if singular:
        floor = matrix @ (floor * np.outer(spread, spread)) @ matrix.T
    log_det = -float(np.log(np.diag(inverse)).sum())
    return Whitening(center, None, matrix, inverse, log_det, floor, constant, singular)


def whiten_by_feature(center: Floats, variances: Floats) -> Whitening:
    """Make the whitening of diagonal covariances: one scale per feature, the inverse standard deviation."""
    spread, constant = _varying_standard_deviations(center, variances)
    floor = np.zeros(len(center))
    floor[list(constant)] = 1.0
    return Whitening(center, 1.0 / spread, None, None, -float(np.log(spread).sum()), floor, constant, bool(constant))


def whiten_uniformly(center: Floats, variances: Floats) -> Whitening:
    """Make the whitening of spherical covariances: one scale for all features, from the mean variance."""
    mean_variance = float(np.mean(variances))
    magnitude = float(np.max(np.abs(center), initial=0.0)) or 1.0
    singular = np.sqrt(mean_variance) <= 4.0 * np.finfo(np.float64).eps * magnitude
    spread = CONSTANT_FEATURE_SPREAD * magnitude if singular else float(np.sqrt(mean_variance))
    n_features = len(center)
    constant = tuple(range(n_features)) if singular else ()
    scale = np.full(n_features, 1.0 / spread)
    return Whitening(
        center,
        scale,
        None,
        None,
        -n_features * float(np.log(spread)),
        np.array(float(singular)),
        constant,
        bool(singular),
    )
