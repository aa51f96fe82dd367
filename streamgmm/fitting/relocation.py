"""Relocation: two components that one can replace are merged, and the one set free splits another.

EM does not move a component from where there are too many to where there are too few. What a merge costs and what a
split gains can be estimated without running EM on all rows; the most promising pairs are then tried, and kept only
where the likelihood rises. After Ueda, Nakano, Ghahramani & Hinton, "SMEM algorithm for mixture models", Neural
Computation 12 (2000); the cost of a merge is the bound of Runnalls, IEEE Trans. Aerospace and Electronic Systems 43
(2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from streamgmm.exceptions import SingularCovarianceError
from streamgmm.fitting import em
from streamgmm.fitting.acceleration import Anderson
from streamgmm.fitting.degeneracy import degenerate_components, resolved
from streamgmm.fitting.e_step_pass import RowsInMemory
from streamgmm.fitting.stopping import StopReason
from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.e_step import PassModel, e_step, evaluate
from streamgmm.mixture.families import FAMILIES, CovarianceFamily
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.m_step import Moments, Regularization, factored, moments
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.precision import RESOLUTION, Kernel
from streamgmm.mixture.statistics import SufficientStatistics

#: Merges and splits whose pairs are looked at, and how many of these pairs are tried.
_MERGES, _SPLITS, _TRIES = 8, 8, 6
#: Rows, and EM steps, to find out how a component splits; the first steps are done from each of three divisions.
_SPLIT_ROWS, _FIRST_SPLIT_STEPS, _SPLIT_STEPS = 2500, 3, 6
#: EM steps of a trial until the worse half leaves, and those in which the rest must beat what was there.
_FIRST_STEPS, _TRIAL_STEPS = 8, 40
#: A pair is tried where the split gains this share of the merge's cost, which is a bound and mostly too high.
_SHARE_OF_COST = 0.25
#: Relocations that are tried with the same split.
_TRIES_OF_A_SPLIT = 2
#: Splits that are tried for each component that a mixture grows by, and the EM steps of each.
_GROWTH_TRIES, _GROWTH_STEPS, _GROWTH_TOL = 2, 8, 1e-3
#: Nats per row that a relocation must gain.
_SMALLEST_GAIN = 1e-4
#: Steps to converge one that is kept.
_CONVERGED_STEPS = 60
#: A fit is given up if after some steps it is not worth having even with so many times what seems to be left to gain.
_FEWEST_GAINS, _HOPE = 4, 5.0
#: EM steps that take as long as to find out how all components split, about.
_STEPS_OF_SPLITS = 10


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
        In the frame's coordinates.
    covariances : ndarray or None
        In the shape of two components' covariances; None where all components share one.
    """

    component: int
    gain: float
    shares: Floats
    means: Floats
    covariances: Floats | None


def relocated(
    problem: em.Problem, state: em.State, rows: RowsInMemory, *, tol: float, seed: int, n_steps: int
) -> tuple[em.State, int]:
    """Relocate components while that raises the likelihood of the rows.

    Parameters
    ----------
    problem : Problem
    state : State
        A fit to these rows.
    rows : RowsInMemory
    tol : float
        To which the fits are converged, nats per row.
    seed : int
    n_steps : int
        EM steps after which no other relocation is looked for.

    Returns
    -------
    state : State
        The best fit found; `state` itself where no relocation gains anything.
    n_steps : int
        Those that are left.
    """
    number = 0
    while n_steps > 0:
        better, n_done = _first_better(problem, state, rows, tol, np.random.default_rng((seed, number)))
        n_steps -= n_done
        if better is None:
            break
        state, number = better, number + 1
    return state, n_steps


def grown(problem: em.Problem, state: em.State, rows: RowsInMemory, n_components: int, *, seed: int) -> em.State:
    """Split components one after the other, each time the one whose split gains most, until there are `n_components`.

    Verbeek, Vlassis & Krose, "Efficient greedy learning of Gaussian mixture models", Neural Computation 15 (2003).
    """
    rng = np.random.default_rng(seed)
    problem = replace(problem, repairs=False)
    splits: dict[int, Split] = {}
    while state.safe.n_components < n_components:
        before = state.safe
        # The other components have hardly moved: their splits stay what they were.
        new = [k for k in range(before.n_components) if k not in splits]
        splits.update((split.component, split) for split in _splits(problem, before, rows, rng, new))
        found: tuple[em.State, int] | None = None
        for split in sorted(splits.values(), key=lambda split: -split.gain)[:_GROWTH_TRIES]:
            try:
                one = em.run(
                    problem, em.init(_with_split(before, split)), rows.read, em.PlainEM(), tol=_GROWTH_TOL,
                    max_iter=_GROWTH_STEPS,
                )  # fmt: skip
            except SingularCovarianceError:
                continue
            if found is None or one.lower_bound > found[0].lower_bound:
                found = one, split.component
        if found is None:
            break
        state, component = found
        del splits[component]
    return state


def regrown(
    problem: em.Problem, state: em.State, rows: RowsInMemory, part: RowsInMemory, *, tol: float, seed: int
) -> em.State:
    """Merge a third of the components away, grow the mixture again, and keep that where its likelihood is higher.

    Parameters
    ----------
    problem : Problem
    state : State
        A fit to these rows.
    rows : RowsInMemory
    part : RowsInMemory
        Some of them, to grow on.
    tol : float
        To which the fits are converged, nats per row.
    seed : int
    """
    rng = np.random.default_rng(seed)
    n_components = state.safe.n_components
    if n_components < 2:
        return state
    fewer = state
    try:
        for _ in range(max(1, n_components // 3)):
            if fewer.best is None or fewer.best.kernel is Kernel.CAREFUL:
                return state
            pairs = merges(problem, fewer.best)[:_MERGES]
            _, i, j = pairs[rng.integers(len(pairs))]
            fewer = em.run(
                replace(problem, repairs=False), em.init(without(problem, fewer.best, i, j)), part.read, Anderson(),
                tol=_GROWTH_TOL, max_iter=_GROWTH_STEPS,
            )  # fmt: skip
        again = grown(problem, fewer, part, n_components, seed=seed)
        ended = _continued(
            problem, em.init(again.safe), rows, worth=state.lower_bound, tol=tol, max_iter=_CONVERGED_STEPS
        )
    except SingularCovarianceError:
        return state
    if ended is None or ended.safe.n_components < n_components:
        return state
    return ended if ended.lower_bound > state.lower_bound + _SMALLEST_GAIN else state


def without(problem: em.Problem, step: em.Step, kept: int, freed: int) -> MixtureParameters:
    """Merge two components."""
    sums = step.statistics.sums.copy()
    sums[kept] += sums[freed]
    rest = np.delete(np.arange(len(sums)), freed)
    statistics = replace(step.statistics, sums=sums[rest], shift=step.statistics.shift[rest])
    return factored(step.parameters.family, _regular_moments(problem, step.parameters.family, statistics))


def _with_split(parameters: MixtureParameters, split: Split) -> MixtureParameters:
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


def _first_better(
    problem: em.Problem, state: em.State, rows: RowsInMemory, tol: float, rng: np.random.Generator
) -> tuple[em.State | None, int]:
    """Return a fit with a component relocated that is better, if there is one, and how many EM steps it took."""
    if state.best is None or state.best.kernel is Kernel.CAREFUL or state.parameters.n_components < 3:
        return None, 0
    bound = state.lower_bound + _SMALLEST_GAIN
    n_done = _STEPS_OF_SPLITS
    trials: list[em.State] = []
    for candidate in _candidates(problem, state.best, rows, rng):
        beginning = _first_step(problem, candidate, rows)
        trial = _continued(problem, beginning, rows, worth=bound, tol=tol, max_iter=_FIRST_STEPS, enough=bound)
        if trial is None:
            continue
        n_done += trial.n_iter
        if trial.lower_bound >= bound:
            trials = [trial]
            break
        trials.append(trial)
    trials.sort(key=lambda trial: -trial.lower_bound)
    for trial in trials[: _TRIES // 2]:
        found = _continued(problem, trial, rows, worth=bound, tol=tol, max_iter=_TRIAL_STEPS, enough=bound)
        if found is None:
            continue
        n_done += found.n_iter
        if found.lower_bound >= bound:
            better = _continued(problem, found, rows, worth=bound, tol=tol, max_iter=_CONVERGED_STEPS)
            if better is not None and better.lower_bound >= bound:
                return better, n_done + better.n_iter
            # A number for `reg_covar` may take away on the way to the end what was gained before.
    return None, n_done


def _first_step(problem: em.Problem, candidate: MixtureParameters, rows: RowsInMemory) -> em.State | None:
    """Do one EM step: where `reg_covar` adds to covariances, only what M-steps give can be compared."""
    try:
        first = em.run(
            replace(problem, repairs=False), em.init(candidate), rows.read, em.PlainEM(), tol=0.0, max_iter=1
        )
    except SingularCovarianceError:
        return None
    return em.init(first.safe)


def _continued(
    problem: em.Problem,
    state: em.State | None,
    rows: RowsInMemory,
    *,
    worth: float,
    tol: float,
    max_iter: int,
    enough: float = float("inf"),
) -> em.State | None:
    """Go on with EM until the fit is over, `max_iter` steps are done, or its bound is `enough`.

    None where it fails, or where it won't come to be `worth` anything by its own estimate of what is left to gain.
    """
    if state is None or state.stop_reason is StopReason.DEGENERATE:
        return None
    problem = replace(problem, repairs=False)
    state = replace(state, stop_reason=None)
    try:
        while state.stop_reason is None and state.lower_bound < enough:
            state = em.iterated(problem, state, rows.read, Anderson(), tol=tol, max_iter=max_iter)
            if len(state.gains) >= _FEWEST_GAINS and state.lower_bound + _HOPE * state.gap < worth:
                return None
    except SingularCovarianceError:
        return None
    return state


def _candidates(
    problem: em.Problem, step: em.Step, rows: RowsInMemory, rng: np.random.Generator
) -> Iterator[MixtureParameters]:
    """Give mixtures with one component relocated, the most promising first."""
    cheapest = merges(problem, step)[:_MERGES]
    splits = _splits(problem, step.parameters, rows, rng)
    pairs = [
        (split.gain - cost, (i, j), split)
        for cost, i, j in cheapest
        for split in splits[:_SPLITS]
        if split.component not in (i, j) and split.gain > _SHARE_OF_COST * cost
    ]
    pairs.sort(key=lambda pair: -pair[0])
    tried: Counter[int] = Counter()
    for _, merge, split in pairs:
        if tried[split.component] == _TRIES_OF_A_SPLIT or tried.total() == _TRIES:
            continue
        tried[split.component] += 1
        try:
            yield _relocation(problem, step, merge, split)
        except SingularCovarianceError:
            continue


def _relocation(problem: em.Problem, step: em.Step, merge: tuple[int, int], split: Split) -> MixtureParameters:
    """Merge two components, by adding up their statistics, and put the one set free where another is split."""
    family = step.parameters.family
    kept, freed = merge
    sums = step.statistics.sums.copy()
    sums[kept] += sums[freed]
    merged = _regular_moments(problem, family, replace(step.statistics, sums=sums))
    weights, means, covariances = merged.weights.copy(), merged.means.copy(), merged.covariances.copy()
    places = [split.component, freed]
    weights[places] = split.shares * weights[split.component]
    means[places] = split.means
    if split.covariances is not None:
        covariances[places] = split.covariances
    return factored(family, Moments(weights / weights.sum(), means, covariances))


def merges(problem: em.Problem, step: em.Step) -> list[tuple[float, int, int]]:
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


def _regular_moments(problem: em.Problem, family: CovarianceFamily, statistics: SufficientStatistics) -> Moments:
    """Do an M-step, with what has collapsed widened to what the fast kernel can tell from zero."""
    return resolved(family, moments(family, statistics, problem.regularization), RESOLUTION[Kernel.FLOAT64])


def _log_dets(family: CovarianceFamily, covariances: Floats, n_features: int) -> Floats:
    factors = family.precisions_cholesky(covariances)
    return -2.0 * family.log_det_precisions_cholesky(factors, n_features)


def _splits(
    problem: em.Problem,
    parameters: MixtureParameters,
    rows: RowsInMemory,
    rng: np.random.Generator,
    components: Sequence[int] | None = None,
) -> list[Split]:
    """Split every component, or some, that have rows enough; the one that gains most first."""
    family, n_features = parameters.family, parameters.n_features
    z = rows.in_frame(problem.frame)
    labels = evaluate(z, parameters, labels=True).labels
    total = rows.sum_weight
    found = []
    for k in range(parameters.n_components) if components is None else components:
        mine = np.flatnonzero(labels == k)
        weight = rows.weight[mine]
        if len(mine) < 2 or weight.sum() < 2.0 * (family.min_rows(n_features) + 1):
            continue
        share = float(weight.sum()) / total
        drawn = mine[:_SPLIT_ROWS]
        split = _split(parameters, k, z[drawn], rows.weight[drawn], rng)
        if split is not None:
            found.append(replace(split, gain=share * split.gain))
    return sorted(found, key=lambda split: -split.gain)


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
    covariance = np.atleast_2d(np.cov(z.T, aweights=weight, bias=True))
    frame = family.frame(center, covariance)
    y = frame.points_to_frame(z)
    local = _LocalRows(
        family, frame, Regularization.automatic(frame, float(weight.sum())), z, weight, family.features(y)
    )
    alone = local.run(local.assigned(np.ones((len(y), 1))), 1)
    tried = [local.run(local.assigned(resp), _FIRST_SPLIT_STEPS) for resp in _halves(y, rng)]
    found = [one for one in tried if one is not None]
    if alone is None or not found:
        return None
    best = local.run(max(found, key=lambda one: one.bound).statistics, _SPLIT_STEPS)
    if best is None:
        return None
    two = best.parameters.to_data(frame)
    means = two.means
    if parameters.family.shared:
        means = linalg.solve_triangular(parameters.precisions_cholesky, means.T, trans="T").T
    covariances = None if parameters.family.shared else two.covariances
    return Split(component, best.bound - alone.bound, two.weights, means, covariances)


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
    """The rows of one component, in a frame that makes them white."""

    family: CovarianceFamily
    frame: Frame
    penalty: Regularization
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
            found = moments(self.family, statistics, self.penalty)
            if len(degenerate_components(self.family, found, statistics.component_weights)):
                break
            try:
                parameters = factored(self.family, found)
            except SingularCovarianceError:
                break
            statistics = e_step(self.z, self.weight, PassModel(parameters, self.frame, Kernel.FLOAT64))
            fit = _LocalFit(parameters, statistics.log_likelihood / statistics.sum_weight, statistics)
        return fit
