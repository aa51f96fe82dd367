"""Surrogate steps: between two passes, the full data's likelihood is maximised on a sample that is corrected for them.

After a pass at theta_t with statistics S, let Delta = S - (N / n) S_sample(theta_t). The surrogate

    L(theta) = (N / n) L_sample(theta) + <Delta, Theta(theta)>

has the full data's gradient at theta_t and the sample's curvature. Since <Delta, Theta> is linear in the natural
parameters, EM on it is EM with corrected statistics, S_sample(theta) N / n + Delta, and never lowers it. Fixed points
of theta_t -> argmax L are those of the full data, and where EM's error shrinks by its rate from pass to pass, this
one's shrinks by the sample's relative error of the curvature, whatever that rate is. Anderson acceleration of the map
takes care of the few directions in which the sample knows the curvature badly.

Where the likelihood is so flat that the sample has even the curvature's sign wrong, the surrogate has no maximum. It is
then damped: L(theta) + damping <S, Theta(theta)> has the same gradient at theta_t, times 1 + damping, and goes from the
surrogate to EM's own lower bound as the damping grows; that is Levenberg's and Marquardt's method, with the information
of the complete data for the metric. EM on it is EM with (S_sample(theta) N / n + Delta + damping S) / (1 + damping).
A component of which the sample has hardly any rows keeps the full data's statistics: it takes an EM step.

By how much the surrogate rises is an estimate of what is left to gain.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamgmm.em.anderson import Anderson, History, extrapolate
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import (
    Read,
    advance,
    apply_stopping_rules,
    expected_gain,
    reject_proposal,
    request_pass,
    rounding_between,
    start_state,
)
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, Proposal, State, Step
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.e_step import PassModel
from streamgmm.gaussian.precision import SEARCH_TOLERANCE, Kernel
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.serialization import serializable

#: Steps on the surrogate between two passes: what they cost is so many passes at most, but some are always done.
_MOST_PASSES, _FEWEST_STEPS, _MOST_STEPS = 4, 10, 100
#: The surrogate is solved to this share of what was gained on it.
_RELATIVE_GAP = 0.02
#: How many times more rows the surrogate takes after a proposal was thrown away.
_ESCALATION = 4
#: The damping where some is needed, the factor by which it changes, and that above which EM itself is as good.
_FIRST_DAMPING, _DAMPING_FACTOR, _MOST_DAMPING = 0.01, 4.0, 1.0
#: A component with fewer rows in the sample for each of its statistics takes a plain EM step.
_ROWS_PER_FEATURE_OF_PHI = 4.0


@serializable
@dataclass(frozen=True)
class Memory:
    """What is kept from pass to pass.

    Attributes
    ----------
    history : History
        Of the surrogate's map, or of EM's where the surrogate is off.
    damping : float
        With which the surrogate is tried first; beyond the most that is of use, it is off.
    used : float
        With which the last proposal was made.
    n_rows : int
        Rows of the sample that the surrogate takes.
    predicted : float
        What the last proposal was to gain, nats per row; NaN where it was none of the surrogate's.
    optimism : float
        The largest ratio of what was gained to what was predicted, at least 1.
    """

    history: History = field(default_factory=History)
    damping: float = 0.0
    used: float = 0.0
    n_rows: int = 0
    predicted: float = float("nan")
    optimism: float = 1.0

    def after_failure(self, sample: RowsInMemory) -> Memory:
        """Return the memory with more rows, where the sample has them; else with more damping."""
        if self.n_rows < len(sample):
            return replace(self, n_rows=_ESCALATION * self.n_rows)
        return replace(self, damping=max(_FIRST_DAMPING, _DAMPING_FACTOR * self.damping))


@dataclass(frozen=True)
class Surrogate:
    """EM accelerated by surrogate steps on a sample, and by Anderson's extrapolation of those.

    Attributes
    ----------
    sample : RowsInMemory
    n_rows : int
        How many of its rows are taken until a surrogate has no maximum, or a proposal is thrown away.
    n_total : int
        Rows of the full data.
    tol : float
        The surrogate is never solved to less than a tenth of this, nats per row.
    """

    sample: RowsInMemory
    n_rows: int
    n_total: int
    tol: float
    guarded: bool = field(default=True, init=False)

    def propose(self, problem: Problem, state: State, step: Step) -> Proposal:
        """Solve the surrogate at a step, and extrapolate."""
        memory = state.memory if state.memory is not None else Memory(n_rows=self.n_rows)
        realised = _realised(problem, memory, state, step)
        if realised is not None:
            memory = replace(memory, optimism=max(memory.optimism, realised))
        solved = None
        # What is unsound here need not be so nearer to the optimum: the damping that helps is not kept.
        trial = memory
        while solved is None and trial.damping <= _MOST_DAMPING and not step.kernel.is_centered:
            solved = self._solved(problem, step, trial)
            if solved is None:
                trial = trial.after_failure(self.sample)
        memory = replace(memory, n_rows=trial.n_rows, used=trial.damping)
        if solved is None:
            # Points of the surrogate's map say nothing about EM's.
            before = memory.history if np.isnan(memory.predicted) else History()
            plain = Anderson().propose(problem, replace(state, memory=before), step)
            history = plain.memory if plain.memory is not None else History()
            return replace(plain, memory=replace(memory, history=history, predicted=float("nan")))
        gained = _gained(problem, step, solved, trial.damping)
        before = History() if np.isnan(memory.predicted) else memory.history
        following, history, stretch = extrapolate(before, step.parameters, solved.safe)
        gap = max(gained, step.gain, 0.0) * max(memory.optimism, stretch if trial.damping else 1.0)
        return Proposal(following, gap, replace(memory, history=history, predicted=gained), "surrogate")

    def rejected(self, memory: Any) -> Memory:
        """Forget the history, and go on with more rows; where there are none, with more damping."""
        if memory is None:
            return Memory(n_rows=self.n_rows)
        assert isinstance(memory, Memory)
        following = memory
        if not np.isnan(memory.predicted):
            following = replace(memory, damping=memory.used).after_failure(self.sample)
        return replace(following, history=History(), predicted=float("nan"))

    def _solved(self, problem: Problem, step: Step, memory: Memory) -> State | None:
        """Maximise the surrogate; None where the correction is so much that it has no maximum."""
        inner = replace(problem, float32_rows=False, repairs=False, tolerance=SEARCH_TOLERANCE)
        state = start_state(step.parameters, scatter=step.statistics.scatter)
        rows = self.sample.first(memory.n_rows)
        read = _corrected(problem, step, rows, memory.damping)
        n_steps = int(np.clip(_MOST_PASSES * self.n_total / len(rows), _FEWEST_STEPS, _MOST_STEPS))
        try:
            while state.stop_reason is None:
                following = _advanced(inner, state, read)
                if following is None:
                    if state.best is None or state.parameters is state.best.updated:
                        return None
                    # Anderson went too far: back to where EM goes.
                    following = reject_proposal(state, Anderson())
                state = following
                gained = state.lower_bounds[-1] - state.lower_bounds[0]
                state = apply_stopping_rules(
                    inner, state, tol=max(0.1 * self.tol, _RELATIVE_GAP * gained, 1e-15), max_iter=n_steps
                )
        except SingularCovarianceError:
            return None
        return state


def _advanced(problem: Problem, state: State, read: Read) -> State | None:
    """Do an EM step on the surrogate; None where the correction is too much for the sample.

    That shows in weights under zero, or in a component that collapses.
    """
    model = request_pass(problem, state, last=False)
    if model.kernel.is_centered:
        return None
    statistics = read(model)
    if not (statistics.component_weights > 0.0).all():
        return None
    following = advance(problem, state, model, statistics, Anderson())
    collapsed = following.stop_reason is StopReason.DEGENERATE
    if collapsed or request_pass(problem, start_state(following.safe), last=False).kernel.is_centered:
        return None
    return following


def _gained(problem: Problem, step: Step, solved: State, damping: float) -> float:
    """Return by how much the surrogate without its damping has risen, nats per row."""
    rise = solved.lower_bounds[-1] - solved.lower_bounds[0]
    if damping > 0.0 and solved.best is not None:
        expected = expected_gain(problem, step.statistics, step.parameters, solved.best.parameters)
        rise += damping * (rise - expected)
    # Where nothing is known yet of what is left, as much again.
    return rise + (solved.gap if np.isfinite(solved.gap) else rise)


def _corrected(problem: Problem, step: Step, rows: RowsInMemory, damping: float = 0.0) -> Read:
    """Return E-steps on the sample's rows whose statistics at the step's parameters are the full data's."""
    scale = step.statistics.sum_weight / rows.sum_weight
    # The scatter of tied covariances is known for the full data: only linear terms are left to correct.
    full = replace(step.statistics, scatter=None)

    def on_sample(model: PassModel) -> SufficientStatistics:
        return rows.read(model).scaled(scale)

    at_step = on_sample(PassModel(step.parameters, problem.whitening, Kernel.FLOAT64))
    correction = full.sums - at_step.sums
    correction_of_bound = full.log_likelihood - at_step.log_likelihood
    theta = step.parameters.natural_parameters()
    unknown = at_step.component_weights < scale * _ROWS_PER_FEATURE_OF_PHI * full.sums.shape[1]

    def read(model: PassModel) -> SufficientStatistics:
        found = on_sample(model)
        moved = model.parameters.natural_parameters() - theta
        linear = float(((correction + damping * full.sums) * moved).sum())
        constant = correction_of_bound + damping * full.log_likelihood
        sums = (found.sums + correction + damping * full.sums) / (1.0 + damping)
        sums[unknown] = full.sums[unknown]
        return replace(
            found,
            sums=sums,
            log_likelihood=(found.log_likelihood + constant + linear) / (1.0 + damping),
            sum_weight=full.sum_weight,
            n_missing=0,
        )

    return read


def _realised(problem: Problem, memory: Memory, state: State, step: Step) -> float | None:
    """Return the ratio of what the last surrogate step gained to what was predicted; None after other steps.

    What may be rounding was not gained.
    """
    if state.best is None or not memory.predicted > 0.0:
        return None
    noise = rounding_between(problem, state.best, step)
    return (step.lower_bound - state.best.lower_bound - noise) / memory.predicted
