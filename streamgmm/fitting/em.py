"""Expectation-maximisation: E-step, bound, M-step, repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from streamgmm.fitting.degeneracy import degenerate_components, repair, resolved
from streamgmm.fitting.stopping import StopReason, remaining_gain
from streamgmm.mixture.arrays import Floats, Integers
from streamgmm.mixture.e_step import PassModel
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.m_step import Regularization, factored, moments
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.precision import RESOLUTION, Kernel, choose_kernel
from streamgmm.mixture.statistics import SufficientStatistics


@dataclass(frozen=True)
class Problem:
    """What stays the same from iteration to iteration.

    Attributes
    ----------
    frame : Frame
        The coordinates of everything below.
    regularization : Regularization
    reach : ndarray of shape (n_features,)
        A high quantile of |z_j|: what the choice of a kernel goes by.
    float32_rows : bool
        Whether the rows are held in float32 (or less), so that float32 products lose nothing of them.
    sample : ndarray of shape (n, n_features)
        Rows to seed a degenerate component at.
    seed : int
        Of the choices made when a component is seeded again.
    read : callable
        One pass: from a `PassModel` to the `SufficientStatistics` of all rows.
    """

    frame: Frame
    regularization: Regularization
    reach: Floats
    float32_rows: bool
    sample: Floats
    seed: int
    read: Callable[[PassModel], SufficientStatistics]


@dataclass(frozen=True)
class State:
    """Where a fit stands.

    Attributes
    ----------
    parameters : MixtureParameters
        In the frame's coordinates.
    n_iter : int
        Iterations done.
    lower_bounds : tuple of float
        Of each iteration, at the parameters that entered it: mean log-likelihood per row in nats, less the penalty.
    gains : tuple of float
        Of each iteration: DeltaQ per row in nats.
    kernels : tuple of Kernel
        The arithmetic of each pass.
    gap : float
        Estimate of what is left to gain, nats per row.
    stop_reason : StopReason or None
        None while it goes on.
    exact : bool
        Whether float32 products are ruled out from here on.
    scatter : ndarray or None
        sum w z z', once a pass has collected it (tied covariances).
    n_reseeds : ndarray of shape (n_components,)
        How often each component was seeded again.
    n_missing : int
        Rows with a missing value in the last pass.
    """

    parameters: MixtureParameters
    n_iter: int = 0
    lower_bounds: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    gap: float = float("inf")
    stop_reason: StopReason | None = None
    exact: bool = False
    scatter: Floats | None = None
    n_reseeds: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_missing: int = 0


def init(parameters: MixtureParameters) -> State:
    """Start from parameters in the frame's coordinates."""
    return State(parameters, n_reseeds=np.zeros(parameters.n_components, dtype=np.int64))


def step(problem: Problem, state: State) -> State:
    """Do one iteration: a pass over all rows, then an M-step."""
    old = state.parameters
    kernel = choose_kernel(old, problem.reach, float32_rows=problem.float32_rows and not state.exact)

    # E-step
    collect = old.family.shared and kernel is not Kernel.CAREFUL and state.scatter is None
    statistics = problem.read(PassModel(old, problem.frame, kernel, collect_scatter=collect))
    scatter = statistics.scatter if collect else state.scatter
    if old.family.shared and statistics.scatter is None:
        statistics = replace(statistics, scatter=scatter)
    lower_bound = _lower_bound(problem, old, statistics, kernel)

    # M-step
    found = moments(old.family, statistics, problem.regularization)
    found = resolved(old.family, found, RESOLUTION[kernel])
    bad = degenerate_components(old.family, found, statistics.component_weights)
    if len(bad):
        repaired = repair(old.family, found, bad, state.n_reseeds, problem.sample, problem.seed + state.n_iter)
        new, n_reseeds = repaired.parameters, repaired.n_reseeds
        gain = float("inf")
    else:
        new = factored(old.family, found)
        n_reseeds = state.n_reseeds
        gain = _objective(problem, new, statistics) - _objective(problem, old, statistics)

    # A component that was seeded again begins a new descent: rates from before say nothing about it.
    gains = () if len(bad) else (*state.gains, gain)
    return replace(
        state,
        parameters=new,
        n_iter=state.n_iter + 1,
        lower_bounds=(*state.lower_bounds, lower_bound),
        gains=gains,
        kernels=(*state.kernels, kernel),
        gap=remaining_gain(gains),
        scatter=scatter,
        n_reseeds=n_reseeds,
        n_missing=statistics.n_missing,
    )


def run(
    problem: Problem,
    state: State,
    *,
    tol: float,
    max_iter: int,
    callback: Callable[[State], None] | None = None,
) -> State:
    """Iterate until the estimated gap to the optimum is under `tol` (nats per row), or `max_iter` iterations are done.

    The last pass is never one of float32 products.
    """
    while state.stop_reason is None:
        if state.n_iter + 1 >= max_iter:
            state = replace(state, exact=True)
        state = step(problem, state)
        if state.gap < tol:
            if state.kernels[-1] is Kernel.FLOAT32:
                state = replace(state, exact=True)
            else:
                state = replace(state, stop_reason=StopReason.CONVERGED)
        if state.stop_reason is None and state.n_iter >= max_iter:
            state = replace(state, stop_reason=StopReason.MAX_ITER)
        if callback is not None:
            callback(state)
    return state


def _lower_bound(
    problem: Problem, parameters: MixtureParameters, statistics: SufficientStatistics, kernel: Kernel
) -> float:
    """Return the mean log-likelihood per row in the data's coordinates, less the penalty."""
    total = statistics.log_likelihood
    if parameters.family.shared and kernel is not Kernel.CAREFUL and statistics.scatter is not None:
        # The quadratic term that the logits of tied covariances leave out.
        total -= 0.5 * float((parameters.precisions * statistics.scatter).sum())
    total -= problem.regularization.penalty(parameters)
    return total / statistics.sum_weight + problem.frame.log_det


def _objective(problem: Problem, parameters: MixtureParameters, statistics: SufficientStatistics) -> float:
    """Return the expected complete log-likelihood per row, less the penalty: what an M-step maximises."""
    expected = parameters.family.expected_log_likelihood(
        statistics, parameters.weights, parameters.means, parameters.precisions_cholesky
    )
    return (expected - problem.regularization.penalty(parameters)) / statistics.sum_weight
