"""A whole fit: survey, start, EM."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from streamgmm.checkpoint.checkpoint import Checkpoint
from streamgmm.checkpoint.progress import Progress
from streamgmm.components.rare import find_challenger
from streamgmm.em.candidates import Candidate, ReadTogether, best_candidate, run_together
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import start_state
from streamgmm.em.passes import PassOutcome, RowsInMemory, UnlikelyRows, read_models
from streamgmm.em.state import Problem, State
from streamgmm.exceptions import ComponentWarning
from streamgmm.execution.blas import one_blas_thread
from streamgmm.execution.passes import PassCost
from streamgmm.fitting.listener import Listener, Silence
from streamgmm.fitting.prepare import Preparation, prepare
from streamgmm.fitting.probe import place_rows
from streamgmm.fitting.report import FitReport, make_report
from streamgmm.fitting.settings import Settings
from streamgmm.fitting.starts import start_fit
from streamgmm.fitting.summary import TrainingSummary, summarize_training
from streamgmm.gaussian.e_step import PassModel, evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.initialization.survey import PartsOf, Survey
from streamgmm.predict.calibration import Calibration, calibrate
from streamgmm.predict.information import Information, estimate_information, rows_affordable
from streamgmm.sources.base import Rows

#: Of the sample, so much at least, and so many bytes where there are more, say which log-densities are rare.
_FEWEST_TO_CALIBRATE, _BYTES_TO_CALIBRATE = 20_000, 1 << 25


@dataclass(frozen=True)
class FitResult:
    """A fitted mixture and how it came about.

    Attributes
    ----------
    parameters : MixtureParameters
        In the data's coordinates.
    state : State
        The last of EM, in whitened coordinates.
    n_missing : int
        Rows that were left out.
    report : FitReport
    calibration : Calibration
        The log-density of the sample's rows.
    information : Information or None
        None where it would have taken long.
    training : TrainingSummary
    """

    parameters: MixtureParameters
    state: State
    n_missing: int
    report: FitReport
    calibration: Calibration
    information: Information | None
    training: TrainingSummary


def fit(
    rows: Rows,
    settings: Settings,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Fit a mixture to rows; go on from a checkpoint, and keep in it what the fit has come to, where one is given.

    Raises
    ------
    InputError, MissingValuesError, SingularCovarianceError, MemoryLimitError
        See the message.
    """
    # The same number of threads for the driver's small products everywhere: the same bits.
    with one_blas_thread():
        began = time.perf_counter()
        listener = Silence() if listener is None else listener
        rows, plan = place_rows(rows, [settings])
        start = None if checkpoint is None else checkpoint.start
        if start is None:
            if checkpoint is not None and checkpoint.seed is not None:
                settings = replace(settings, seed=checkpoint.seed)
            listener.begin("first pass")
            prepared = prepare(rows, [settings], plan.sample_rows, None if checkpoint is None else checkpoint.parts)
            if checkpoint is not None:
                checkpoint.keep_start(prepared.as_start(settings.seed))
        else:
            settings = replace(settings, seed=start.seed)
            # The checkpoint was made of rows of this version, or it would have been refused.
            prepared = Preparation.from_start(start, rows, settings.missing)
        progress = None if checkpoint is None else checkpoint.progress
        if progress is None:
            listener.begin("search on the sample")
            problem, starts = start_fit(prepared, settings, prepared.sample)
            progress = begin_progress(prepared, problem, starts)
            if checkpoint is not None:
                checkpoint.keep_progress(progress)
        else:
            problem = prepared.problem(settings, progress.m_step)
        listener.begin("first iteration")
        return refine(prepared, problem, settings, progress, began, listener, checkpoint)


def begin_progress(prepared: Preparation, problem: Problem, starts: Sequence[MixtureParameters]) -> Progress:
    """Return where a fit stands that has been started."""
    states = tuple(start_state(parameters) for parameters in starts)
    return Progress(states, 0, (prepared.cost,), problem.m_step)


def refine(
    prepared: Preparation,
    problem: Problem,
    settings: Settings,
    progress: Progress,
    began: float,
    listener: Listener | None = None,
    checkpoint: Checkpoint | None = None,
) -> FitResult:
    """Run EM on all rows for one candidate or several, which share the passes; return the best.

    Parameters
    ----------
    prepared : Preparation
    problem : Problem
    settings : Settings
    progress : Progress
        Where to go on.
    began : float
        When the whole fit began, by `time.perf_counter`.
    listener : Listener, optional
        Hears of the best fit after each pass.
    checkpoint : Checkpoint, optional
        Where to keep what the fit has come to, after each pass and before `listener` hears of it, and parts of passes.
    """
    costs = list(progress.costs)
    accelerator = prepared.accelerator(settings, prepared.sample)

    def challenge(candidate: Candidate, unlikely: UnlikelyRows) -> Candidate | None:
        return find_challenger(candidate, unlikely, prepared.sample)

    pass_numbers = count(progress.n_passes + 1)

    def after_pass(fits: Sequence[Candidate]) -> object:
        if checkpoint is not None:
            checkpoint.keep_progress(
                Progress(
                    tuple(fit.state for fit in fits if not fit.dropped),
                    next(pass_numbers),
                    tuple(costs),
                    problem.m_step,
                )
            )
        return None if listener is None else listener.update(best_candidate(fits).state)

    fits = run_together(
        [Candidate.begin(problem, accelerator, _reopened(state, settings)) for state in progress.states],
        make_reader(prepared, costs, None if checkpoint is None else checkpoint.parts),
        tol=settings.tol,
        max_iter=settings.max_iter,
        # Where the user says where to start, components stay the ones that they were.
        challenge=challenge if settings.accelerate and settings.given.empty else None,
        callback=after_pass,
        n_iter=progress.n_passes,
        patient=settings.n_init > 1 and prepared.complete,
    )
    state = best_candidate(fits).state
    n_lost = settings.n_components - state.safe.n_components
    if n_lost > 0:
        warnings.warn(
            f"{n_lost} of {settings.n_components} components starved or collapsed again and again and were left out: "
            "the data seems to have fewer clusters; try a smaller n_components",
            ComponentWarning,
            stacklevel=4,
        )
    cost, seconds = sum(costs, PassCost()), time.perf_counter() - began
    report = make_report(
        state,
        regularized=problem.m_step.regularized_shares(state.safe, prepared.surveyed.sum_weight),
        tol=settings.tol,
        sample_size=len(prepared.sample),
        in_memory=prepared.complete,
        cost=cost,
        seconds=seconds,
    )
    parameters = state.safe.unwhiten(problem.whitening)
    calibration = _calibrated(parameters, prepared.sample)
    information = _informed(parameters, prepared.sample, prepared.surveyed)
    training = summarize_training(prepared, cost, state.gap)
    return FitResult(parameters, state, prepared.surveyed.n_missing, report, calibration, information, training)


def _calibrated(parameters: MixtureParameters, sample: RowsInMemory) -> Calibration:
    """Return quantiles of the log-density of the sample, or of as many of its first rows as tell them."""
    part = sample.first(max(_FEWEST_TO_CALIBRATE, _BYTES_TO_CALIBRATE // (8 * parameters.n_features)))
    x = np.ascontiguousarray(part.x, dtype=np.float64)
    return calibrate(evaluate(x, parameters, log_prob=True).log_prob, part.weight)


def _informed(parameters: MixtureParameters, sample: RowsInMemory, surveyed: Survey) -> Information | None:
    """Return the information of the sample, or of as many of its first rows as tell it, where that is soon done."""
    part = sample.first(rows_affordable(parameters.n_parameters, len(sample)))
    if not len(part) or surveyed.ranges is None:
        return None
    x = np.ascontiguousarray(part.x, dtype=np.float64)
    return estimate_information(parameters, x, part.weight, surveyed.sum_weight, surveyed.ranges)


def _reopened(state: State, settings: Settings) -> State:
    """Let a fit go on that has stopped at a number of iterations that is higher now."""
    goes_on = state.stop_reason in (StopReason.MAX_ITER, StopReason.STOPPED) and state.n_iter < settings.max_iter
    return replace(state, stop_reason=None) if goes_on else state


def make_reader(prepared: Preparation, costs: list[PassCost], parts_of: PartsOf | None) -> ReadTogether:
    """Return a function that reads all rows once for some models, and appends what that cost to `costs`."""
    source = prepared.source

    def read(models: tuple[PassModel, ...]) -> PassOutcome:
        outcome, cost = read_models(source, models, None if parts_of is None else parts_of(models))
        prepared.check(outcome.statistics[0], costs, cost)
        return outcome

    return read
