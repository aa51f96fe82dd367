"""Runs a job: what it needs is checked, then one step after the other; one result, one exit code, a log, metrics."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from streamgmm.em.convergence import StopReason
from streamgmm.exceptions import InputError, StreamGMMError
from streamgmm.jobs.context import Context
from streamgmm.jobs.declaration import Criteria, FitStep, Job, PredictStep
from streamgmm.jobs.exit_codes import ExitCode, code_of
from streamgmm.jobs.log import Log
from streamgmm.jobs.metrics import write_metrics
from streamgmm.jobs.places import check_steps_apart, places_in_use
from streamgmm.jobs.steps import check_step, perform, rehearse
from streamgmm.sources.where import RowFilter
from streamgmm.storage.outputs import check_output
from streamgmm.storage.places import InUse, check_apart, find_places
from streamgmm.units import parse_memory_limit

#: Bytes that a process of a cluster takes without any rows: its libraries, machine code, buffers.
_WORKER_BYTES = 2**29
#: Exit codes, the worst of a job's steps first.
_WORST = (ExitCode.BAD_DATA, ExitCode.TRY_AGAIN, ExitCode.NOT_CONVERGED, ExitCode.DONE)


@dataclass
class JobResult:
    """What a job has come to.

    Attributes
    ----------
    exit_code : ExitCode
    steps : list of dict
        Results of the steps that ended.
    failed : list of str
        Criteria that do not hold.
    """

    exit_code: ExitCode = ExitCode.DONE
    steps: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Ended(SystemExit):
    """What ends the main thread wherever it is: SIGTERM, or no more time.

    Where it arrives everything is closed, but a thread that waits for a store, or one that was being started when the
    signal came, would keep the interpreter from ending.
    """


def run_job(
    job: Job, log: Log, *, dry_run: bool = False, show_progress: bool = True, file: str | None = None
) -> JobResult:
    """Run the steps of a job, one after the other.

    Parameters
    ----------
    job : Job
    log : Log
    dry_run : bool, default=False
        Whether to check everything, open what is read, and do nothing.
    show_progress : bool, default=True
        Whether fits say how they come along.
    file : str, optional
        Where the job was read from: nothing is written there.

    Returns
    -------
    JobResult
        With the exit code for what the steps have come to; what ends a step is raised.

    Raises
    ------
    StreamGMMError, OSError
        What has ended the job; the metrics say so.
    """
    began = time.monotonic()
    limit = job.limits.max_seconds
    context = Context(job, log, dry_run, None if limit is None else began + limit, show_progress)
    result = JobResult()
    if job.reports.metrics is not None:
        check_apart(job.reports.metrics, *places_in_use(job), InUse("the job", find_places(file)))
        check_output(job.reports.metrics, overwrite=True, is_folder=False)
    try:
        parse_memory_limit(job.limits.memory)
        check_steps_apart(job, InUse("the job", find_places(file)))
        check_criteria(job)
        for step in job.steps:
            RowFilter.of(job.rows_of(step)["where"])
            check_step(step, context)
        with ExitStack() as stack:
            stack.enter_context(log.hearing_warnings())
            stack.enter_context(ended_by_sigterm(log, _goes_on_from(job)))
            stack.enter_context(ended_by_time(context))
            stack.enter_context(running_on(job.cluster.scheduler, job.cluster.workers, job.limits.memory))
            for number, step in enumerate(job.steps):
                log.info("step begins", number=number, step=step.step)
                at = time.monotonic()
                context.begin_step()
                found = (rehearse if dry_run else perform)(step, context)
                found["seconds"] = time.monotonic() - at
                result.steps.append(found)
                log.info(
                    "step ends",
                    number=number,
                    **{k: v for k, v in found.items() if k not in ("table", "text", "report")},
                )
                if found.get("stop_reason") == StopReason.STOPPED.value:
                    # What follows would be done with what is not fitted to its end.
                    if left := [one.step for one in job.steps[number + 1 :]]:
                        log.warning(f"not done, as the time was up: {', '.join(left)}")
                    break
        result.failed = list(_failing(job.criteria, result.steps))
        result.exit_code = min((_code_of_step(one, job.criteria) for one in result.steps), key=_WORST.index)
        if result.failed:
            result.exit_code = ExitCode.BAD_DATA
    except Ended as ended:
        result.exit_code = ExitCode(int(ended.code or 0))
        _report(job, result, began, log, dry_run=dry_run)
        raise
    except (StreamGMMError, OSError) as error:
        result.exit_code = code_of(error) or ExitCode.BAD_DATA
        _report(job, result, began, log, dry_run=dry_run)
        raise
    _report(job, result, began, log, dry_run=dry_run)
    return result


def _report(job: Job, result: JobResult, began: float, log: Log, *, dry_run: bool) -> None:
    seconds = time.monotonic() - began
    log.info("job ends", exit_code=int(result.exit_code), seconds=seconds)
    if job.reports.metrics is not None and not dry_run:
        write_metrics(job.reports.metrics, job.name or "streamgmm", int(result.exit_code), seconds, result.steps)


def _code_of_step(found: Mapping[str, Any], criteria: Criteria) -> ExitCode:
    if found.get("stop_reason") == StopReason.STOPPED.value:
        return ExitCode.TRY_AGAIN
    if criteria.converged and found.get("converged") is False:
        return ExitCode.NOT_CONVERGED
    return ExitCode.DONE


def _failing(criteria: Criteria, steps: list[dict[str, Any]]) -> Iterator[str]:
    """Say which criteria do not hold."""
    for found in steps:
        n_rows = found.get("n_rows") or 0
        for name, limit, what in (
            ("n_missing", criteria.max_missing, "have missing values"),
            ("n_outliers", criteria.max_outliers, "are outliers"),
        ):
            n = found.get(name)
            # A fit counts the rows that it has used.
            total = n_rows + (n or 0) if name == "n_missing" and found["step"] != "predict" else n_rows
            if limit is not None and n is not None and total and n / total > limit:
                yield f"{found['step']}: {n} of {total} rows {what}, more than a share of {limit:g}"
        score = found.get("mean_log_likelihood")
        if criteria.min_score is not None and score is not None and not score >= criteria.min_score:
            yield f"{found['step']}: mean log-likelihood {score:.6g} nats per row, less than {criteria.min_score:g}"


def check_criteria(job: Job) -> None:
    """Refuse criteria that no step of a job would measure.

    Raises
    ------
    InputError
    """
    kinds = {step.step for step in job.steps}
    tells_outliers = any(isinstance(step, PredictStep) and "outlier" in step.write for step in job.steps)
    for name, asked, measured, how in (
        ("converged", job.criteria.converged, kinds & {"fit", "select"}, "a fit or a selection"),
        ("max_missing", job.criteria.max_missing is not None, kinds & {"fit", "select", "predict"},
         "a fit, a selection or scores that are written (predict)"),
        ("max_outliers", job.criteria.max_outliers is not None, tells_outliers, 'predict with "outlier" in write'),
        ("min_score", job.criteria.min_score is not None, kinds & {"score"}, "a score"),
    ):  # fmt: skip
        if asked and not measured:
            raise InputError(f"criteria.{name} can't be checked: no step of the job is {how}, which tells it")


def _goes_on_from(job: Job) -> str:
    """Say what a job that is stopped goes on from."""
    fits = [step for step in job.steps if isinstance(step, FitStep)]
    folders = [step.checkpoint for step in fits if step.checkpoint is not None]
    if folders:
        return f"--resume auto goes on from {', '.join(folders)}"
    if any(isinstance(step, PredictStep) for step in job.steps):
        return "the same command goes on from the parts of outputs that are complete"
    return "there is no --checkpoint to go on from" if fits else "the same command begins again"


def _of_process(memory_limit: int | str | None) -> int | str:
    """Return how much a process may take in all that may use so much for rows."""
    found = parse_memory_limit(memory_limit)
    return "auto" if found is None else found + _WORKER_BYTES


@contextmanager
def running_on(scheduler: str, workers: int | None, memory_limit: int | str | None) -> Iterator[None]:
    """Make a scheduler the active one: the address of a cluster, "threads", or "processes" for one of our own.

    Raises
    ------
    InputError
        If it is none of these, or nothing answers there.
    """
    import dask

    if scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            yield
        return
    if scheduler != "processes" and ":" not in scheduler:
        raise InputError(
            f"--scheduler must be the address of a Dask scheduler (tcp://host:8786), 'threads' or 'processes'; "
            f"got {scheduler!r}"
        )
    from dask.distributed import Client, LocalCluster

    if scheduler == "processes":
        with (
            # With any free port: another cluster on this machine may have the usual one.
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=_of_process(memory_limit),
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster),
        ):
            yield
        return
    try:
        # Also how long it looks for a scheduler that it has lost: distributed.comm.timeouts.connect.
        client = Client(scheduler)
    except Exception as error:  # of an address that is none, any
        raise InputError(f"no Dask scheduler answers at {scheduler}: {error or type(error).__name__}") from error
    with client:
        yield


@contextmanager
def ended_by_sigterm(log: Log, what_now: str) -> Iterator[None]:
    """Let SIGTERM end what runs as an error would, everything closed, and exit with 143 as shells expect it."""

    def end(*_: Any) -> None:
        log.error(f"stopped by SIGTERM; {what_now}")
        raise Ended(ExitCode.TERMINATED)

    with _handling(signal.SIGTERM, end):
        yield


@contextmanager
def ended_by_time(context: Context) -> Iterator[None]:
    """End what runs, as SIGTERM does, when the time is up; a step that has found something ends with its next pass."""
    if context.deadline is None or not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: Any) -> None:
        if not context.has_found_something:
            context.log.error(f"stopped, as the time is up; {_goes_on_from(context.job)}")
            raise Ended(ExitCode.TRY_AGAIN)

    with _handling(signal.SIGALRM, end):
        # Again each second: the steps that follow have no time either.
        signal.setitimer(signal.ITIMER_REAL, max(context.deadline - time.monotonic(), 1e-3), 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _handling(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
