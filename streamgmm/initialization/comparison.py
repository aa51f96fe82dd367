"""Fits to the same rows, compared: which are at one optimum, which can't be told apart, which leave nothing to find."""

from __future__ import annotations

import numpy as np

from streamgmm.components.split import find_splits
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State
from streamgmm.gaussian.e_step import evaluate

#: Two fits are the same if their log-densities of a row differ by less than this, nats in the mean square.
_SAME = 0.05
#: Fits are undecided if their mean log-likelihoods differ by less than so many standard errors of the difference.
_STANDARD_ERRORS = 2.0
#: A split describes something if it gains so many times what it would gain of noise. (Seen: up to 5 where the data is
#: a mixture with as many components, over 6 elsewhere.)
_TIMES_NOISE = 4.0


def keep_indistinguishable(problem: Problem, states: list[State], rows: RowsInMemory) -> list[State]:
    """Keep of fits, the best first, those whose likelihood the rows can't tell from the best's."""
    best, *others = states
    return [best] + [
        state
        for state, (mean, spread) in zip(others, _differences(problem, best, others, rows), strict=True)
        if mean < _STANDARD_ERRORS * spread / np.sqrt(len(rows))
    ]


def keep_distinct(problem: Problem, states: list[State], rows: RowsInMemory) -> list[State]:
    """Sort fits, the best first, and leave out those that are at the same optimum as a better one."""
    kept: list[State] = []
    for state in sorted(states, key=lambda state: -state.lower_bound):
        if all(spread > _SAME for _, spread in _differences(problem, state, kept, rows)):
            kept.append(state)
    return kept


def _differences(problem: Problem, state: State, others: list[State], rows: RowsInMemory) -> list[tuple[float, float]]:
    """Return mean and standard deviation over rows of how much larger a fit's log-density is than each other's."""
    if not others:
        return []
    z, share = rows.whiten(problem.whitening), rows.weight / rows.sum_weight
    log_prob = evaluate(z, state.safe, log_prob=True).log_prob
    found = []
    for other in others:
        difference = log_prob - evaluate(z, other.safe, log_prob=True).log_prob
        mean = float(share @ difference)
        found.append((mean, float(np.sqrt(share @ (difference - mean) ** 2))))
    return found


def is_well_described(problem: Problem, state: State, rows: RowsInMemory) -> bool:
    """Tell whether no component gains more by a split than its parameters fit of the noise: nothing is left to find.

    By Wilks' theorem q parameters more gain q / 2 nats in all where they describe nothing.
    """
    parameters = state.safe
    n_columns = parameters.family.n_terms(parameters.n_features)
    found = find_splits(problem, parameters, rows, np.random.default_rng(problem.seed))
    noise = [n_columns * parameters.weights[split.component] / (2.0 * split.n_rows) for split in found]
    return all(split.gain < _TIMES_NOISE * gain for split, gain in zip(found, noise, strict=True))


def count_at_same_optimum(problem: Problem, state: State, states: list[State], rows: RowsInMemory) -> int:
    """Return how many of some fits are at the optimum of one."""
    return sum(spread <= _SAME for _, spread in _differences(problem, state, states, rows))
