"""The plan of a fit on the machine that it would run on: the projection, and the speed that one task has shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from streamgmm.em.candidates import N_UNLIKELY
from streamgmm.em.passes import EStepFunction
from streamgmm.exceptions import MemoryLimitError
from streamgmm.execution.cluster import get_active_client, get_workers
from streamgmm.execution.memory import get_process_memory
from streamgmm.execution.passes import run_measured_pass, run_pass
from streamgmm.execution.persisted import PersistedRows
from streamgmm.execution.threads import count_threads
from streamgmm.fitting.plan import Machine, Plan, Speed, project
from streamgmm.fitting.settings import Settings
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel
from streamgmm.gaussian.parameters import MixtureParameters, count_free_parameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.initialization.budget import DEFAULT_BUDGET
from streamgmm.sources.base import Block, Rows
from streamgmm.typing import Floats

_SMALLEST_SAMPLE = 10_000
#: The share of all rows that the sample has, where memory allows and a search does not want more.
_SHARE_OF_ROWS = 1 / 4
#: Bytes that the sample may take, where no memory limit is given; with one, an eighth of it.
_SAMPLE_BYTES = 128 * 2**20
#: Tasks that are looked into for one with rows.
_MOST_PROBES = 8
#: Seconds that a task costs a cluster, where it has so many that several are one of Dask's.
_TASK_SECONDS = 3e-4


def plan_fit(rows: Rows, candidates: Sequence[Settings]) -> Plan:
    """Project what a fit, or several that share the passes, take where they would run now.

    Raises
    ------
    MemoryLimitError
        If the sample can't hold a row for each component.
    """

    def size(one: Settings) -> int:
        return count_free_parameters(*one.n_parameters_for, rows.n_features)

    largest = max(candidates, key=size)
    return project(
        rows,
        machine_now(rows),
        n_components=largest.n_components,
        covariance_type=largest.covariance_type,
        sample_rows=sample_size(rows, candidates),
        n_models=len(candidates),
        n_unlikely=N_UNLIKELY,
        persist=candidates[0].persist,
    )


def sample_size(rows: Rows, candidates: Sequence[Settings]) -> int:
    """Return how many rows the sample of some fits may have.

    Raises
    ------
    MemoryLimitError
        If it can't have one for each component.
    """
    n_features, memory_limit = rows.n_features, candidates[0].memory_limit
    n_components = max(candidate.n_components for candidate in candidates)
    n_parameters = max(count_free_parameters(*candidate.n_parameters_for, n_features) for candidate in candidates)
    wanted = max(
        _SMALLEST_SAMPLE,
        DEFAULT_BUDGET.rows_per_parameter * n_parameters,
        0 if rows.n_rows is None else int(_SHARE_OF_ROWS * rows.n_rows),
    )
    row_bytes = 8 * (n_features + 2)
    # Where rows are so wide, the sample takes what it needs at least.
    needed = n_components * row_bytes
    budget = max(_SAMPLE_BYTES, needed)
    affordable = (budget if memory_limit is None else min(budget, memory_limit // 8)) // row_bytes
    if affordable < n_components:
        raise MemoryLimitError(
            f"memory_limit leaves room for a sample of {affordable} rows, fewer than n_components = {n_components}: "
            f"raise the limit to {8 * needed} bytes at least"
        )
    if rows.n_rows is not None and rows.n_rows <= affordable:
        return rows.n_rows
    return min(wanted, affordable)


def place_rows(rows: Rows, candidates: Sequence[Settings]) -> tuple[Rows, Plan]:
    """Refuse rows that can't be fitted to here; return them as they are to be read, each time or once, and the plan.

    Raises
    ------
    MemoryLimitError
        If a worker's memory would not do.
    """
    projected = plan_fit(rows, candidates)
    projected.check()
    return (PersistedRows(rows) if projected.kept else rows), projected


def machine_now(rows: Rows) -> Machine:
    """Return where the passes over some rows would run now."""
    client = None if rows.in_memory else get_active_client()
    here = get_process_memory()
    if client is None:
        return Machine("this process", 1, count_threads(), None, is_driver=True, driver_memory=here)
    where = f"the Dask cluster at {client.scheduler.address}"
    try:
        workers = get_workers(client)
    except OSError:
        # The pass will wait for it, or say what is wrong.
        return Machine(where, 0, 0, None, driver_memory=here)
    return Machine(
        where, workers.n_workers, workers.n_threads, workers.memory_limit, workers.free_memory, driver_memory=here
    )


def probe_speed(projected: Plan, rows: Rows, settings: Settings) -> Plan:
    """Read one task, and compute an E-step of it, to learn how fast that is where the passes will run.

    What would not fit into memory is not tried.

    Raises
    ------
    RowsError
        If it can't be read.
    """
    if projected.refusal() is not None:
        return projected
    # A part of a Dask collection may be empty.
    numbers = rows.tasks_with_rows()
    candidates = (*numbers[len(numbers) // 2 :], *numbers[: len(numbers) // 2])[:_MOST_PROBES]
    looked_into = (rows.some_tasks([number]) for number in candidates)
    found = ((one, run_pass(one, _FirstRows(settings.n_components), None).x) for one in looked_into)
    one, x = next(((one, x) for one, x in found if len(x)), (None, None))
    if one is None or x is None:
        return projected
    model = _model_of(x, settings)
    # The first reading comes from the store, the second perhaps from the system's cache; the first computation compiles
    # the kernels, where that has not been done.
    _, cold = run_measured_pass(one, EStepFunction(), (model,))
    _, warm = run_measured_pass(one, EStepFunction(), (model,))
    reading, computing = cold.reading, warm.computing
    if reading < 1e-3 * cold.elapsed:
        # Chunks of Dask collections are loaded before their task begins, and it does not see that.
        reading += warm.elapsed - warm.computing - warm.reading
    threads = max(1, projected.machine.n_threads)
    n_rows = rows.n_rows if rows.n_rows is not None else warm.n_rows * rows.n_tasks
    seconds = (reading + computing) / warm.n_rows * n_rows / min(threads, rows.n_tasks)
    speed = Speed(warm.n_rows, warm.n_bytes, reading, computing, seconds + _TASK_SECONDS * rows.n_tasks)
    return replace(projected, speed=speed)


class _FirstRows:
    """A leaf that returns a task's first rows that have no missing value."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, blocks: Iterable[Block], _: object) -> _Rows:
        first = next(iter(blocks))
        x = np.asarray(first.x[: max(self.n, 1000)], dtype=np.float64)
        return _Rows(x[np.isfinite(x).all(axis=1)])


class _Rows:
    def __init__(self, x: Floats) -> None:
        self.x = x


def _model_of(x: Floats, settings: Settings) -> PassModel:
    """Return a mixture as wide as some rows: what an E-step costs does not depend on more."""
    family = FAMILIES[settings.covariance_type]
    n_components, n_features = settings.n_components, x.shape[1]
    covariance = np.cov(x.T, bias=True).reshape(n_features, n_features) if family.squares == 0 else x.var(axis=0)
    whitening = family.whitening(x.mean(axis=0), covariance)
    means = np.resize(whitening.whiten(x), (n_components, n_features))
    identity = family.identity(n_features)
    covariances = identity if family.shared else np.repeat(identity[np.newaxis], n_components, axis=0)
    parameters = MixtureParameters.from_covariances(
        settings.covariance_type, np.full(n_components, 1.0 / n_components), means, covariances
    )
    return PassModel(parameters, whitening, Kernel.FLOAT64)
