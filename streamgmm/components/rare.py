"""Rare components: clusters too small for the sample, found among the rows that a pass explains worst.

A cluster of one row in a million is not in a sample. In the first pass over all rows those of the lowest density are
kept, a bounded number. Where many of them lie close together, a component is put there, and one that another can
replace is given up for it. That is tried on the sample and the kept rows, and then as a second candidate on all rows,
where the higher likelihood wins.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from streamgmm.components.merge import merge_pair, rank_merges
from streamgmm.components.split import covariance_of_group
from streamgmm.em.anderson import Anderson
from streamgmm.em.candidates import Candidate
from streamgmm.em.iteration import run_em, start_state
from streamgmm.em.passes import RowsInMemory, UnlikelyRows
from streamgmm.em.state import Problem, State, Step
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers

#: Rows that must lie together, at least: this many times those that a covariance needs, and this many anyway.
_TIMES_MIN_ROWS, _FEWEST = 2, 10
#: Rows within this many times the distance of the nearest few belong to the group.
_REACH = 2.0
#: Components that are given up in turn, and EM steps on the sample for each.
_TRIES, _STEPS = 3, 12
#: It is tried where the group gains this share of what giving up a component costs, by a bound that is mostly too high.
_SHARE_OF_COST = 0.1
#: Nats per row that are no gain: where the candidate finds the group by itself, both end the same but for rounding.
_NOTHING_GAINED = 1e-9
#: Rows of the sample that this is tried on, at least; K * F * rows of one step, and rows per parameter, at most.
_SMALLEST_SAMPLE, _STEP_WORK, _ROWS_PER_PARAMETER = 5_000, 300_000_000, 50


def find_challenger(candidate: Candidate, unlikely: UnlikelyRows, sample: RowsInMemory) -> Candidate | None:
    """Return a candidate with a component among the unlikely rows, if the sample and those rows say it is better.

    Parameters
    ----------
    candidate : Candidate
        After a pass over all rows.
    unlikely : UnlikelyRows
        The rows that it explains worst.
    sample : RowsInMemory
        Its first rows are enough for a large one.
    """
    step, problem = candidate.state.best, candidate.problem
    if step is None or step.kernel.is_centered or step.parameters.n_components < 2:
        return None
    near = _group(problem, step, unlikely)
    if near is None:
        return None
    z, weight = problem.whitening.whiten(unlikely.x[near]), unlikely.weight[near]
    cheapest = rank_merges(problem, step)[:_TRIES]
    cost, _, _ = cheapest[0]
    if _gain(z, weight, unlikely.log_prob[near], step.statistics.sum_weight) < _SHARE_OF_COST * cost:
        return None
    n_rows = min(_ROWS_PER_PARAMETER * step.parameters.n_parameters, _STEP_WORK // step.statistics.sums.size)
    part = sample.first(max(_SMALLEST_SAMPLE, n_rows))
    rows = _with_unlikely(part, unlikely, step.statistics.sum_weight)
    trial = replace(
        problem,
        m_step=problem.m_step.scale(rows.sum_weight / step.statistics.sum_weight),
        repairs=False,
        float32_rows=False,
    )
    before = _tried(trial, candidate.state.safe, rows)
    best: State | None = None
    for _, kept, freed in cheapest:
        try:
            beginning = _seeded(problem, step, kept, freed, z, weight)
        except SingularCovarianceError:
            continue
        after = _tried(trial, beginning, rows)
        if after is not None and (best is None or after.lower_bound > best.lower_bound):
            best = after
    if before is None or best is None or best.lower_bound <= before.lower_bound + _NOTHING_GAINED:
        return None
    return Candidate.begin(problem, candidate.accelerator, start_state(best.safe), group=candidate.group)


def _gain(z: Floats, weight: Floats, log_prob: Floats, sum_weight: float) -> float:
    """Return by how much a component that has a group of rows to itself raises the likelihood, nats per row.

    No family's component can gain more than this, of a full covariance: infinity where that is singular.
    """
    n_features = z.shape[1]
    if len(z) <= n_features:
        return float("inf")
    share = weight / weight.sum()
    covariance = np.atleast_2d(np.cov(z.T, aweights=weight, bias=True))
    sign, log_det = np.linalg.slogdet(covariance)
    if sign <= 0.0:
        return float("inf")
    own = np.log(weight.sum() / sum_weight) - 0.5 * (n_features * np.log(2.0 * np.pi * np.e) + log_det)
    return float(weight.sum() / sum_weight * (own - share @ log_prob))


def _group(problem: Problem, step: Step, unlikely: UnlikelyRows) -> Integers | None:
    """Find the closest group of rows in whitened coordinates."""
    n_features = step.parameters.n_features
    few = max(_FEWEST, _TIMES_MIN_ROWS * step.parameters.family.min_rows(n_features))
    if len(unlikely.x) < few:
        return None
    z = problem.whitening.whiten(unlikely.x)
    tree = KDTree(z)
    distances = np.asarray(tree.query(z, k=few)[0])[:, -1]
    center = int(np.argmin(distances))
    reach = _REACH * max(float(distances[center]), np.finfo(np.float64).tiny)
    return np.asarray(tree.query_ball_point(z[center], reach), dtype=np.int64)


def _with_unlikely(sample: RowsInMemory, unlikely: UnlikelyRows, sum_weight: float) -> RowsInMemory:
    """Put the unlikely rows into a sample, with the weight that they have next to the rows it stands for."""
    scale = sample.sum_weight / sum_weight
    return RowsInMemory(
        np.concatenate([sample.x, unlikely.x]), np.concatenate([sample.weight, scale * unlikely.weight])
    )


def _seeded(problem: Problem, step: Step, kept: int, freed: int, z: Floats, weight: Floats) -> MixtureParameters:
    """Merge two components, and put a new one where a group of rows is."""
    family = step.parameters.family
    rest = merge_pair(problem, step, kept, freed)
    share = float(weight.sum()) / step.statistics.sum_weight
    center = np.average(z, axis=0, weights=weight)
    means = np.vstack([rest.means, center])
    weights = np.append((1.0 - share) * rest.weights, share)
    covariances = rest.covariances
    if not family.shared:
        own = family.whitening(center, covariance_of_group(family, z, center, weight))
        one = family.unwhiten_covariances(family.identity(z.shape[1])[np.newaxis], own)
        covariances = np.concatenate([covariances, one])
    return MixtureParameters.from_covariances(family.name, weights, means, covariances)


def _tried(problem: Problem, beginning: MixtureParameters, rows: RowsInMemory) -> State | None:
    try:
        return run_em(problem, start_state(beginning), rows.read, Anderson(), tol=1e-6, max_iter=_STEPS)
    except SingularCovarianceError:
        return None
