"""What a pass over some rows will take: tasks, bytes, memory, projected before any work; refused where it can't fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from streamgmm.exceptions import MemoryLimitError
from streamgmm.execution.tree_reduce import MOST_PARTS, count_groups
from streamgmm.fitting.display import show_facts
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.sources.base import Rows
from streamgmm.sources.chunking import COPIES
from streamgmm.units import show_size

#: Resident bytes of a worker that has imported what it needs and compiled its kernels, before it has read a row.
PROCESS_BYTES = 400 * 10**6
#: Bytes that a task computes in beside the piece that it holds: blocks of the kernel, copies of a survey.
_SCRATCH_BYTES = 32 * 2**20
#: Matrices D x D that the process that calls `fit` has at once where covariances are not diagonal, as projected and at
#: least; statistics of a model that it has at least.
_MATRICES, _FEWEST_MATRICES, _FEWEST_STATISTICS = 16, 6, 4
#: What leaves a task, of which a worker may hold so many for each thread: a task's own, the eight that are listed or
#: being added up, and as many that are not fetched yet.
_STATISTICS_PER_THREAD = 18
#: How many times the drawn rows of a sample may be in memory where it is put together and a start is searched for:
#: drawn by value and by place, on the way, in order, in the coordinates of the fit.
_SAMPLE_COPIES = 8
#: How many times what a part has drawn is in memory while it is fetched.
_COPIES_ON_THE_WAY = 3
#: Free memory of a cluster's workers, as a multiple of the rows', under which these stay there.
_ROOM_TO_KEEP = 2
#: Rows that are drawn for a sample, as a multiple of its size.
_DRAWN = 1.25


@dataclass(frozen=True)
class Machine:
    """Where a pass will run.

    Attributes
    ----------
    description : str
    n_workers, n_threads : int
        Processes, and threads of all of them together.
    memory_limit : int or None
        Bytes that the worker with the lowest limit may use.
    free_memory : int
        Bytes that are free under the limits of all workers; 0 where one has no limit.
    is_driver : bool
        Whether it is the process that calls `fit`.
    driver_memory : int or None
        Bytes that the process that calls `fit` has and can get; None where that is not known.
    """

    description: str
    n_workers: int
    n_threads: int
    memory_limit: int | None
    free_memory: int = 0
    is_driver: bool = False
    driver_memory: int | None = None

    @property
    def threads_per_worker(self) -> int:
        """Threads of one worker, of the largest where they differ."""
        return max(1, -(-self.n_threads // max(1, self.n_workers)))


@dataclass(frozen=True)
class Speed:
    """What reading one task has shown.

    Attributes
    ----------
    n_rows, n_bytes : int
        Rows of the task that was read, and their decoded bytes.
    reading, computing : float
        Seconds that one thread took.
    pass_seconds : float
        Expected seconds of a pass.
    """

    n_rows: int
    n_bytes: int
    reading: float
    computing: float
    pass_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a fit will take; ``print(plan)``.

    Attributes
    ----------
    source : str
    n_rows : int or None
        None where only reading can tell.
    n_features : int
    dtype : str
    n_components : int
    covariance_type : str
    n_bytes : int or None
        Of all rows, decoded.
    n_tasks : int
    piece_bytes : int
        Decoded bytes of rows that a task holds at once.
    statistics_bytes : int
        Of the statistics of all models that share a pass.
    leaving_bytes : int
        Of what leaves a task: those statistics and the rows that are least likely, or the first pass's covariance.
    sample_rows, sample_bytes : int
        Rows that the sample may have, and their bytes.
    machine : Machine
    worker_bytes : int
        Projected resident bytes of a worker, at most.
    kept : bool
        Whether the rows are read once, and stay with the workers.
    driver_bytes : int
        The same of the process that calls `fit`; where the passes run in it, both are one.
    least_bytes : int
        Bytes without which the process that calls `fit` can't do, the rows not counted.
    speed : Speed or None
        Where one task was read to learn it.
    kept_bytes : int
        Of rows, and their weights, that stay with each worker.
    rows_limit : int or None
        Bytes that a process may use for rows: the `memory_limit` of the fit.
    """

    source: str
    n_rows: int | None
    n_features: int
    dtype: str
    n_components: int
    covariance_type: str
    n_bytes: int | None
    n_tasks: int
    piece_bytes: int
    statistics_bytes: int
    leaving_bytes: int
    sample_rows: int
    sample_bytes: int
    machine: Machine
    kept: bool
    worker_bytes: int
    driver_bytes: int
    least_bytes: int
    speed: Speed | None = None
    kept_bytes: int = 0
    rows_limit: int | None = None

    def check(self) -> None:
        """Refuse what does not fit.

        Raises
        ------
        MemoryLimitError
            If a worker, or the process that calls `fit`, is projected to need more memory than it may use, or if the
            rows that stay with a worker are more than `memory_limit`.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise MemoryLimitError(refusal)

    def refusal(self) -> str | None:
        """Say why the fit can't be done in the memory that there is, and what would help.

        Returns
        -------
        str or None
            None where it can.
        """
        has = self.machine.driver_memory
        if has is not None and self.least_bytes > has:
            return (
                f"{self.source}: {self.n_components} component(s) with covariance_type={self.covariance_type!r} and "
                f"{self.n_features:,} features need at least {show_size(self.least_bytes)} in the process that fits "
                f"({show_size(self.statistics_bytes)} for the statistics of a pass, several times), and there are "
                f"{show_size(has)}: {self._smaller_model(has)}"
            )
        kept = self._kept_refusal()
        if kept is not None:
            return kept
        limit = self.machine.memory_limit
        if limit is None or self.worker_bytes <= limit:
            return None
        threads, leaving = self.machine.threads_per_worker, show_size(self.leaving_bytes)
        return (
            f"{self.source}: a worker of {self.machine.description} is projected to use up to "
            f"{show_size(self.worker_bytes)} ({show_size(PROCESS_BYTES)} for itself; for each of its {threads} "
            f"thread(s) {COPIES} x {show_size(self.piece_bytes)} of rows, {_STATISTICS_PER_THREAD} x {leaving} of "
            f"statistics and unlikely rows), and may use {show_size(limit)}: {self._smaller_worker(limit)}"
        )

    def _kept_refusal(self) -> str | None:
        """Say that rows are to stay in this process, in less memory than they, and a piece that is read, take; or None.

        A cluster's workers have limits of their own.
        """
        needed = self.kept_bytes + COPIES * self.piece_bytes
        if not self.kept or not self.machine.is_driver or self.rows_limit is None or needed <= self.rows_limit:
            return None
        return (
            f"{self.source}: with persist=True {show_size(self.kept_bytes)} of rows and weights stay in this process, "
            f"beside {COPIES} x {show_size(self.piece_bytes)} of a piece that is "
            f"read, and memory_limit= is {show_size(self.rows_limit)}: use persist=False, which reads them from "
            f"the store each time, or raise memory_limit= to {show_size(needed)}"
        )

    def _smaller_worker(self, limit: int) -> str:
        """Say what would bring a worker under its limit: of what it could have less of, what weighs enough."""
        threads, over = self.machine.threads_per_worker, self.worker_bytes - limit
        pieces, statistics = COPIES * self.piece_bytes, _STATISTICS_PER_THREAD * self.leaving_bytes
        helps = ["give workers more memory"]
        if over <= (threads - 1) * (pieces + statistics + _SCRATCH_BYTES):
            helps.append("fewer threads")
        if over < threads * pieces:
            helps.append("give memory_limit= a smaller value")
        if self.kept:
            helps.append("use persist=False")
        if over < threads * statistics:
            helps.append(self._smaller_model(None))
        return helps[0] if len(helps) == 1 else f"{', '.join(helps[:-1])}, or {helps[-1]}"

    def _smaller_model(self, has: int | None) -> str:
        """Say which smaller model needs so much less that it fits."""

        def fits(covariance_type: str, n_components: int) -> bool:
            return has is None or _least_bytes(covariance_type, n_components, self.n_features) <= has

        helps = []
        if self.n_components > 1 and fits(self.covariance_type, 1):
            helps.append("fit fewer components")
        if self.covariance_type in ("full", "tied") and fits("diag", self.n_components):
            helps.append("use covariance_type='diag'")
        return " or ".join([*helps, "use fewer features"])

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it.

        Returns
        -------
        dict
            Sizes in bytes, times in seconds.
        """
        return asdict(self)

    def __str__(self) -> str:
        rows = "an unknown number of" if self.n_rows is None else f"{self.n_rows:,}"
        total = "unknown until they are read" if self.n_bytes is None else f"{show_size(self.n_bytes)} once decoded"
        machine = self.machine
        limit = "no limit" if machine.memory_limit is None else f"of {show_size(machine.memory_limit)}"
        facts = [
            ("rows", f"{rows} rows of {self.n_features:,} features, {self.dtype}; {total}"),
            (
                "model",
                f"{self.n_components:,} components, {self.covariance_type} covariances; its statistics are "
                f"{show_size(self.statistics_bytes)}",
            ),
            ("tasks", f"{self.n_tasks:,} in each pass, each holding up to {show_size(self.piece_bytes)} of rows"),
            ("sample", f"up to {self.sample_rows:,} rows, {show_size(self.sample_bytes)}"),
            ("runs on", f"{machine.description}: {machine.n_workers} process(es), {machine.n_threads} thread(s)"),
            ("rows stay", "with the workers after the first pass" if self.kept else "in the store, read in each pass"),
            ("memory", f"up to {show_size(self.worker_bytes)} in a worker ({limit})"),
        ]
        if not machine.is_driver:
            facts.append(("", f"up to {show_size(self.driver_bytes)} in the process that calls fit"))
        if self.speed is not None:
            speed = self.speed
            facts += [
                (
                    "speed",
                    f"a thread reads {show_size(speed.n_bytes / max(speed.reading, 1e-9))}/s and computes "
                    f"{speed.n_rows / max(speed.computing, 1e-9) / 1e6:.2f} million rows/s",
                ),
                ("a pass", f"about {speed.pass_seconds:.3g} s"),
            ]
        return show_facts(f"Plan of a fit to {self.source}", facts)


def project(
    rows: Rows,
    machine: Machine,
    *,
    n_components: int,
    covariance_type: str,
    sample_rows: int,
    n_models: int = 1,
    n_unlikely: int = 0,
    persist: bool | str = False,
) -> Plan:
    """Project what a fit to some rows takes.

    Parameters
    ----------
    rows : Rows
    machine : Machine
    n_components : int
    covariance_type : str
    sample_rows : int
        Rows that the fit's sample may have.
    n_models : int, default=1
        Models that share a pass.
    n_unlikely : int, default=0
        Rows that a task may return.
    persist : bool or "auto", default=False
        Whether rows are to stay with the workers: "auto" where a cluster has twice as much memory free.
    """
    n_terms = FAMILIES[covariance_type].n_terms(rows.n_features)
    statistics_bytes = 8 * n_components * n_terms * n_models
    matrix_bytes = _matrix_bytes(covariance_type, rows.n_features)
    # The first pass gives the covariance of the data, the others statistics.
    leaving_bytes = max(statistics_bytes + 8 * (rows.n_features + 2) * n_unlikely, matrix_bytes)
    sample_bytes = 8 * (rows.n_features + 2) * sample_rows
    complete = rows.n_rows is not None and sample_rows >= rows.n_rows
    # Both by value and by place, where the sample is not all rows; with a key and a weight each.
    drawn = sample_rows * ((4 if rows.dtype == np.float32 else 8) * rows.n_features + 16)
    drawn = drawn if complete else int(2 * _DRAWN * drawn)
    of_part = drawn // count_groups(rows.n_tasks, 1 if rows.n_rows is None else MOST_PARTS)
    drawn_there = _COPIES_ON_THE_WAY * min(drawn, (machine.threads_per_worker + 1) * of_part)
    per_thread = COPIES * rows.piece_bytes + _SCRATCH_BYTES + _STATISTICS_PER_THREAD * leaving_bytes
    # What a part has drawn stays with its worker until it is fetched.
    of_rows = machine.threads_per_worker * per_thread + drawn_there
    n_bytes = None if rows.n_rows is None else rows.n_rows * rows.n_features * rows.dtype.itemsize
    weights = 0 if rows.n_rows is None else 8 * rows.n_rows
    kept = persist is True and not rows.in_memory
    if persist == "auto" and n_bytes is not None and rows.n_rows != sample_rows:
        kept = 0 < _ROOM_TO_KEEP * (n_bytes + weights) <= machine.free_memory
    kept_bytes = ((n_bytes or 0) + weights) if kept else 0
    kept_there = -(-kept_bytes // max(1, machine.n_workers))
    of_rows += kept_bytes // max(1, machine.n_workers)
    worker_bytes = PROCESS_BYTES + of_rows
    driver_bytes = PROCESS_BYTES + _SAMPLE_COPIES * int(_DRAWN * sample_bytes)
    driver_bytes += 64 * statistics_bytes + _MATRICES * matrix_bytes
    if machine.is_driver:
        worker_bytes = driver_bytes = driver_bytes + machine.threads_per_worker * per_thread + kept_bytes
    return Plan(
        rows.description,
        rows.n_rows,
        rows.n_features,
        str(rows.dtype),
        n_components,
        covariance_type,
        n_bytes,
        rows.n_tasks,
        rows.piece_bytes,
        statistics_bytes,
        leaving_bytes,
        sample_rows,
        sample_bytes,
        machine,
        kept,
        worker_bytes,
        driver_bytes,
        _least_bytes(covariance_type, n_components, rows.n_features),
        kept_bytes=kept_there,
        rows_limit=rows.memory_limit,
    )


def _matrix_bytes(covariance_type: str, n_features: int) -> int:
    """Return the bytes of a matrix D x D, where a family has such."""
    return 8 * n_features**2 if covariance_type in ("full", "tied") else 0


def _least_bytes(covariance_type: str, n_components: int, n_features: int) -> int:
    """Return the bytes without which a fit can't do: statistics, their indices, and what whitens."""
    n_terms = FAMILIES[covariance_type].n_terms(n_features)
    statistics = _FEWEST_STATISTICS * 8 * n_components * n_terms
    return statistics + 16 * n_terms + _FEWEST_MATRICES * _matrix_bytes(covariance_type, n_features)
