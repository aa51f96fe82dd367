"""How far Gaussian components are from each other: closed forms, for each component of one mixture and of another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import linalg

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats


def bhattacharyya(one: MixtureParameters, other: MixtureParameters) -> Floats:
    """Return the Bhattacharyya distances, shape (K, L): minus the logarithm of the overlap of two densities.

    d' S^-1 d / 8 + log(|S| / sqrt(|A| |B|)) / 2, with S = (A + B) / 2 and d the difference of the means (Fukunaga,
    "Introduction to Statistical Pattern Recognition", 3.2).
    """
    found = np.empty((one.n_components, other.n_components))
    log_dets = _log_dets(one), _log_dets(other)
    for i, covariance in enumerate(_covariances(one)):
        for j, its in enumerate(_covariances(other)):
            log_det, square = _log_det_and_square(0.5 * (covariance + its), one.means[i] - other.means[j])
            found[i, j] = square / 8.0 + 0.5 * log_det - 0.25 * (log_dets[0][i] + log_dets[1][j])
    return np.maximum(found, 0.0)


def symmetric_kl(one: MixtureParameters, other: MixtureParameters) -> Floats:
    """Return KL(a | b) + KL(b | a) in nats, shape (K, L): Jeffreys' divergence."""
    found = np.empty((one.n_components, other.n_components))
    for i, covariance in enumerate(_covariances(one)):
        for j, its in enumerate(_covariances(other)):
            offset = one.means[i] - other.means[j]
            traces = _trace_of_ratio(covariance, its) + _trace_of_ratio(its, covariance)
            squares = _log_det_and_square(covariance, offset)[1] + _log_det_and_square(its, offset)[1]
            found[i, j] = 0.5 * (traces + squares) - one.n_features
    return np.maximum(found, 0.0)


def wasserstein(one: MixtureParameters, other: MixtureParameters) -> Floats:
    """Return the 2-Wasserstein distances, shape (K, L), in the data's units.

    The square is |a - b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (Givens & Shortt, Michigan Math. J. 31, 1984).
    """
    found = np.empty((one.n_components, other.n_components))
    for i, covariance in enumerate(_covariances(one)):
        root = _root(covariance)
        for j, its in enumerate(_covariances(other)):
            offset = one.means[i] - other.means[j]
            found[i, j] = offset @ offset + _bures(covariance, root, its)
    return np.sqrt(np.maximum(found, 0.0))


def runnalls(one: MixtureParameters, other: MixtureParameters) -> Floats:
    """Return Runnalls' bound on what merging two components costs, shape (K, L): KL in nats per row.

    ((w + v) log|P| - w log|A| - v log|B|) / 2 with P the covariance of both together (Runnalls, IEEE Trans. Aerospace
    and Electronic Systems 43, 2007).
    """
    found = np.empty((one.n_components, other.n_components))
    log_dets = _log_dets(one), _log_dets(other)
    for i, covariance in enumerate(_covariances(one)):
        for j, its in enumerate(_covariances(other)):
            w, v = one.weights[i], other.weights[j]
            offset = one.means[i] - other.means[j]
            within, between = (w * covariance + v * its) / (w + v), w * v / (w + v) ** 2
            # |W + b d d'| = |W| (1 + b d' W^-1 d), which is no diagonal matrix where W is one.
            log_det, square = _log_det_and_square(within, offset)
            merged = log_det + np.log1p(between * square)
            found[i, j] = 0.5 * ((w + v) * merged - w * log_dets[0][i] - v * log_dets[1][j])
    return np.maximum(found, 0.0)


def _covariances(parameters: MixtureParameters) -> Iterator[Floats]:
    """Give each component's covariance: a matrix, or its variances where there is nothing else."""
    if parameters.covariance_type in ("full", "tied"):
        yield from parameters.full_covariances()
    else:
        yield from parameters.variances()


def _log_dets(parameters: MixtureParameters) -> Floats:
    log_dets = -2.0 * parameters.family.log_det_precisions_cholesky(
        parameters.precisions_cholesky, parameters.n_features
    )
    return np.broadcast_to(log_dets, (parameters.n_components,))


def _log_det_and_square(covariance: Floats, offset: Floats) -> tuple[float, float]:
    """Return log|S| and d' S^-1 d."""
    if covariance.ndim == 1:
        return float(np.log(covariance).sum()), float((offset**2 / covariance).sum())
    lower = linalg.cholesky(covariance, lower=True)
    standard = linalg.solve_triangular(lower, offset, lower=True)
    return 2.0 * float(np.log(np.diag(lower)).sum()), float(standard @ standard)


def _trace_of_ratio(covariance: Floats, its: Floats) -> float:
    """Return tr(B^-1 A)."""
    if covariance.ndim == 1:
        return float((covariance / its).sum())
    return float(np.trace(linalg.cho_solve(linalg.cho_factor(its, lower=True), covariance)))


def _root(covariance: Floats) -> Floats:
    if covariance.ndim == 1:
        return np.sqrt(covariance)
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _bures(covariance: Floats, root: Floats, its: Floats) -> float:
    if covariance.ndim == 1:
        return float(((root - np.sqrt(its)) ** 2).sum())
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ its @ root), 0.0)).sum()
    return float(np.trace(covariance) + np.trace(its) - 2.0 * cross)
