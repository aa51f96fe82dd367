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

from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats

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


def estimate_target(problem: Problem, parameters: MixtureParameters, rows: RowsInMemory) -> Floats:
    """Return the weighted harmonic mean of the components' covariances, in the shape of one covariance.

    Parameters
    ----------
    problem : Problem
    parameters : MixtureParameters
        A fit to the rows, in whitened coordinates.
    rows : RowsInMemory
        Different rows, with their weights.
    """
    family = parameters.family
    identity = family.identity(parameters.n_features)
    own, pooled = _scales(problem, parameters, rows)
    # Where nothing says how much varies within the components, the data's own covariance: whitened, the identity.
    stand_in = _precision(pooled, identity)
    precision = np.zeros_like(identity)
    for scale in own:
        precision = precision + scale.share * _precision(scale, stand_in)
    return _inverse(precision)


def _scales(problem: Problem, parameters: MixtureParameters, rows: RowsInMemory) -> tuple[list[_Scale], _Scale]:
    """Return the scales of the distinct covariances, and that of the pooled covariance within the components."""
    family, n_components, n_features = parameters.family, parameters.n_components, parameters.n_features
    smallest = np.finfo(np.float64).tiny
    n_k, different = np.zeros(n_components), np.zeros(n_components)
    means = np.zeros((n_components, n_features))
    for z, resp, weight in _blocks(problem, parameters, rows):
        different += resp.sum(axis=0)
        n_k += weight @ resp
        means += (weight[:, np.newaxis] * resp).T @ z
    means /= np.maximum(n_k, smallest)[:, np.newaxis]
    moments = np.zeros((n_components, *family.identity(n_features).shape))
    for z, resp, weight in _blocks(problem, parameters, rows):
        for k, mean in enumerate(means):
            moments[k] += _second_moment(z - mean, weight * resp[:, k], moments.ndim - 1)
    # The last is the pooled one.
    moments = np.concatenate([moments, moments.sum(axis=0, keepdims=True)])
    axes = [np.linalg.eigh(one)[1] for one in moments] if moments.ndim == 3 else [None] * len(moments)
    second = np.zeros((len(moments), 1 if moments.ndim == 1 else n_features))
    fourth = np.zeros_like(second)
    for z, resp, weight in _blocks(problem, parameters, rows):
        # A row counts once in the pooled one, however it is shared: a trace of it in a component far away, as there is
        # while that is blurred, would be all of its kurtosis.
        of_row = np.zeros((len(z), second.shape[1]))
        for k, mean in enumerate(means):
            squares = _squares(z - mean, axes[k], moments.ndim - 1)
            second[k] += (weight * resp[:, k]) @ squares
            fourth[k] += (weight * resp[:, k]) @ squares**2
            of_row += resp[:, k : k + 1] * _squares(z - mean, axes[-1], moments.ndim - 1)
        second[-1] += weight @ of_row
        fourth[-1] += weight @ of_row**2
    total = float(n_k.sum())
    n_k, different = np.append(n_k, total), np.append(different, different.sum())
    # A variance of N_k rows rests on N_k / kurtosis, of different ones: equal rows are no better evidence than one.
    variances = second / np.maximum(n_k, smallest)[:, np.newaxis]
    known = (variances > _rounding(problem, rows)) & (fourth > 0.0)
    counts = np.where(known, second**2 / np.where(known, fourth, 1.0), 0.0)
    counts *= np.minimum(1.0, different / np.maximum(n_k, smallest))[:, np.newaxis]
    needed = _ROWS_FOR_EVIDENCE * (family.rank(n_features) + 1)
    evidence = np.clip(1.0 - needed / np.maximum(counts, needed), 0.0, 1.0)
    variances = np.where(known, variances, 1.0)
    found = [_Scale(*of) for of in zip(n_k / total, axes, variances, evidence, strict=True)]
    return ([found[-1]] if family.shared else found[:-1]), found[-1]


def _blocks(
    problem: Problem, parameters: MixtureParameters, rows: RowsInMemory
) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Give rows in whitened coordinates, their responsibilities and weights, so many at a time."""
    in_data = parameters.unwhiten(problem.whitening)
    step = max(1, _BLOCK_BYTES // (8 * parameters.n_components))
    for start in range(0, len(rows), step):
        x = rows.x[start : start + step]
        yield (
            problem.whitening.whiten(x),
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
    """Return the variance, in whitened coordinates, that the rounding of the rows' values may make."""
    whitening = problem.whitening
    largest = _ROUNDING * np.finfo(np.float64).eps * np.abs(rows.x).max(axis=0)
    if whitening.scale is not None:
        return float(((largest * whitening.scale) ** 2).max())
    assert whitening.matrix is not None
    return float(((np.abs(whitening.matrix) @ largest) ** 2).max())


def _precision(scale: _Scale, stand_in: Floats) -> Floats:
    """Return a component's precision, with what stands in for it as far as there is no evidence."""
    if scale.axes is None:
        precision = scale.evidence / scale.variances + (1.0 - scale.evidence) * stand_in
        return precision.reshape(stand_in.shape)
    # sqrt(1 - e) of the stand-in on both sides: what is left is symmetric, and positive.
    rest = (scale.axes * np.sqrt(1.0 - scale.evidence)) @ scale.axes.T
    own: Floats = (scale.axes * (scale.evidence / scale.variances)) @ scale.axes.T
    return own + rest @ stand_in @ rest


def _inverse(precision: Floats) -> Floats:
    """Invert a precision in its family's shape."""
    if precision.ndim < 2:
        return np.asarray(1.0 / precision)
    values, vectors = np.linalg.eigh(precision)
    inverse: Floats = (vectors / values) @ vectors.T
    return inverse
