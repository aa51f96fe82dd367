"""Growth: a mixture gets one component more by splitting that whose split gains most.

Verbeek, Vlassis & Krose, "Efficient greedy learning of Gaussian mixture models", Neural Computation 15 (2003).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from streamgmm.components.merge import merge_pair, rank_merges
from streamgmm.components.split import Split, apply_split, find_splits
from streamgmm.em.anderson import Anderson
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import PlainEM, iterate, run_em, start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.execution.threads import run_at_once
from streamgmm.gaussian.parameters import MixtureParameters

#: The cheapest merges, of which one is drawn.
_MERGES = 8
#: Splits that are tried for each component that a mixture grows by, and the EM steps of each.
_GROWTH_TRIES, _GROWTH_STEPS, _GROWTH_TOL = 2, 8, 1e-3
#: Rows on which a mixture is grown, at least.
FEWEST_ROWS = 5_000
#: Nats per row that a mixture must gain by what is done to it.
SMALLEST_GAIN = 1e-4
#: Steps to converge a fit, at most.
CONVERGED_STEPS = 60
#: A fit is given up if after some steps it is not worth having even with so many times what seems to be left to gain.
_FEWEST_GAINS, _HOPE = 4, 5.0


def grow(problem: Problem, state: State, rows: RowsInMemory, n_components: int, *, seed: int) -> State:
    """Split components one by one, each time the one whose split gains most, until there are `n_components`."""
    rng = np.random.default_rng(seed)
    problem = replace(problem, repairs=False, rough=True)
    known: dict[int, Split] = {}
    while state.safe.n_components < n_components:
        before = state.safe
        # Fewer components need fewer rows.
        part = rows.first(max(FEWEST_ROWS, len(rows) * (before.n_components + 1) // n_components))
        # The other components have hardly moved: their splits stay what they were.
        new = [k for k in range(before.n_components) if k not in known]
        known.update((split.component, split) for split in find_splits(problem, before, part, rng, new))
        best = sorted(known.values(), key=lambda split: -split.gain)[:_GROWTH_TRIES]
        work = before.natural_parameters().size * len(part)
        tried = run_at_once([partial(_tried, problem, before, split, part) for split in best], work=work)
        found = [(one, split.component) for one, split in zip(tried, best, strict=True) if one is not None]
        if not found:
            break
        state, component = max(found, key=lambda one: one[0].lower_bound)
        del known[component]
    return state


def _tried(problem: Problem, parameters: MixtureParameters, split: Split, rows: RowsInMemory) -> State | None:
    try:
        return run_em(
            problem, start_state(apply_split(parameters, split)), rows.read, PlainEM(), tol=_GROWTH_TOL,
            max_iter=_GROWTH_STEPS,
        )  # fmt: skip
    except SingularCovarianceError:
        return None


def regrow(problem: Problem, state: State, rows: RowsInMemory, part: RowsInMemory, *, tol: float, seed: int) -> State:
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
            if fewer.best is None or fewer.best.kernel.is_centered:
                return state
            pairs = rank_merges(problem, fewer.best)[:_MERGES]
            _, i, j = pairs[rng.integers(len(pairs))]
            fewer = run_em(
                replace(problem, repairs=False),
                start_state(merge_pair(problem, fewer.best, i, j)),
                part.read,
                Anderson(),
                tol=_GROWTH_TOL,
                max_iter=_GROWTH_STEPS,
            )
        again = grow(problem, fewer, part, n_components, seed=seed)
        ended = continue_em(
            problem, start_state(again.safe), rows, worth=state.lower_bound, tol=tol, max_iter=CONVERGED_STEPS
        )
    except SingularCovarianceError:
        return state
    if ended is None or ended.safe.n_components < n_components:
        return state
    return ended if ended.lower_bound > state.lower_bound + SMALLEST_GAIN else state


def continue_em(
    problem: Problem,
    state: State | None,
    rows: RowsInMemory,
    *,
    worth: float,
    tol: float,
    max_iter: int,
    enough: float = float("inf"),
) -> State | None:
    """Go on with EM until the fit is over, `max_iter` steps are done, or its bound is `enough`.

    None where it fails, or where it won't come to be `worth` anything by its own estimate of what is left to gain.
    """
    if state is None or state.stop_reason is StopReason.DEGENERATE:
        return None
    problem = replace(problem, repairs=False)
    state = replace(state, stop_reason=None)
    try:
        while state.stop_reason is None and state.lower_bound < enough:
            state = iterate(problem, state, rows.read, Anderson(), tol=tol, max_iter=max_iter)
            if len(state.gains) >= _FEWEST_GAINS and state.lower_bound + _HOPE * state.gap < worth:
                return None
    except SingularCovarianceError:
        return None
    return state
