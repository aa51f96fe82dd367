"""Several models of different sizes and families, fed by the same readings, and compared.

Rows are held out by a hash of their values, so that equal rows are on one side: they enter no statistics, and their
log-density under each model is summed up in the pass, with the products of the models' (for the standard error of any
difference). A model whose forecast falls behind the best by more than two standard errors leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.blas import one_blas_thread
from streamgmm.fitting import em
from streamgmm.fitting.checkpoint import Progress
from streamgmm.fitting.e_step_pass import EStepLeaf, PassOutcome, RowsInMemory
from streamgmm.fitting.fit import FitResult, polished
from streamgmm.fitting.planning import placed
from streamgmm.fitting.preparation import Settings, prepare
from streamgmm.fitting.sampling import row_keys
from streamgmm.fitting.starts import find_starts
from streamgmm.fitting.state import Problem, Step
from streamgmm.fitting.together import ByBound, Candidate, best_of, run_together
from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.e_step import PassModel, evaluate
from streamgmm.passes import run_measured_pass
from streamgmm.rows.base import Block, Rows

#: What models can be compared by.
CRITERIA = ("bic", "aic", "icl", "held_out")
#: Nats per row to the optimum to which every candidate is fitted before the best is chosen.
_SELECTION_TOL = 1e-4


@dataclass(frozen=True)
class HeldOut:
    """Log-densities of held-out rows under several models; adds up with `+`.

    Attributes
    ----------
    sum_weight, sum_squared_weight : float
    totals : ndarray of shape (n_models,)
        sum w log p.
    products : ndarray of shape (n_models, n_models)
        sum w^2 log p_i log p_j.
    weighted : ndarray of shape (n_models,)
        sum w^2 log p.
    """

    sum_weight: float
    sum_squared_weight: float
    totals: Floats
    products: Floats
    weighted: Floats

    def __add__(self, other: HeldOut) -> HeldOut:
        return HeldOut(
            self.sum_weight + other.sum_weight,
            self.sum_squared_weight + other.sum_squared_weight,
            self.totals + other.totals,
            self.products + other.products,
            self.weighted + other.weighted,
        )

    @property
    def means(self) -> Floats:
        """Mean log-density under each model, nats per row; NaN without rows."""
        return self.totals / self.sum_weight if self.sum_weight > 0.0 else np.full(len(self.totals), np.nan)

    def standard_error(self, i: int, j: int | None = None) -> float:
        """Return the standard error of a model's mean, or of the difference of two models' means."""
        if not self.sum_weight > 0.0:
            return float("nan")
        contrast = np.zeros(len(self.totals))
        contrast[i] = 1.0
        if j is not None:
            contrast[j] -= 1.0
        mean = float(contrast @ self.means)
        # sum w^2 (c'l - mean)^2
        squares = float(contrast @ self.products @ contrast) - 2.0 * mean * float(contrast @ self.weighted)
        squares += mean**2 * self.sum_squared_weight
        return float(np.sqrt(max(squares, 0.0))) / self.sum_weight


@dataclass(frozen=True)
class SelectionOutcome(PassOutcome):
    """What a pass gives for several models, and what it says of the held-out rows."""

    held_out: HeldOut

    def __add__(self, other: PassOutcome) -> SelectionOutcome:
        if not isinstance(other, SelectionOutcome):
            return NotImplemented
        both = super().__add__(other)
        return SelectionOutcome(
            both.statistics, both.task_log_likelihoods, both.task_weights, None, self.held_out + other.held_out
        )


def held_out_rows(x: npt.NDArray[Any], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Tell which rows are held out: a share of all different rows."""
    # Another seed than the sample's: its rows are those with the smallest hashes.
    keys, _ = row_keys(np.asarray(x, dtype=np.float64), seed + 2**32)
    return keys < np.uint64(int(share * 2.0**64))


@dataclass(frozen=True)
class SelectionLeaf:
    """The leaf of a pass: statistics of the rows to fit, log-densities of those held out."""

    share: float
    seed: int

    def __call__(self, blocks: Iterable[Block], models: tuple[PassModel, ...]) -> SelectionOutcome:
        total: SelectionOutcome | None = None
        for block in blocks:
            held = held_out_rows(block.x, self.share, self.seed)
            weight = np.ones(len(held)) if block.sample_weight is None else block.sample_weight.astype(np.float64)
            outcome = EStepLeaf()([Block(block.x, np.where(held, 0.0, weight), block.start)], models)
            one = SelectionOutcome(
                outcome.statistics,
                outcome.task_log_likelihoods,
                outcome.task_weights,
                None,
                _held_out(block.x[held], weight[held], models),
            )
            total = one if total is None else total + one
        if total is None:
            raise RuntimeError("a task had no rows")
        return total


def _held_out(x: npt.NDArray[Any], weight: Floats, models: tuple[PassModel, ...]) -> HeldOut:
    used = np.isfinite(x).all(axis=1) & (weight > 0.0)
    x, weight = x[used], weight[used]
    log_prob = np.empty((len(models), len(x)))
    for row, model in zip(log_prob, models, strict=True):
        row[:] = evaluate(x, model.parameters.to_data(model.frame), log_prob=True).log_prob
    squared = weight**2
    return HeldOut(
        float(weight.sum()),
        float(squared.sum()),
        log_prob @ weight,
        (log_prob * squared) @ log_prob.T,
        log_prob @ squared,
    )


@dataclass(frozen=True)
class Compared:
    """One candidate of a search, as it stood at its last reading.

    Attributes
    ----------
    n_components : int
        As asked for.
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
        How far `held_out` is behind the chosen candidate's, and the standard error of this difference.
    gap : float
        Estimated distance to its optimum, nats per row.
    n_readings : int
        Readings in which it took part.
    dropped : bool
        Whether it left before the end, when it could not win any more.
    """

    n_components: int
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
    n_readings: int
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
    callback: Callable[[Sequence[Candidate]], None] | None = None,
) -> Selection:
    """Fit all candidates with the same readings, choose the best, and fit that to all rows.

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
        Called with the candidates after each reading.
    """
    with one_blas_thread():
        return _select(rows, candidates, criterion, share, callback)


def _select(
    rows: Rows,
    candidates: Sequence[Settings],
    criterion: str,
    share: float,
    callback: Callable[[Sequence[Candidate]], None] | None,
) -> Selection:
    began = time.perf_counter()
    rows = placed(rows, candidates)
    prepared = prepare(rows, candidates)
    seed = candidates[0].seed
    held = held_out_rows(prepared.sample.x, share, seed)
    sample = RowsInMemory(prepared.sample.x[~held], prepared.sample.weight[~held])
    fits = []
    for settings in candidates:
        problem, starts = find_starts(prepared, settings, sample)
        fits.append(Candidate(problem, prepared.accelerator(settings, sample), em.init(starts[0])))
    costs = [prepared.cost]
    leaf = SelectionLeaf(share, seed)

    def read(models: tuple[PassModel, ...]) -> SelectionOutcome:
        outcome: SelectionOutcome
        outcome, cost = run_measured_pass(prepared.source, leaf, models)
        prepared.check(outcome.statistics[0], costs, cost)
        return outcome

    comparison = ByCriterion(criterion, [{} for _ in candidates])
    fits = run_together(
        fits,
        read,
        tol=max(candidates[0].tol, _SELECTION_TOL),
        max_iter=candidates[0].max_iter,
        comparison=comparison,
        callback=callback,
    )
    winner = best_of(fits)
    best = next(at for at, fit in enumerate(fits) if fit is winner)
    compared = tuple(
        _compared(fit, settings, seen, comparison.seen[best])
        for fit, settings, seen in zip(fits, candidates, comparison.seen, strict=True)
    )
    problem = fits[best].problem
    progress = Progress((em.init(fits[best].state.safe),), 0, tuple(costs), problem.regularization.target)
    fit = polished(prepared, problem, candidates[best], progress, began)
    return Selection(compared, best, fit)


@dataclass(frozen=True)
class Seen:
    """What one pass said of one candidate.

    Attributes
    ----------
    n_fitted : float
        Sum of the weights of the rows that were fitted.
    log_likelihood : float
        Mean over them, nats per row.
    entropy : float
        Mean entropy of their responsibilities, nats per row.
    place : int
        Among the models of the pass.
    held_out : HeldOut
    """

    n_fitted: float
    log_likelihood: float
    entropy: float
    place: int
    held_out: HeldOut

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
    seen : list of dict
        For each candidate, what each pass that it took part in said of it, by the pass's number; filled as passes come.
    """

    name: str
    seen: list[dict[int, Seen]]

    def scored(self, fit: Candidate, at: int, place: int, outcome: PassOutcome) -> Candidate:
        """Choose the handicap so that the score is the criterion, in nats per row and the higher the better."""
        step = fit.state.best
        if step is None or not isinstance(outcome, SelectionOutcome):
            return fit
        if fit.state.accepted[-1] or not self.seen[at]:
            n_fitted = step.statistics.sum_weight
            self.seen[at][fit.state.n_iter] = Seen(
                n_fitted, step.log_likelihood, _entropy(fit.problem, step), place, outcome.held_out
            )
        last = self.seen[at][max(self.seen[at])]
        if self.name == "held_out":
            score = float(last.held_out.means[last.place])
        else:
            score = -0.5 * last.criterion(self.name, step.parameters.n_parameters) / last.n_fitted
        return replace(fit, handicap=fit.state.lower_bound - score)

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
    return max(step.log_likelihood - problem.frame.log_det - expected / statistics.sum_weight, 0.0)


def _compared(fit: Candidate, settings: Settings, seen: dict[int, Seen], of_best: dict[int, Seen]) -> Compared:
    last = seen[max(seen)]
    n_parameters = fit.state.safe.n_parameters
    # Both as they stood in the last pass that they shared.
    shared = [number for number in seen if number in of_best]
    behind = behind_error = float("nan")
    if shared:
        one, best = seen[max(shared)], of_best[max(shared)]
        behind = float(best.held_out.means[best.place] - one.held_out.means[one.place])
        behind_error = one.held_out.standard_error(one.place, best.place)
    return Compared(
        n_components=settings.n_components,
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
        gap=fit.state.gap,
        n_readings=fit.state.n_iter,
        dropped=fit.dropped,
    )
