"""Relocation: two components that one can replace are merged, and the one set free splits another.

EM does not move a component from where there are too many to where there are too few. What a merge costs and what a
split gains can be estimated without running EM on all rows; the most promising pairs are then tried, and kept only
where the likelihood rises. After Ueda, Nakano, Ghahramani & Hinton, "SMEM algorithm for mixture models", Neural
Computation 12 (2000).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamgmm.components.grow import CONVERGED_STEPS, SMALLEST_GAIN, continue_em
from streamgmm.components.merge import merge_pair, rank_merges
from streamgmm.components.split import Split, apply_split, find_splits
from streamgmm.em.iteration import PlainEM, run_em, start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State, Step
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.parameters import MixtureParameters

#: Merges and splits whose pairs are looked at, and how many of these pairs are tried.
_MERGES, _SPLITS, _TRIES = 8, 8, 6
#: EM steps of a trial until the worse half leaves, and those in which the rest must beat what was there.
_FIRST_STEPS, _TRIAL_STEPS = 8, 40
#: A pair is tried where the split gains this share of the merge's cost, which is a bound and mostly too high.
_SHARE_OF_COST = 0.25
#: Rounds of such trials that fail, one after the other, until no more is looked for.
_FAILED_ROUNDS = 4
#: Relocations that are tried with the same split in one round.
_TRIES_OF_A_SPLIT = 2
#: EM steps that take as long as to find out how all components split, about.
_STEPS_OF_SPLITS = 10
#: A merge and the component that is split.
_Relocation = tuple[tuple[int, int], int]


def relocate(
    problem: Problem, state: State, rows: RowsInMemory, *, tol: float, seed: int, n_steps: int
) -> tuple[State, int]:
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
    number = n_failed = 0
    tried: set[_Relocation] = set()
    while n_steps > 0 and n_failed < _FAILED_ROUNDS:
        better, n_done = _first_better(problem, state, rows, tol, np.random.default_rng((seed, number)), tried)
        if n_done == 0:
            break
        n_steps, number = n_steps - n_done, number + 1
        if better is None:
            n_failed += 1
        else:
            state, n_failed, tried = better, 0, set()
    return state, n_steps


def _first_better(
    problem: Problem,
    state: State,
    rows: RowsInMemory,
    tol: float,
    rng: np.random.Generator,
    tried: set[_Relocation],
) -> tuple[State | None, int]:
    """Return a fit with a component relocated that is better, if there is one, and how many EM steps it took.

    What is tried goes into `tried`, and nothing that is in there is tried.
    """
    if state.best is None or state.best.kernel.is_centered or state.parameters.n_components < 3:
        return None, 0
    bound = state.lower_bound + SMALLEST_GAIN
    n_done = _STEPS_OF_SPLITS
    trials: list[State] = []
    for candidate in _candidates(problem, state.best, rows, rng, tried):
        beginning = _first_step(problem, candidate, rows)
        trial = continue_em(problem, beginning, rows, worth=bound, tol=tol, max_iter=_FIRST_STEPS, enough=bound)
        if trial is None:
            continue
        n_done += trial.n_iter
        if trial.lower_bound >= bound:
            trials = [trial]
            break
        trials.append(trial)
    trials.sort(key=lambda trial: -trial.lower_bound)
    for trial in trials[: _TRIES // 2]:
        found = continue_em(problem, trial, rows, worth=bound, tol=tol, max_iter=_TRIAL_STEPS, enough=bound)
        if found is None:
            continue
        n_done += found.n_iter - trial.n_iter
        if found.lower_bound >= bound:
            better = continue_em(problem, found, rows, worth=bound, tol=tol, max_iter=CONVERGED_STEPS)
            if better is not None and better.lower_bound >= bound:
                return better, n_done + better.n_iter - found.n_iter
            # A number for `reg_covar` may take away on the way to the end what was gained before.
    return None, n_done


def _first_step(problem: Problem, candidate: MixtureParameters, rows: RowsInMemory) -> State | None:
    """Do one EM step: where `reg_covar` adds to covariances, only what M-steps give can be compared."""
    try:
        first = run_em(
            replace(problem, repairs=False), start_state(candidate), rows.read, PlainEM(), tol=0.0, max_iter=1
        )
    except SingularCovarianceError:
        return None
    return start_state(first.safe)


def _candidates(
    problem: Problem, step: Step, rows: RowsInMemory, rng: np.random.Generator, tried: set[_Relocation]
) -> Iterator[MixtureParameters]:
    """Give mixtures with one component relocated in a way that was not tried, the most promising first."""
    cheapest = rank_merges(problem, step)[:_MERGES]
    best_splits = find_splits(problem, step.parameters, rows, rng)[:_SPLITS]
    pairs = [
        (split.gain - cost, (i, j), split)
        for cost, i, j in cheapest
        for split in best_splits
        if split.component not in (i, j)
        and split.gain > _SHARE_OF_COST * cost
        and ((i, j), split.component) not in tried
    ]
    pairs.sort(key=lambda pair: -pair[0])
    times: Counter[int] = Counter()
    for _, merge, split in pairs:
        if times[split.component] == _TRIES_OF_A_SPLIT or times.total() == _TRIES:
            continue
        times[split.component] += 1
        tried.add((merge, split.component))
        try:
            yield _relocation(problem, step, merge, split)
        except SingularCovarianceError:
            continue


def _relocation(problem: Problem, step: Step, merge: tuple[int, int], split: Split) -> MixtureParameters:
    """Merge two components, and split another."""
    kept, freed = merge
    place = split.component - (1 if split.component > freed else 0)
    return apply_split(merge_pair(problem, step, kept, freed), replace(split, component=place))
