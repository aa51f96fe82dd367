"""Several fits that share the passes over the rows; those that can't win any more leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import advance, apply_stopping_rules, request_pass
from streamgmm.em.passes import PassOutcome, UnlikelyRows
from streamgmm.em.state import Accelerator, Problem, State
from streamgmm.gaussian.e_step import PassModel

#: A fit leaves when the best is ahead of what it may still reach by so many standard errors of the difference.
_STANDARD_ERRORS = 2.0
#: The estimate of a gap counts so many times: on a plateau it is far too small.
_DOUBT = 10.0
#: Rows that the first pass keeps of those with the lowest density.
N_UNLIKELY = 512


@dataclass(frozen=True)
class Candidate:
    """One of several fits.

    Attributes
    ----------
    problem : Problem
    accelerator : Accelerator
    state : State
    score : float
        What it is compared by, nats per row, the higher the better: its bound, or a criterion.
    dropped : bool
        Whether it has left.
    group : int
        Candidates of one group are starts of one model: only the best of them counts.
    slack : float
        By how much its score may rise beside its bound, nats per row.
    record : tuple
        What a comparison has noted of each pass that it took part in.
    """

    problem: Problem
    accelerator: Accelerator
    state: State
    score: float
    dropped: bool = False
    group: int = 0
    slack: float = 0.0
    record: tuple[Any, ...] = ()

    @classmethod
    def begin(cls, problem: Problem, accelerator: Accelerator, state: State, *, group: int = 0) -> Candidate:
        """Return a candidate that stands where a state does."""
        return cls(problem, accelerator, state, state.lower_bound, group=group)

    @property
    def active(self) -> bool:
        """Whether it takes part in the next pass."""
        return not self.dropped and self.state.stop_reason is None

    @property
    def forecast(self) -> float:
        """The score that it may still reach, by its own estimate and some more."""
        return self.score + self.slack + _DOUBT * max(self.state.gap, 0.0)


class Comparison(Protocol):
    """How candidates are compared after a pass."""

    def score(self, candidate: Candidate, place: int, outcome: PassOutcome) -> Candidate:
        """Return a candidate with its score after a pass; it is the one at `place` among those of the pass."""

    def standard_error(self, place: int, best: int, outcome: PassOutcome) -> float:
        """Return the standard error of the difference between two of the pass, nats per row."""


@dataclass(frozen=True)
class ByBound:
    """Restarts of one model are compared by their bounds."""

    def score(self, candidate: Candidate, place: int, outcome: PassOutcome) -> Candidate:
        """Score by the bound."""
        return replace(candidate, score=candidate.state.lower_bound)

    def standard_error(self, place: int, best: int, outcome: PassOutcome) -> float:
        """Return that of the mean paired difference over the tasks; zero where there are too few to tell."""
        used = outcome.task_weights > 0.0
        n_tasks, weights = int(used.sum()), outcome.task_weights[used]
        if n_tasks < 2:
            return 0.0
        totals = outcome.task_log_likelihoods[used]
        difference = totals[:, place] - totals[:, best]
        residual = difference - weights * (difference.sum() / weights.sum())
        variance = float((residual**2).sum()) * n_tasks / (n_tasks - 1)
        return float(np.sqrt(variance) / weights.sum())


#: Makes another candidate of one and of the rows that it explains worst, or none.
Challenge = Callable[[Candidate, UnlikelyRows], Candidate | None]
#: One pass over the rows for several models.
ReadTogether = Callable[[tuple[PassModel, ...]], PassOutcome]


def run_together(
    candidates: Sequence[Candidate],
    read: ReadTogether,
    *,
    tol: float,
    max_iter: int,
    comparison: Comparison | None = None,
    challenge: Challenge | None = None,
    callback: Callable[[Sequence[Candidate]], object] | None = None,
    n_iter: int = 0,
    patient: bool = False,
) -> list[Candidate]:
    """Run several fits; each iteration is one pass over the rows for all that take part.

    Parameters
    ----------
    candidates : sequence of Candidate
    read : callable
    tol : float
        Nats per row to the estimated optimum, for each fit.
    max_iter : int
        Most passes; with 0 the starts are the fits.
    comparison : Comparison, optional
        By their bounds where not given.
    challenge : callable, optional
        Called once, after the first pass: may return another candidate, made of the rows that the first one explains
        worst.
    callback : callable, optional
        Called with the candidates after each pass; all stop where it returns True.
    n_iter : int
        Readings that have been made before.
    patient : bool, default=False
        Whether nobody leaves before it has stopped: what it may still gain is an estimate, and where no rows are read
        to be sure costs little.

    Returns
    -------
    list of Candidate
        In the order given; those that left are marked.
    """
    comparison = ByBound() if comparison is None else comparison
    fits = list(candidates)
    if max_iter == 0:
        return [replace(fit, state=replace(fit.state, stop_reason=StopReason.MAX_ITER)) for fit in fits]
    while any(fit.active for fit in fits):
        n_iter += 1
        chosen = [at for at, fit in enumerate(fits) if fit.active]
        models = tuple(request_pass(fits[at].problem, fits[at].state, last=n_iter >= max_iter) for at in chosen)
        if challenge is not None and n_iter == 1:
            models = (replace(models[0], n_unlikely=N_UNLIKELY), *models[1:])
        outcome = read(models)  # the E-steps
        for place, (at, model) in enumerate(zip(chosen, models, strict=True)):
            fit = fits[at]
            state = advance(fit.problem, fit.state, model, outcome.statistics[place], fit.accelerator)
            state = apply_stopping_rules(fit.problem, state, tol=tol, max_iter=max_iter)
            fits[at] = comparison.score(replace(fit, state=state), place, outcome)
        if not patient:
            fits = _without_losers(fits, chosen, outcome, comparison)
        if challenge is not None and n_iter == 1 and outcome.unlikely is not None and fits[0].active:
            challenger = challenge(fits[0], outcome.unlikely)
            fits += [] if challenger is None else [challenger]
        if callback is not None and callback(fits) is True:
            stopped = StopReason.STOPPED
            fits = [replace(fit, state=replace(fit.state, stop_reason=stopped)) if fit.active else fit for fit in fits]
    return fits


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest score of those that have not left."""
    return max((fit for fit in candidates if not fit.dropped), key=lambda fit: fit.score)


def _without_losers(
    fits: list[Candidate], chosen: list[int], outcome: PassOutcome, comparison: Comparison
) -> list[Candidate]:
    if sum(not fit.dropped for fit in fits) < 2:
        return fits
    best = best_candidate(fits)
    of_group = {
        fit.group: best_candidate([one for one in fits if one.group == fit.group]) for fit in fits if not fit.dropped
    }
    places = {at: place for place, at in enumerate(chosen)}

    def behind(at: int, fit: Candidate, better: Candidate) -> bool:
        reference = next((places[at] for at in chosen if fits[at] is better), None)
        error = 0.0
        if reference is not None and at in places:
            error = comparison.standard_error(places[at], reference, outcome)
        return fit is not better and fit.forecast + _STANDARD_ERRORS * error < better.score

    def lost(at: int, fit: Candidate) -> bool:
        return not fit.dropped and (behind(at, fit, best) or behind(at, fit, of_group[fit.group]))

    return [replace(fit, dropped=True) if lost(at, fit) else fit for at, fit in enumerate(fits)]
