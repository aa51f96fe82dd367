"""The target of ``reg_covar="auto"``: a covariance from within the components, towards which theirs are drawn.

A penalty that draws covariances towards the data's own costs a cluster nothing where it is about as wide as the data,
and everything where it is a thousand times tighter. So the target is the harmonic mean of the covariances that were
found on the sample, each with the share of the rows that it has,

    T^-1 = sum_k pi_k S_k^-1        S_k = W_k / N_k, without any regularisation.

T is at most S_k / pi_k in every direction. The penalty adds strength T / N_k to a variance, with a strength of
2 / sqrt(N) rows: at most 2 / (sqrt(N) N_k pi_k) of it, whatever the units, and however tight the component is. (For
inverse Wishart priors that have their scale in common, T is that scale's maximum-likelihood estimate.)

What is no evidence of a scale takes no part in the mean, and the pooled covariance within the components stands in for
it. A variance rests on N_k / kurtosis rows: on a third of a cluster's, but on the few rows beside them where all others
are equal. Where these are not more than a covariance needs, as in components of a few rows, and in those that sit on
one value, the variance says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamgmm.fitting.e_step_pass import RowsInMemory
from streamgmm.fitting.state import Problem
from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.e_step import evaluate
from streamgmm.mixture.parameters import MixtureParameters

#: Rows on which a variance must rest, as a multiple of those that a covariance needs to be regular, to be evidence.
_ROWS_FOR_EVIDENCE = 2
#: Rounding of a row's values, in units in the last place: what varies by less does not vary.
_ROUNDING = 16
#: Bytes of the responsibilities that are in memory at once.
_BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class _Scale:
    """Variances of a component along some axes.

    Attributes
    ----------
    share : float
        pi_k.
    axes : ndarray of shape (n_features, n_axes), or None
        Orthonormal; None for those of the features.
    variances, evidence : ndarray of shape (n_axes,)
        And how much each counts, between 0 and 1.
    """

    share: float
    axes: Floats | None
    variances: Floats
    evidence: Floats


def shrinkage_target(problem: Problem, parameters: MixtureParameters, rows: RowsInMemory) -> Floats:
    """Return the weighted harmonic mean of the components' covariances, in the shape of one covariance.

    Parameters
    ----------
    problem : Problem
    parameters : MixtureParameters
        A fit to the rows, in the frame's coordinates.
    rows : RowsInMemory
        Different rows, with their weights.
    """
    resolution = _rounding(problem, rows)
    scales, pooled = _scales(problem, parameters, rows, resolution)
    # Where nothing varies within the components, the data's own covariance: the identity in the frame.
    stand_in = _inverse(pooled, resolution)
    precision = np.zeros_like(stand_in)
    for scale in scales:
        precision = precision + scale.share * _precision(scale, stand_in)
    return _inverse(precision, 0.0)


def _scales(
    problem: Problem, parameters: MixtureParameters, rows: RowsInMemory, resolution: float
) -> tuple[list[_Scale], Floats]:
    """Return the scales of the distinct covariances, and the pooled covariance within the components."""
    family, n_components, n_features = parameters.family, parameters.n_components, parameters.n_features
    n_k = np.zeros(n_components)
    different = np.zeros(n_components)
    means = np.zeros((n_components, n_features))
    for z, resp, weight in _blocks(problem, parameters, rows):
        different += resp.sum(axis=0)
        n_k += weight @ resp
        means += (weight[:, np.newaxis] * resp).T @ z
    means /= np.maximum(n_k, np.finfo(np.float64).tiny)[:, np.newaxis]
    moments = np.zeros((n_components, *family.identity(n_features).shape))
    for z, resp, weight in _blocks(problem, parameters, rows):
        for k, mean in enumerate(means):
            moments[k] += _second_moment(z - mean, weight * resp[:, k], moments.ndim - 1)
    total = float(n_k.sum())
    pooled = moments.sum(axis=0) / total
    covariances = moments / np.maximum(n_k, np.finfo(np.float64).tiny).reshape((-1,) + (1,) * (moments.ndim - 1))
    if family.shared:
        covariances = np.broadcast_to(pooled, covariances.shape)
    axes = [np.linalg.eigh(one)[1] for one in covariances] if moments.ndim == 3 else [None] * n_components
    fourth = np.zeros((n_components, 1 if moments.ndim == 1 else n_features))
    variances = np.zeros_like(fourth)
    for z, resp, weight in _blocks(problem, parameters, rows):
        for k, mean in enumerate(means):
            squares = _squares(z - mean, axes[k], moments.ndim - 1)
            of_component = weight * resp[:, k]
            variances[k] += of_component @ squares
            fourth[k] += of_component @ squares**2
    if family.shared:
        n_k, different = n_k.sum(keepdims=True), different.sum(keepdims=True)
        axes, variances, fourth = axes[:1], variances.sum(axis=0)[np.newaxis], fourth.sum(axis=0)[np.newaxis]
    needed = _ROWS_FOR_EVIDENCE * (family.rank(n_features) + 1)
    scales = []
    for n, n_different, own_axes, second, of_fourth in zip(n_k, different, axes, variances, fourth, strict=True):
        variance = second / max(n, np.finfo(np.float64).tiny)
        known = (variance > resolution) & (of_fourth > 0.0)
        # N / kurtosis, of different rows: equal rows are no better evidence of a scale than one.
        counts = np.where(known, second**2 / np.where(known, of_fourth, 1.0), 0.0) * min(1.0, n_different / n)
        evidence = np.where(known, np.clip(1.0 - needed / np.maximum(counts, needed), 0.0, 1.0), 0.0)
        scales.append(_Scale(float(n) / total, own_axes, np.where(known, variance, 1.0), evidence))
    return scales, pooled


def _blocks(
    problem: Problem, parameters: MixtureParameters, rows: RowsInMemory
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Give rows in the frame's coordinates, their responsibilities and weights, so many at a time."""
    in_data = parameters.to_data(problem.frame)
    step = max(1, _BLOCK_BYTES // (8 * parameters.n_components))
    for start in range(0, len(rows), step):
        x = rows.x[start : start + step]
        yield (
            problem.frame.points_to_frame(x),
            evaluate(x, in_data, resp=True).resp,
            rows.weight[start : start + step],
        )


def _second_moment(centred: Floats, weight: Floats, n_dimensions: int) -> Floats:
    """Return sum w d d' of offsets d, in the shape of a covariance that has so many dimensions."""
    if n_dimensions == 2:
        return (centred.T * weight) @ centred
    squares = weight @ centred**2
    return squares if n_dimensions == 1 else np.asarray(squares.mean())


def _squares(centred: Floats, axes: Floats | None, n_dimensions: int) -> Floats:
    """Return the squared offsets along some axes, shape (n, n_axes); their mean where all directions are alike."""
    squares: Floats = (centred if axes is None else centred @ axes) ** 2
    return squares.mean(axis=1, keepdims=True) if n_dimensions == 0 else squares


def _rounding(problem: Problem, rows: RowsInMemory) -> float:
    """Return the variance, in the frame, that the rounding of the rows' values may make."""
    frame = problem.frame
    largest = _ROUNDING * np.finfo(np.float64).eps * np.abs(rows.x).max(axis=0)
    if frame.scale is not None:
        return float(((largest * frame.scale) ** 2).max())
    assert frame.whitening is not None
    return float(((np.abs(frame.whitening) @ largest) ** 2).max())


def _precision(scale: _Scale, stand_in: Floats) -> Floats:
    """Return a component's precision, with what stands in for it as far as there is no evidence."""
    if scale.axes is None:
        precision = scale.evidence / scale.variances + (1.0 - scale.evidence) * stand_in
        return precision.reshape(stand_in.shape)
    # sqrt(1 - e) of the stand-in on both sides: what is left is symmetric, and positive.
    rest = (scale.axes * np.sqrt(1.0 - scale.evidence)) @ scale.axes.T
    own: Floats = (scale.axes * (scale.evidence / scale.variances)) @ scale.axes.T
    return own + rest @ stand_in @ rest


def _inverse(matrix: Floats, smallest: float) -> Floats:
    """Invert a covariance or a precision in its family's shape; in directions where it is not above that, 1."""
    if matrix.ndim < 2:
        known = matrix > smallest
        return np.where(known, 1.0 / np.where(known, matrix, 1.0), 1.0)
    values, vectors = np.linalg.eigh(matrix)
    inverse: Floats = (vectors / np.where(values > smallest, values, 1.0)) @ vectors.T
    return inverse
