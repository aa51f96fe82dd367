"""One pass over the rows on Dask: a block function per task, a fixed tree above. The only module that knows schedulers.

    block function    (blocks of a task's rows, the parameters) -> a value     loading and computing are one task
    tree              groups of 8, by the task's index, never by arrival       values add up with `+`

The parameters are in the graph once, or in each task where they are small. The lower levels of the tree are in the
graph too; the upper ones, above at most 64 parts, are added up here as the parts come, so that a part that has come is
never computed again. The same tree is added up on the synchronous, the threaded and the distributed scheduler, and
gives the same bits on each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.execution.blas import one_blas_thread
from streamgmm.execution.cluster import compute_on, get_active_client, get_workers
from streamgmm.execution.graph import build_parts, count_parts
from streamgmm.execution.malloc import limit_arenas
from streamgmm.execution.tasks import tasks_of
from streamgmm.execution.threads import count_threads, map_on_threads
from streamgmm.execution.tree_reduce import LazyParts, TreeReduction, add_up, reduce_tree
from streamgmm.serialization import serializable
from streamgmm.sources.base import Block, BlockFunction, Rows
from streamgmm.sources.chunking import COPIES
from streamgmm.sources.dask_arrays import DaskRows

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client


@serializable
@dataclass(frozen=True)
class PassCost:
    """What passes have cost; adds up with `+`.

    Attributes
    ----------
    n_rows, n_bytes : int
        Rows read, and their bytes once decoded.
    reading, computing : float
        Seconds, summed over the tasks. Chunks of Dask collections arrive in a task when they are read: their reading is
        not seen.
    elapsed : float
        Seconds from the beginning of each pass to its end.
    n_passes : int
    """

    n_rows: int = 0
    n_bytes: int = 0
    reading: float = 0.0
    computing: float = 0.0
    elapsed: float = 0.0
    n_passes: int = 0

    def __add__(self, other: PassCost) -> PassCost:
        return PassCost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@serializable
@dataclass(frozen=True)
class Measured:
    """The value of a block function and what it cost."""

    value: Any
    cost: PassCost

    @classmethod
    def merged(cls, parts: Sequence[Measured]) -> Measured:
        return cls(add_up(*(part.value for part in parts)), reduce(add, (part.cost for part in parts)))


@dataclass(frozen=True)
class _OneThread:
    """A block function that keeps BLAS at one thread while it runs."""

    function: BlockFunction

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> Any:
        limit_arenas()
        with one_blas_thread():
            return self.function(blocks, parameters)


@dataclass(frozen=True)
class _Measuring:
    """A block function that measures what it costs."""

    function: BlockFunction

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> Measured:
        began = time.perf_counter()
        reading, n_rows, n_bytes = 0.0, 0, 0

        def watched() -> Iterator[Block]:
            nonlocal reading, n_rows, n_bytes
            source = iter(blocks)
            while True:
                before = time.perf_counter()
                block = next(source, None)
                reading += time.perf_counter() - before
                if block is None:
                    return
                n_rows += len(block.x)
                n_bytes += block.x.nbytes
                yield block

        value = self.function(watched(), parameters)
        return Measured(value, PassCost(n_rows, n_bytes, reading, time.perf_counter() - began - reading))


@dataclass(frozen=True)
class Parts:
    """Parts of a pass that was not finished, and what to do with those that come.

    Attributes
    ----------
    found : mapping of int to object
        Values of parts, by their number.
    keep : callable, optional
        ``keep(number, value)`` is called with each part that comes.
    """

    found: Mapping[int, Any] = field(default_factory=dict)
    keep: Callable[[int, Any], None] | None = None


def run_pass(
    rows: Rows, function: BlockFunction, parameters: Any, parts: Parts | None = None, *, small: bool = False
) -> Any:
    """Read all rows once; return the sum of what `function` gives for each task.

    Parameters
    ----------
    rows : Rows
    function : callable
        ``function(blocks, parameters)`` returns a value that adds up with ``+``, or whose class has ``merged``, which
        adds up several; a pure function that can be pickled wherever the rows are not in this process's memory.
    parameters : object
        Sent with each task where they are small, else to each worker once.
    parts : Parts, optional
        Parts that need not be computed, and where to keep the others. Rows in this process's memory have none.
    small : bool, default=False
        Whether a worker may hold what the function gives for several tasks: so that Dask has fewer of them.

    Raises
    ------
    ClusterError
        If a Dask cluster fails again and again.

    Notes
    -----
    Runs where `dask.compute` would: on the active `distributed.Client`, else on the scheduler that Dask is configured
    for, else on threads. Rows in this process's memory never leave it, and need no graph.
    """
    limit_arenas()
    if rows.in_memory:
        return run_here(rows, function, parameters)
    parts = Parts() if parts is None else parts
    n = count_parts(rows)
    arriving = TreeReduction(n)
    for number, value in parts.found.items():
        arriving.put(number, value)

    def done(number: int, value: Any) -> None:
        arriving.put(number, value)
        if parts.keep is not None:
            parts.keep(number, value)

    client = get_active_client()
    threads = 0 if client is None else _threads_of(client)

    def lazy(wanted: Sequence[int]) -> list[LazyParts]:
        return build_parts(rows, _OneThread(function), parameters, wanted, n_threads=threads, small=small)

    left = [number for number in range(n) if number not in parts.found]
    # The driver's own limit outlasts the tasks, so that threads which overlap don't switch it on and off.
    with one_blas_thread():
        if client is None:
            _compute_here(lazy(left), _most_threads(rows), done)
        else:
            compute_on(client, lazy, left, done)
    return arriving.total


def _most_threads(rows: Rows) -> int:
    """Return on how many threads of this process tasks may run: as many as `memory_limit` has room for their pieces."""
    if rows.memory_limit is None or rows.piece_bytes == 0:
        return count_threads()
    return max(1, min(count_threads(), rows.memory_limit // (COPIES * rows.piece_bytes)))


def _threads_of(client: Client) -> int:
    """Return how many threads a cluster has now; 0 where that can't be told."""
    try:
        return get_workers(client).n_threads
    except OSError:
        return 0


def _compute_here(lazy: Sequence[LazyParts], most_threads: int, done: Callable[[int, Any], None]) -> None:
    """Compute parts on one of Dask's schedulers for one machine; hand each over when it is there."""
    import dask
    from dask.callbacks import Callback

    pending = {parts.lazy.key: parts for parts in lazy}

    def give(key: Any, found: Any) -> None:
        if key in pending:
            for number, value in pending.pop(key).values(found):
                done(number, value)

    def after_task(key: Any, value: Any, *_: Any) -> None:
        give(key, value)

    with Callback(posttask=after_task), _scheduler_options(most_threads) as options:
        values = dask.compute(*(parts.lazy for parts in lazy), **options)
    # Schedulers that are not Dask's own may know no callbacks.
    for parts, found in zip(lazy, values, strict=True):
        give(parts.lazy.key, found)


@contextmanager
def _scheduler_options(most_threads: int) -> Iterator[dict[str, Any]]:
    """Give what `dask.compute` is told of threads: those of its own that have all ended with the pass.

    Dask's stay. Where a task fails, others that have begun would go on in them, and what they write would appear
    when it was removed already.
    """
    import dask
    import dask.threaded
    from dask.base import get_scheduler

    if get_scheduler() not in (None, dask.threaded.get) or dask.config.get("pool", None) is not None:
        yield {} if most_threads == count_threads() else {"num_workers": most_threads}
        return
    with ThreadPoolExecutor(most_threads) as pool:
        yield {"scheduler": "threads", "pool": pool}


def run_here(rows: Rows, function: BlockFunction, parameters: Any) -> Any:
    """Do what `run_pass` does for rows in this process's memory, on its threads, without a graph.

    A graph takes a millisecond and more: too much for passes over a few thousand rows.
    """
    on_one_thread = _OneThread(function)

    def value(number: int) -> Any:
        return on_one_thread(rows.blocks(number), parameters)

    values = map_on_threads(value, range(rows.n_tasks))
    return reduce_tree(values)


def run_measured_pass(
    rows: Rows, function: BlockFunction, parameters: Any, parts: Parts | None = None, *, small: bool = False
) -> tuple[Any, PassCost]:
    """Do what `run_pass` does, and return what it cost too."""
    began = time.perf_counter()
    result: Measured = run_pass(rows, _Measuring(function), parameters, parts, small=small)
    return result.value, replace(result.cost, elapsed=time.perf_counter() - began, n_passes=1)


def count_rows(rows: Rows) -> Rows:
    """Return rows of a Dask collection with known lengths of its chunks: all are made once, and counted."""
    if not isinstance(rows, DaskRows):
        raise TypeError(f"{type(rows).__name__} has known lengths")
    counted = dict(run_pass(rows, _count, None))
    return rows.with_lengths([counted[rows.task_start(number)] for number in range(rows.n_tasks)])


def _count(blocks: Iterable[Block], _: Any) -> tuple[tuple[int, int], ...]:
    return tuple((block.start, len(block.x)) for block in blocks)


def map_rows(
    rows: Rows, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
) -> da.Array:
    """Return a lazy Dask array of what `function` gives for each task's rows: one chunk per task.

    `function` returns an array of shape (n,) or (n, n_columns).
    """
    return tasks_of(rows).as_array(_OneThread(function), parameters, n_columns=n_columns, dtype=dtype)


@dataclass(frozen=True)
class WriteInto:
    """A block function that writes what another gives for each block into an array; returns how many rows it wrote."""

    function: BlockFunction
    out: npt.NDArray[Any]

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> int:
        n = 0
        for block in blocks:
            self.out[block.start : block.start + len(block.x)] = self.function([block], parameters)
            n += len(block.x)
        return n


def fill_from_rows(
    rows: Rows, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return an array of what `function` gives for rows that are in this process's memory."""
    if rows.n_rows is None:
        raise TypeError("rows in memory have a known number")
    out = np.empty((rows.n_rows,) if n_columns is None else (rows.n_rows, n_columns), dtype=dtype)
    run_pass(rows, WriteInto(function, out), parameters)
    return out


__all__ = ["Measured", "Parts", "PassCost", "fill_from_rows", "map_rows", "run_here", "run_measured_pass", "run_pass"]
