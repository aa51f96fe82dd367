"""Several models of different sizes and families, fed by the same passes, and compared.

Held-out rows enter no statistics, and their log-density under each model is summed up in the pass, with the products of
the models' (for the standard error of any difference). Each candidate has the starts that it would have alone. A start
whose forecast falls behind its candidate's best, or behind the best of all, by more than two standard errors leaves;
those that are too close to each other to choose at the end go on to the tolerance of a fit. Where the sample holds all
rows nobody leaves: all are fitted to their end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamgmm.checkpoint.progress import Progress
from streamgmm.em.candidates import ByBound, Candidate, ReadTogether, best_candidate, run_together
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import start_state
from streamgmm.em.passes import PassOutcome
from streamgmm.em.state import Problem, Step
from streamgmm.execution.blas import one_blas_thread
from streamgmm.execution.passes import PassCost, run_measured_pass
from streamgmm.fitting.fit import FitResult, refine
from streamgmm.fitting.held_out import HeldOut, SelectionFunction, SelectionOutcome, Split, check_enough_held_out
from streamgmm.fitting.prepare import Preparation, prepare
from streamgmm.fitting.probe import place_rows
from streamgmm.fitting.settings import Settings
from streamgmm.fitting.starts import start_fit
from streamgmm.gaussian.e_step import PassModel
from streamgmm.sources.base import Rows

#: What models can be compared by.
CRITERIA = ("bic", "aic", "icl", "held_out")
#: Nats per row to the optimum to which every candidate is fitted; those that this can't tell apart go on.
_SELECTION_TOL = 1e-4


@dataclass(frozen=True)
class Compared:
    """One candidate of a search, as it stood in its last pass.

    Attributes
    ----------
    n_components : int
        That the mixture has.
    n_asked : int
        That were asked for. The mixture has fewer where components starved or collapsed and were left out: it is then
        one of the smaller number.
    covariance_type : str
    n_parameters : int
    log_likelihood : float
        Mean over the rows that were fitted, nats per row.
    bic, aic, icl : float
        Information criteria on these rows; the lower the better. ICL is BIC + 2 E with E the entropy of the
        responsibilities (Biernacki, Celeux & Govaert, IEEE Trans. PAMI 22, 2000).
    held_out, held_out_error : float
        Mean log-density of the held-out rows, nats per row, and its standard error; NaN where none were held out.
    behind, behind_error : float
        How far `held_out` is behind the chosen candidate's, and the standard error of this difference, in the last
        pass that both took part in; NaN where there is none since either lost components.
    gap : float
        Estimated distance to its optimum, nats per row.
    n_passes : int
        Passes in which it took part.
    dropped : bool
        Whether it left before the end, when it could not win any more.
    """

    n_components: int
    n_asked: int
    covariance_type: str
    n_parameters: int
    log_likelihood: float
    bic: float
    aic: float
    icl: float
    held_out: float
    held_out_error: float
    behind: float
    behind_error: float
    gap: float
    n_passes: int
    dropped: bool


@dataclass(frozen=True)
class Selection:
    """The candidates, which of them is the best, and its fit to all rows."""

    compared: tuple[Compared, ...]
    best: int
    fit: FitResult


def select(
    rows: Rows,
    candidates: Sequence[Settings],
    criterion: str,
    share: float,
    callback: Callable[[Sequence[Candidate]], object] | None = None,
) -> Selection:
    """Fit all candidates with the same passes, choose the best, and fit that to all rows.

    Parameters
    ----------
    rows : Rows
    candidates : sequence of Settings
        That differ in `n_components` and `covariance_type` only.
    criterion : str
        One of `CRITERIA`.
    share : float
        Of the rows to hold out.
    callback : callable, optional
        Called with the candidates after each pass; all stop where it returns True.
    """
    with one_blas_thread():
        return _select(rows, candidates, criterion, share, callback)


def _select(
    rows: Rows,
    candidates: Sequence[Settings],
    criterion: str,
    share: float,
    callback: Callable[[Sequence[Candidate]], object] | None,
) -> Selection:
    began = time.perf_counter()
    rows, plan = place_rows(rows, candidates)
    prepared = prepare(rows, candidates, plan.sample_rows)
    if criterion == "held_out":
        check_enough_held_out(rows.description, prepared.surveyed.sum_weight, share)
    split = Split.chosen(share, candidates[0].seed, prepared.sample, complete=prepared.complete)
    costs = [prepared.cost]
    fits = _begun(prepared, candidates, split)
    comparison = ByCriterion(criterion)
    read = _reader(prepared, SelectionFunction(split), costs)
    tol, max_iter = candidates[0].tol, candidates[0].max_iter
    # Where no rows are read any more, every candidate is fitted to its end.
    patient = prepared.complete
    fits = run_together(
        fits,
        read,
        tol=tol if patient else max(tol, _SELECTION_TOL),
        max_iter=max_iter,
        comparison=comparison,
        callback=callback,
        patient=patient,
    )
    fits = run_together(
        _reopened(fits),
        read,
        tol=tol,
        max_iter=max_iter,
        comparison=comparison,
        callback=callback,
        n_iter=max(fit.state.n_iter for fit in fits),
    )
    shown = _best_start_of_each(fits, len(candidates))
    best = _chosen([fits[at] for at in shown], candidates, tol)
    compared = tuple(
        _compare(fits[at], settings, fits[shown[best]]) for at, settings in zip(shown, candidates, strict=True)
    )
    winner = fits[shown[best]]
    progress = Progress((start_state(winner.state.safe),), 0, tuple(costs), winner.problem.m_step)
    # Of the components that were lost already nobody need be warned: the result says how many there are.
    settings = replace(candidates[best], n_components=winner.state.safe.n_components)
    return Selection(compared, best, refine(prepared, winner.problem, settings, progress, began))


def _begun(prepared: Preparation, candidates: Sequence[Settings], split: Split) -> list[Candidate]:
    """Start every candidate wherever it would be started alone, from rows that are not held out."""
    sample = split.rest_of(prepared.sample)
    fits = []
    for group, settings in enumerate(candidates):
        problem, starts = start_fit(prepared, settings, sample)
        accelerator = prepared.accelerator(settings, sample)
        fits += [Candidate.begin(problem, accelerator, start_state(start), group=group) for start in starts]
    return fits


def _reader(prepared: Preparation, leaf: SelectionFunction, costs: list[PassCost]) -> ReadTogether:
    def read(models: tuple[PassModel, ...]) -> SelectionOutcome:
        outcome: SelectionOutcome
        outcome, cost = run_measured_pass(prepared.source, leaf, models)
        prepared.check(outcome.statistics[0], costs, cost)
        return outcome

    return read


def _reopened(fits: Sequence[Candidate]) -> list[Candidate]:
    """Let those go on that may still win, where there are several."""
    best = best_candidate(fits)
    close = [fit for fit in fits if not fit.dropped and (fit is best or fit.forecast >= best.score)]
    return [
        replace(fit, state=replace(fit.state, stop_reason=None))
        if len(close) > 1 and any(fit is one for one in close) and fit.state.stop_reason is StopReason.CONVERGED
        else fit
        for fit in fits
    ]


def _best_start_of_each(fits: Sequence[Candidate], n_candidates: int) -> list[int]:
    """Return for every candidate which of its starts has ended best; one that has left if all have."""
    return [
        max(
            (at for at, fit in enumerate(fits) if fit.group == group),
            key=lambda at: (not fits[at].dropped, fits[at].score),
        )
        for group in range(n_candidates)
    ]


def _chosen(fits: Sequence[Candidate], candidates: Sequence[Settings], tol: float) -> int:
    """Return the place of the best; of those that have come to be the same mixture, that with the fewest asked for."""

    def n_components(fit: Candidate) -> int:
        return fit.state.safe.n_components

    best = max((fit for fit in fits if not fit.dropped), key=lambda fit: (fit.score, -n_components(fit)))
    same = [
        at
        for at, fit in enumerate(fits)
        if not fit.dropped
        and (fit.state.safe.covariance_type, n_components(fit)) == (best.state.safe.covariance_type, n_components(best))
        and fit.score >= best.score - tol
    ]
    return min(same, key=lambda at: (candidates[at].n_components, at))


@dataclass(frozen=True)
class Seen:
    """What one pass said of one candidate.

    Attributes
    ----------
    n_iter : int
        The number of the pass.
    n_fitted : float
        Sum of the weights of the rows that were fitted.
    log_likelihood : float
        Mean over them, nats per row.
    entropy : float
        Mean entropy of their responsibilities, nats per row.
    place : int
        Among the models of the pass.
    held_out : HeldOut
    n_components : int
        Of the mixture.
    """

    n_iter: int
    n_fitted: float
    log_likelihood: float
    entropy: float
    place: int
    held_out: HeldOut
    n_components: int = 0

    def criterion(self, name: str, n_parameters: int) -> float:
        """Return an information criterion: the lower the better."""
        deviance = -2.0 * self.n_fitted * self.log_likelihood
        if name == "aic":
            return deviance + 2.0 * n_parameters
        bic = deviance + n_parameters * float(np.log(self.n_fitted))
        return bic + 2.0 * self.n_fitted * self.entropy if name == "icl" else bic


@dataclass(frozen=True)
class ByCriterion:
    """Models are compared by a criterion.

    Attributes
    ----------
    name : str
        One of `CRITERIA`.
    """

    name: str

    def score(self, candidate: Candidate, place: int, outcome: PassOutcome) -> Candidate:
        """Score by the criterion, in nats per row and the higher the better; note what the pass says."""
        step, record = candidate.state.best, candidate.record
        if step is None or not isinstance(outcome, SelectionOutcome):
            # Nothing to compare by, where a component had to be seeded again in the first pass already.
            return candidate if record else replace(candidate, score=float("-inf"))
        if candidate.state.accepted[-1] or not record:
            seen = Seen(
                candidate.state.n_iter,
                step.statistics.sum_weight,
                step.log_likelihood,
                _entropy(candidate.problem, step),
                place,
                outcome.held_out,
                step.parameters.n_components,
            )
            record = (*record, seen)
        last: Seen = record[-1]
        if self.name == "held_out":
            score = float(last.held_out.means[last.place])
        else:
            score = -0.5 * last.criterion(self.name, step.parameters.n_parameters) / last.n_fitted
        # ICL may rise by more than the likelihood: the responsibilities can become certain.
        slack = last.entropy if self.name == "icl" else 0.0
        return replace(candidate, score=score, slack=slack, record=record)

    def standard_error(self, place: int, best: int, outcome: PassOutcome) -> float:
        """Return that of the difference on the held-out rows, or over the tasks where none are held out."""
        if isinstance(outcome, SelectionOutcome) and outcome.held_out.sum_weight > 0.0:
            return outcome.held_out.standard_error(place, best)
        return ByBound().standard_error(place, best, outcome)


def _entropy(problem: Problem, step: Step) -> float:
    """Return the mean entropy of the responsibilities at a step's parameters, nats per row.

    -sum r log r = log p - sum r logit, and the last term, summed over the rows, is <S, Theta>.
    """
    parameters, statistics = step.parameters, step.statistics
    family = parameters.family
    expected = family.expected_log_likelihood(
        statistics, parameters.weights, parameters.means, parameters.precisions_cholesky
    )
    return max(step.log_likelihood - problem.whitening.log_det - expected / statistics.sum_weight, 0.0)


def _since_last_loss(record: tuple[Seen, ...]) -> dict[int, Seen]:
    """Return what was seen in the passes since which a candidate has lost no components, by their numbers."""
    return {seen.n_iter: seen for seen in record if seen.n_components == record[-1].n_components}


_NOTHING_SEEN = Seen(0, float("nan"), float("nan"), float("nan"), 0, HeldOut(0.0, np.zeros(1), np.zeros((1, 1))))


def _compare(candidate: Candidate, settings: Settings, best: Candidate) -> Compared:
    last: Seen = candidate.record[-1] if candidate.record else _NOTHING_SEEN
    n_parameters = candidate.state.safe.n_parameters
    # Both as they stood in the last pass that they shared, if no components were lost since.
    mine, of_best = _since_last_loss(candidate.record), _since_last_loss(best.record)
    shared = set(mine) & set(of_best)
    behind = behind_error = float("nan")
    if shared:
        one, other = mine[max(shared)], of_best[max(shared)]
        behind = float(other.held_out.means[other.place] - one.held_out.means[one.place])
        behind_error = one.held_out.standard_error(one.place, other.place)
    return Compared(
        n_components=candidate.state.safe.n_components,
        n_asked=settings.n_components,
        covariance_type=settings.covariance_type,
        n_parameters=n_parameters,
        log_likelihood=last.log_likelihood,
        bic=last.criterion("bic", n_parameters),
        aic=last.criterion("aic", n_parameters),
        icl=last.criterion("icl", n_parameters),
        held_out=float(last.held_out.means[last.place]),
        held_out_error=last.held_out.standard_error(last.place),
        behind=behind,
        behind_error=behind_error,
        gap=candidate.state.gap,
        n_passes=candidate.state.n_iter,
        dropped=candidate.dropped,
    )
