"""Expectation-maximisation: E-step, M-step, bound, repeat.

A pass over the rows is an E-step at some parameters theta; its statistics give the bound at theta and, by the M-step,
M(theta). Plain EM goes on from M(theta). An `Accelerator` may propose parameters further ahead; where the next pass
finds a lower bound there, it is thrown away, and the fit goes on from the stored M(theta), which EM guarantees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamgmm.em.convergence import StopReason, estimate_remaining_gain
from streamgmm.em.degeneracy import find_degenerate, reseed, widen_to_resolution
from streamgmm.em.state import Accelerator, Problem, Proposal, State, Step
from streamgmm.gaussian.e_step import PassModel
from streamgmm.gaussian.m_step import factor_moments
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel, bound_rounding
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.typing import Floats

#: How much of the bound on a log-density's error in float32 the mean over the rows may have.
_FLOAT32_NOISE = 0.1
#: A gain of this share of the tolerance says nothing if it may be rounding.
_NEXT_TO_NOTHING = 1e-3
#: Rounding of a mean log-likelihood in float64, relative to its size.
_FLOAT64_NOISE = 64 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class PlainEM:
    """No acceleration: the next pass is made at M(theta)."""

    guarded: bool = False

    def propose(self, problem: Problem, state: State, step: Step) -> Proposal:
        """Propose M(theta)."""
        return Proposal(step.updated, estimate_remaining_gain((*state.gains, step.gain)), None, "EM")

    def rejected(self, memory: Any) -> Any:
        """Keep nothing."""
        return None


def start_state(parameters: MixtureParameters, scatter: Floats | None = None) -> State:
    """Start from parameters in whitened coordinates."""
    n_reseeds = np.zeros(parameters.n_components, dtype=np.int64)
    return State(parameters, parameters, scatter=scatter, n_reseeds=n_reseeds)


#: One pass over the rows: from a model to their statistics under it.
Read = Callable[[PassModel], SufficientStatistics]


def run_em(
    problem: Problem,
    state: State,
    read: Read,
    accelerator: Accelerator,
    *,
    tol: float,
    max_iter: int,
) -> State:
    """Iterate until the estimated gap to the optimum is under `tol` (nats per row), or `max_iter` iterations are done.

    The last pass is never one of float32 products, but where the problem says that they are good enough.
    """
    while state.stop_reason is None:
        state = iterate(problem, state, read, accelerator, tol=tol, max_iter=max_iter)
    return state


def iterate(
    problem: Problem, state: State, read: Read, accelerator: Accelerator, *, tol: float, max_iter: int
) -> State:
    """Do one iteration, and say whether it was the last."""
    model = request_pass(problem, state, last=state.n_iter + 1 >= max_iter)
    statistics = read(model)  # E-step
    state = advance(problem, state, model, statistics, accelerator)  # M-step, bound, where to go next
    return apply_stopping_rules(problem, state, tol=tol, max_iter=max_iter)


def request_pass(problem: Problem, state: State, *, last: bool) -> PassModel:
    """Say what the next pass has to compute."""
    parameters = state.parameters
    rounding = bound_rounding(parameters, problem.reach)
    drowns = state.gap < 100.0 * _FLOAT32_NOISE * rounding.float32  # what is left to gain, in rounding
    float32 = problem.float32_rows and (problem.rough or not (state.exact or last or drowns))
    kernel = rounding.choose_kernel(float32_rows=float32, tolerance=problem.tolerance)
    collect = parameters.family.shared and not kernel.is_centered and state.scatter is None
    return PassModel(parameters, problem.whitening, kernel, collect_scatter=collect)


def em_step(problem: Problem, state: State, model: PassModel, statistics: SufficientStatistics) -> Step:
    """Do the M-step of a pass, and find its bound."""
    old, kernel = model.parameters, model.kernel
    family = old.family
    log_likelihood = _log_likelihood(problem, old, statistics, kernel)
    lower_bound = log_likelihood - problem.m_step.penalty(old) / statistics.sum_weight

    maximum = problem.m_step.maximize(family, statistics)
    found = widen_to_resolution(family, maximum, kernel.resolution)
    bad = find_degenerate(family, found, statistics.component_weights, problem.m_step, given=problem.given)
    n_reseeds = state.n_reseeds
    if len(bad) and problem.repairs:
        repaired = reseed(family, found, bad, n_reseeds, problem.sample, problem.seed + state.n_iter)
        new, n_reseeds = repaired.parameters, repaired.n_reseeds
    else:
        new = old if len(bad) else factor_moments(family, found)
    if len(bad):
        gain = float("inf")
    elif found is maximum:
        rise = problem.m_step.expected_rise(statistics.component_weights, old, new)
        gain = rise / statistics.sum_weight
    else:
        gain = expected_gain(problem, statistics, old, new)
    return Step(old, statistics, kernel, log_likelihood, lower_bound, new, gain, bool(len(bad)), n_reseeds)


def advance(
    problem: Problem, state: State, model: PassModel, statistics: SufficientStatistics, accelerator: Accelerator
) -> State:
    """Take in the statistics of a pass: accept its parameters or not, and choose those of the next."""
    scatter = statistics.scatter if model.collect_scatter else state.scatter
    if model.parameters.family.shared and statistics.scatter is None:
        statistics = replace(statistics, scatter=scatter)
    state = replace(
        state,
        n_iter=state.n_iter + 1,
        kernels=(*state.kernels, model.kernel),
        labels=(*state.labels, state.label),
        scatter=scatter,
        n_missing=statistics.n_missing,
    )
    step = em_step(problem, state, model, statistics)
    best = state.best
    # EM's own step can be lower by rounding only; turned down it would come again and again.
    guarded = accelerator.guarded and best is not None and not step.parameters.equals(best.updated)
    if guarded and best is not None and not _rises(problem, best, step):
        return reject_proposal(state, accelerator)
    bounds = (*state.lower_bounds, step.lower_bound)
    state = replace(state, accepted=(*state.accepted, True))
    if accelerator.guarded:
        # A bound that float32 products found a little too high is corrected by a later one.
        bounds = tuple(min(bound, step.lower_bound) for bound in bounds)
    if step.degenerate:
        # A component that was seeded again begins a new descent: rates from before say nothing about it.
        reason = None if problem.repairs else StopReason.DEGENERATE
        return replace(
            state,
            parameters=step.updated,
            safe=step.updated,
            lower_bounds=bounds,
            gains=(),
            gap=float("inf"),
            best=None,
            memory=None,
            label="reseed",
            n_reseeds=step.n_reseeds,
            stop_reason=reason,
        )
    proposal = accelerator.propose(problem, state, step)
    return replace(
        state,
        parameters=proposal.parameters,
        safe=step.updated,
        lower_bounds=bounds,
        gains=(*state.gains, step.gain),
        gap=proposal.gap,
        best=step,
        memory=proposal.memory,
        label=proposal.label,
    )


def apply_stopping_rules(problem: Problem, state: State, *, tol: float, max_iter: int) -> State:
    """Say whether, and why, a fit is over."""
    if state.stop_reason is not None or not state.kernels:
        return state
    if state.gap < tol:
        if state.kernels[-1].is_rounded and not problem.rough:
            return replace(state, exact=True)
        return replace(state, stop_reason=StopReason.CONVERGED)
    if state.best is not None and state.accepted[-1]:
        exact = not state.best.kernel.is_rounded or problem.rough
        bound = _gain_noise(problem, state.best)
        # It is mostly far too high: to end a fit it counts for gains that are next to nothing anyway.
        noise = max(_float64_noise(state.best), min(bound, _NEXT_TO_NOTHING * tol) if exact else bound)
        # Steps of this size are rounding: their ratios say nothing of a rate, so that the gap may be anything.
        drowned = min(state.best.gain, state.gap) <= noise
        if drowned and exact and tol > 0.0:
            # Nothing more can be said, or done.
            return replace(state, gap=noise, stop_reason=StopReason.NOISE_FLOOR)
        if drowned and not exact:
            # What the accelerator knows of such steps is rounding too.
            state = replace(state, exact=True, gains=(), memory=None)
    if state.n_iter >= max_iter:
        return replace(state, stop_reason=StopReason.MAX_ITER)
    return state


def reject_proposal(state: State, accelerator: Accelerator) -> State:
    """Throw a proposal away: go on from M(theta) of the best step, or try the same again without float32 products."""
    bounds = (*state.lower_bounds, state.lower_bound)
    state = replace(state, accepted=(*state.accepted, False))
    if state.kernels[-1].is_rounded and not state.exact:
        return replace(state, lower_bounds=bounds, exact=True)
    assert state.best is not None
    return replace(
        state,
        parameters=state.best.updated,
        lower_bounds=bounds,
        memory=accelerator.rejected(state.memory),
        label="EM",
        n_rejected=state.n_rejected + 1,
    )


def _rises(problem: Problem, best: Step, step: Step) -> bool:
    """Tell whether a step's parameters are at least as good as the best so far, but for rounding.

    With a number for `reg_covar` the cost of what it adds is taken for the N_k of the best step: M(theta) is then
    always at least as good as theta.
    """
    n_k, total = best.statistics.component_weights, best.statistics.sum_weight
    cost = problem.m_step.cost_of_added
    before = best.lower_bound - cost(best.parameters, n_k) / total
    after = step.lower_bound - cost(step.parameters, n_k) / total
    return after >= before - rounding_between(problem, best, step)


def rounding_between(problem: Problem, best: Step, step: Step) -> float:
    """Return by how much the bounds of two steps may differ by rounding, nats per row."""
    noise = _float64_noise(best)
    for one in (best, step):
        if one.kernel.is_rounded:
            noise = max(noise, _FLOAT32_NOISE * bound_rounding(one.parameters, problem.reach).float32)
    return noise


def _float64_noise(step: Step) -> float:
    return float(_FLOAT64_NOISE * (1.0 + abs(step.log_likelihood)))


def _gain_noise(problem: Problem, step: Step) -> float:
    """Bound the DeltaQ that rounding alone may give: its terms are large where a component is tight.

    Products in float32 move M(theta) too, by about what they move log-densities by, and DeltaQ is half of its square.
    """
    if step.kernel.is_centered:
        return 0.0
    size = float(np.abs(step.statistics.sums * step.parameters.natural_parameters()).sum())
    noise = 4.0 * float(np.finfo(np.float64).eps) * size / step.statistics.sum_weight
    if step.kernel.is_rounded:
        noise += 0.5 * bound_rounding(step.parameters, problem.reach).float32 ** 2
    return noise


def _log_likelihood(
    problem: Problem, parameters: MixtureParameters, statistics: SufficientStatistics, kernel: Kernel
) -> float:
    """Return the mean log-likelihood per row in the data's coordinates."""
    total = statistics.log_likelihood
    if parameters.family.shared and not kernel.is_centered and statistics.scatter is not None:
        # The quadratic term that the logits of tied covariances leave out.
        total -= 0.5 * float((parameters.precisions * statistics.scatter).sum())
    return total / statistics.sum_weight + problem.whitening.log_det


def expected_gain(
    problem: Problem, statistics: SufficientStatistics, old: MixtureParameters, new: MixtureParameters
) -> float:
    """Return by how much the expected log-likelihood, less the penalty, is higher at new parameters, nats per row."""
    return _expected(problem, new, statistics) - _expected(problem, old, statistics)


def _expected(problem: Problem, parameters: MixtureParameters, statistics: SufficientStatistics) -> float:
    """Return the expected complete log-likelihood per row, less the penalty: what an M-step maximises."""
    expected = parameters.family.expected_log_likelihood(
        statistics, parameters.weights, parameters.means, parameters.precisions_cholesky
    )
    cost = problem.m_step.penalty(parameters)
    cost += problem.m_step.cost_of_added(parameters, statistics.component_weights)
    return (expected - cost) / statistics.sum_weight
