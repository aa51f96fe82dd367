"""Merges: what it costs to replace two components by one.

Two components are put into one Gaussian with their moments by adding up their statistics. The cost is the bound of
Runnalls, IEEE Trans. Aerospace and Electronic Systems 43 (2007).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamgmm.em.degeneracy import widen_to_resolution
from streamgmm.em.state import Problem, Step
from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.m_step import Moments, factor_moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.typing import Floats


def rank_merges(problem: Problem, step: Step) -> list[tuple[float, int, int]]:
    """Return (cost in nats per row, i, j) for the pairs of components, the cheapest first.

    The cost is a bound on the loss of likelihood where j is put into i, and the two into one Gaussian with their
    moments: 1/2 [(w_i + w_j) log|Sigma_ij| - w_i log|Sigma_i| - w_j log|Sigma_j|].
    """
    parameters, statistics = step.parameters, step.statistics
    family, n_features = parameters.family, parameters.n_features
    first, second = np.triu_indices(parameters.n_components, 1)
    weights = statistics.component_weights / statistics.sum_weight
    if family.shared:
        # To first order in what the merge adds to the shared covariance.
        difference = (parameters.means[first] - parameters.means[second]) @ parameters.precisions_cholesky
        harmonic = weights[first] * weights[second] / (weights[first] + weights[second])
        costs = 0.5 * harmonic * (difference**2).sum(axis=1)
    else:
        own = _log_dets(family, _regular_moments(problem, family, statistics).covariances, n_features)
        costs = np.empty(len(first))
        for start in range(0, len(first), 256):
            pairs = slice(start, start + 256)
            i, j = first[pairs], second[pairs]
            together = replace(statistics, sums=statistics.sums[i] + statistics.sums[j], shift=statistics.shift[i])
            log_dets = _log_dets(family, _regular_moments(problem, family, together).covariances, n_features)
            costs[pairs] = 0.5 * ((weights[i] + weights[j]) * log_dets - weights[i] * own[i] - weights[j] * own[j])
    order = np.argsort(costs, kind="stable")
    return [(float(costs[at]), int(first[at]), int(second[at])) for at in order]


def merge_pair(problem: Problem, step: Step, kept: int, freed: int) -> MixtureParameters:
    """Merge two components."""
    sums = step.statistics.sums.copy()
    sums[kept] += sums[freed]
    rest = np.delete(np.arange(len(sums)), freed)
    statistics = replace(step.statistics, sums=sums[rest], shift=step.statistics.shift[rest])
    return factor_moments(step.parameters.family, _regular_moments(problem, step.parameters.family, statistics))


def _regular_moments(problem: Problem, family: CovarianceFamily, statistics: SufficientStatistics) -> Moments:
    """Do an M-step, with what has collapsed widened to what the fast kernel can tell from zero."""
    return widen_to_resolution(family, problem.m_step.maximize(family, statistics), Kernel.FLOAT64.resolution)


def _log_dets(family: CovarianceFamily, covariances: Floats, n_features: int) -> Floats:
    factors = family.precisions_cholesky(covariances)
    return -2.0 * family.log_det_precisions_cholesky(factors, n_features)
