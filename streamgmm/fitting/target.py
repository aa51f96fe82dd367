"""The target of ``reg_covar="auto"``: a covariance from within the components, towards which theirs are drawn.

A penalty that draws covariances towards the data's own costs a cluster nothing where it is about as wide as the data,
and everything where it is a thousand times tighter. So the target is the harmonic mean of the covariances that were
found on the sample, each with the share of the rows that it has,

    T^-1 = sum_k pi_k S_k^-1        S_k = W_k / N_k, without any regularisation.

T is at most S_k / pi_k in every direction. The penalty adds strength T / N_k to a variance, with a strength of
2 / sqrt(N) rows: at most 2 / (sqrt(N) N_k pi_k) of it, whatever the units, and however tight the component is. (For
inverse Wishart priors that have their scale in common, T is that scale's maximum-likelihood estimate.)

What is no evidence of a scale takes no part in the mean, and the pooled covariance within the components stands in for
it: a covariance to the extent that it rests on few different rows, as spurious components do, and the directions in
which a component does not vary at all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamgmm.fitting.e_step_pass import RowsInMemory
from streamgmm.fitting.state import Problem
from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.e_step import PassModel
from streamgmm.mixture.families import CovarianceFamily
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.precision import Kernel
from streamgmm.mixture.statistics import SufficientStatistics

#: Different rows, as a multiple of those that a covariance needs to be regular, under which it is no evidence at all.
_ROWS_FOR_EVIDENCE = 2
#: Variances in the frame under which the moments of float64 products can't be trusted.
_SMALLEST_OF_PRODUCTS = 1e-10
#: Rounding of a row's values, in units in the last place: what varies by less does not vary.
_ROUNDING = 16


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
    family, n_features = parameters.family, parameters.n_features
    statistics = _statistics(problem, parameters, rows)
    resolution = _rounding(problem, rows)
    # Equal rows are one row with a weight, and no better evidence of a scale than one.
    different = _statistics(problem, parameters, replace(rows, weight=np.ones(len(rows)))).component_weights
    counts = np.minimum(different, statistics.component_weights)
    scatters, n_k = family.scatters(statistics), statistics.component_weights
    if family.shared:
        scatters, n_k, counts = scatters[np.newaxis], n_k.sum(keepdims=True), counts.sum(keepdims=True)
    needed = _ROWS_FOR_EVIDENCE * (family.rank(n_features) + 1)
    evidence = np.clip(1.0 - needed / np.maximum(counts, needed), 0.0, 1.0)
    pooled = _inverse(scatters.sum(axis=0) / n_k.sum(), resolution, family.identity(n_features))
    precision = np.zeros_like(pooled)
    for scatter, n, share in zip(scatters, n_k, evidence, strict=True):
        own = pooled
        if share > 0.0:
            own = share * _inverse(scatter / n, resolution, pooled) + (1.0 - share) * pooled
        precision += n / n_k.sum() * own
    return _inverse(precision, 0.0, precision)


def _statistics(problem: Problem, parameters: MixtureParameters, rows: RowsInMemory) -> SufficientStatistics:
    """Do an E-step on the rows, exact enough for the variances that it finds."""
    family = parameters.family
    kernel = Kernel.FLOAT64
    if family.smallest_eigenvalues(parameters.covariances).min() < _SMALLEST_OF_PRODUCTS:
        kernel = Kernel.CAREFUL
    found = rows.read(PassModel(parameters, problem.frame, kernel, collect_scatter=family.shared))
    if kernel is Kernel.FLOAT64 and _smallest(family, found) < _SMALLEST_OF_PRODUCTS:
        found = rows.read(PassModel(parameters, problem.frame, Kernel.CAREFUL))
    return found


def _smallest(family: CovarianceFamily, statistics: SufficientStatistics) -> float:
    scatters = family.scatters(statistics)
    n_k = np.maximum(statistics.component_weights, np.finfo(np.float64).tiny)
    rows = n_k.sum() if family.shared else n_k.reshape((-1,) + (1,) * (scatters.ndim - 1))
    return float(family.smallest_eigenvalues(scatters / rows).min())


def _rounding(problem: Problem, rows: RowsInMemory) -> float:
    """Return the variance, in the frame, that the rounding of the rows' values may make."""
    frame = problem.frame
    largest = _ROUNDING * np.finfo(np.float64).eps * np.abs(rows.x).max(axis=0)
    if frame.scale is not None:
        return float(((largest * frame.scale) ** 2).max())
    assert frame.whitening is not None
    scaled = np.abs(frame.whitening) @ largest
    return float((scaled**2).max())


def _inverse(covariance: Floats, smallest: float, stand_in: Floats) -> Floats:
    """Invert a covariance in its family's shape; where it is not above `smallest`, take the inverse that stands in."""
    if covariance.ndim < 2:
        known = covariance > smallest
        return np.where(known, 1.0 / np.where(known, covariance, 1.0), stand_in)
    values, vectors = np.linalg.eigh(covariance)
    known = values > smallest
    inverse: Floats = (vectors[:, known] / values[known]) @ vectors[:, known].T
    if not known.all():
        rest = vectors[:, ~known]
        inverse = inverse + rest @ (rest.T @ stand_in @ rest) @ rest.T
    return inverse
