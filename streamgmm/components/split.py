"""Splits: what two components in the place of one would gain, found out on that one's own rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from streamgmm.em.degeneracy import find_degenerate
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.covariances import FAMILIES, CovarianceFamily
from streamgmm.gaussian.e_step import PassModel, e_step, evaluate
from streamgmm.gaussian.m_step import MStep, factor_moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.typing import Floats

#: Rows, and EM steps, to find out how a component splits; the first steps are done from each of three divisions.
_SPLIT_ROWS, _FIRST_SPLIT_STEPS, _SPLIT_STEPS = 2500, 3, 6


@dataclass(frozen=True)
class Split:
    """Two components in the place of one.

    Attributes
    ----------
    component : int
    gain : float
        Estimate of what the split gains, nats per row of all rows.
    shares : ndarray of shape (2,)
        Of the weight of the component.
    means : ndarray of shape (2, n_features)
        In whitened coordinates.
    covariances : ndarray or None
        In the shape of two components' covariances; None where all components share one.
    n_rows : int
        On which it was found out.
    """

    component: int
    gain: float
    shares: Floats
    means: Floats
    covariances: Floats | None
    n_rows: int


def find_splits(
    problem: Problem,
    parameters: MixtureParameters,
    rows: RowsInMemory,
    rng: np.random.Generator,
    components: Sequence[int] | None = None,
) -> list[Split]:
    """Split every component, or some, that have rows enough; the one that gains most first."""
    family, n_features = parameters.family, parameters.n_features
    z = rows.whiten(problem.whitening)
    labels = evaluate(z, parameters, labels=True).labels
    total = rows.sum_weight

    def split_of(k: int, seed: int) -> Split | None:
        mine = np.flatnonzero(labels == k)
        weight = rows.weight[mine]
        if len(mine) < 2 or weight.sum() < 2.0 * (family.min_rows(n_features) + 1):
            return None
        drawn = mine[:_SPLIT_ROWS]
        split = _split(parameters, k, z[drawn], rows.weight[drawn], np.random.default_rng(seed))
        return None if split is None else replace(split, gain=float(weight.sum()) / total * split.gain)

    which = range(parameters.n_components) if components is None else components
    seeds = rng.integers(2**63, size=len(which))
    found = [split_of(k, int(seed)) for k, seed in zip(which, seeds, strict=True)]
    return sorted((split for split in found if split is not None), key=lambda split: -split.gain)


def apply_split(parameters: MixtureParameters, split: Split) -> MixtureParameters:
    """Put a split's two components in the place of one."""
    k = split.component
    weights = np.append(parameters.weights, split.shares[1] * parameters.weights[k])
    weights[k] *= split.shares[0]
    means = np.vstack([parameters.means, split.means[1]])
    means[k] = split.means[0]
    covariances = parameters.covariances
    if split.covariances is not None:
        covariances = np.concatenate([covariances, split.covariances[1:]])
        covariances[k] = split.covariances[0]
    return MixtureParameters.from_covariances(parameters.covariance_type, weights, means, covariances)


def _split(
    parameters: MixtureParameters, component: int, z: Floats, weight: Floats, rng: np.random.Generator
) -> Split | None:
    """Fit two components to the rows of one, in coordinates that make these rows white."""
    family = parameters.family
    if family.shared:
        # Two balls in the coordinates in which the shared covariance is one: only their means are used.
        family, factor = FAMILIES["spherical"], parameters.precisions_cholesky
        z = z @ factor
    center = np.average(z, axis=0, weights=weight)
    whitening = family.whitening(center, covariance_of_group(family, z, center, weight))
    y = whitening.whiten(z)
    local = _LocalRows(
        family,
        whitening,
        PenalizedMStep.automatic(family, whitening, float(weight.sum())),
        z,
        weight,
        family.features(y),
    )
    alone = local.run(local.assigned(np.ones((len(y), 1))), 1)
    tried = [local.run(local.assigned(resp), _FIRST_SPLIT_STEPS) for resp in _halves(y, rng)]
    found = [one for one in tried if one is not None]
    if alone is None or not found:
        return None
    leader = max(found, key=lambda one: one.bound)
    best = local.run(leader.statistics, _SPLIT_STEPS) or leader
    two = best.parameters.unwhiten(whitening)
    means = two.means
    if parameters.family.shared:
        means = linalg.solve_triangular(parameters.precisions_cholesky, means.T, trans="T").T
    covariances = None if parameters.family.shared else two.covariances
    return Split(component, best.bound - alone.bound, two.weights, means, covariances, len(z))


def covariance_of_group(family: CovarianceFamily, z: Floats, center: Floats, weight: Floats) -> Floats:
    """Return the covariance of rows about their mean, for a whitening: the variances where a family has no more."""
    if family.squares:
        variances: Floats = np.average((z - center) ** 2, axis=0, weights=weight)
        return variances
    return np.atleast_2d(np.cov(z.T, aweights=weight, bias=True))


def _halves(y: Floats, rng: np.random.Generator) -> Iterator[Floats]:
    """Give three divisions of rows into two: along their longest axis, near and far, and nearer to one of two rows."""
    axis = np.linalg.svd(y[: 4 * y.shape[1] + 100], full_matrices=False)[2][0]
    distance = (y**2).sum(axis=1)
    a, b = y[rng.choice(len(y), 2, replace=False)]
    for value in (y @ axis, distance - np.median(distance), ((y - a) ** 2).sum(axis=1) - ((y - b) ** 2).sum(axis=1)):
        yield np.column_stack([value > 0.0, value <= 0.0]).astype(np.float64)


@dataclass(frozen=True)
class _LocalFit:
    """A mixture fitted to the rows of one component: its mean log-likelihood, and the statistics under it."""

    parameters: MixtureParameters
    bound: float
    statistics: SufficientStatistics


@dataclass(frozen=True)
class _LocalRows:
    """The rows of one component, in whitened coordinates that makes them white."""

    family: CovarianceFamily
    whitening: Whitening
    m_step: MStep
    z: Floats
    weight: Floats
    features: Floats

    def assigned(self, resp: Floats) -> SufficientStatistics:
        """Return the statistics of given responsibilities, shape (n, K)."""
        sums = (resp * self.weight[:, np.newaxis]).T @ self.features
        shift = np.zeros((resp.shape[1], self.z.shape[1]))
        return SufficientStatistics(sums, shift, 0.0, float(self.weight.sum()))

    def run(self, statistics: SufficientStatistics, n_steps: int) -> _LocalFit | None:
        """Run EM steps from statistics until a component degenerates; None where that is at once."""
        fit: _LocalFit | None = None
        for _ in range(n_steps):
            found = self.m_step.maximize(self.family, statistics)
            if len(find_degenerate(self.family, found, statistics.component_weights, self.m_step)):
                break
            try:
                parameters = factor_moments(self.family, found)
            except SingularCovarianceError:
                break
            statistics = e_step(self.z, self.weight, PassModel(parameters, self.whitening, Kernel.FLOAT64))
            fit = _LocalFit(parameters, statistics.log_likelihood / statistics.sum_weight, statistics)
        return fit
