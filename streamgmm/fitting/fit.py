"""A whole fit: survey, start, EM."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamgmm.blas import one_blas_thread
from streamgmm.exceptions import ComponentWarning
from streamgmm.fitting import em
from streamgmm.fitting.e_step_pass import PassOutcome, UnlikelyRows, read_models
from streamgmm.fitting.preparation import Preparation, Settings, prepare
from streamgmm.fitting.rare import challenger
from streamgmm.fitting.report import FitReport, reported
from streamgmm.fitting.sample_start import best_starts
from streamgmm.fitting.state import Problem, State
from streamgmm.fitting.together import Candidate, ReadTogether, best_of, run_together
from streamgmm.mixture.e_step import PassModel
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.passes import PassCost
from streamgmm.rows.base import Rows


@dataclass(frozen=True)
class FitResult:
    """A fitted mixture and how it came about.

    Attributes
    ----------
    parameters : MixtureParameters
        In the data's coordinates.
    state : State
        The last of EM, in the frame's coordinates.
    n_missing : int
        Rows that were left out.
    report : FitReport
    """

    parameters: MixtureParameters
    state: State
    n_missing: int
    report: FitReport


def fit(rows: Rows, settings: Settings, callback: Callable[[State], None] | None = None) -> FitResult:
    """Fit a mixture to rows.

    Raises
    ------
    InputError, MissingValuesError, SingularCovarianceError, MemoryLimitError
        See the message.
    """
    # The same number of threads for the driver's small products everywhere: the same bits.
    with one_blas_thread():
        began = time.perf_counter()
        prepared = prepare(rows, [settings])
        problem = prepared.problem(settings)
        starts = best_starts(prepared.search(problem, settings, prepared.sample))
        return polished(prepared, problem, settings, starts, [prepared.cost], began, callback)


def polished(
    prepared: Preparation,
    problem: Problem,
    settings: Settings,
    starts: Sequence[MixtureParameters],
    costs: list[PassCost],
    began: float,
    callback: Callable[[State], None] | None = None,
) -> FitResult:
    """Run EM on all rows from one start or several, which share the readings; return the best.

    Parameters
    ----------
    prepared : Preparation
    problem : Problem
    settings : Settings
    starts : sequence of MixtureParameters
        In the frame's coordinates.
    costs : list of PassCost
        Of the readings until now; those made here are appended.
    began : float
        When the whole fit began, by `time.perf_counter`.
    callback : callable, optional
        Called after each reading, with the state of the best fit.
    """
    accelerator = prepared.accelerator(settings, prepared.sample)

    def challenge(candidate: Candidate, unlikely: UnlikelyRows) -> Candidate | None:
        return challenger(candidate, unlikely, prepared.sample)

    fits = run_together(
        [Candidate(problem, accelerator, em.init(parameters)) for parameters in starts],
        reader(prepared, costs),
        tol=settings.tol,
        max_iter=settings.max_iter,
        # Where the user says where to start, components stay the ones that they were.
        challenge=challenge if settings.accelerate and settings.given.empty else None,
        callback=None if callback is None else lambda fits: callback(best_of(fits).state),
    )
    state = best_of(fits).state
    n_lost = settings.n_components - state.safe.n_components
    if n_lost > 0:
        warnings.warn(
            f"{n_lost} of {settings.n_components} components starved or collapsed again and again and were left out: "
            "the data seems to have fewer clusters; try a smaller n_components",
            ComponentWarning,
            stacklevel=4,
        )
    report = reported(
        state,
        tol=settings.tol,
        sample_size=len(prepared.sample),
        in_memory=prepared.surveyed.complete,
        cost=sum(costs, PassCost()),
        seconds=time.perf_counter() - began,
    )
    return FitResult(state.safe.to_data(problem.frame), state, prepared.surveyed.n_missing, report)


def reader(prepared: Preparation, costs: list[PassCost]) -> ReadTogether:
    """Return a function that reads all rows once for some models, and appends what that cost to `costs`."""
    source = prepared.source

    def read(models: tuple[PassModel, ...]) -> PassOutcome:
        outcome, cost = read_models(source, models)
        prepared.check(outcome.statistics[0], costs, cost)
        return outcome

    return read
