"""One pass over the rows on Dask: a leaf per task, a fixed tree above them. The only module that knows schedulers.

    leaves    (a range of the source, the parameters) -> a value        loading and computing are one task
    tree      groups of 8, by the task's index, never by arrival        values add up with `+`

The parameters are in the graph once. The same graph runs on the synchronous, the threaded and the distributed
scheduler, and gives the same bits on each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from streamgmm.blas import one_blas_thread
from streamgmm.rows.base import Block, Leaf, RandomAccessRows, RowRange, Rows

if TYPE_CHECKING:
    import dask.array as da

#: Values that one node of the tree adds up.
GROUP = 8

Value = TypeVar("Value")
#: K * F * rows of an E-step that takes longer than what an iteration does beside it, about 2 ms.
_WORK_WORTH_THREADS = 10_000_000
#: How many threads `at_once` has left to each of its calls; None outside of them.
_share_of_threads: ContextVar[int | None] = ContextVar("_share_of_threads", default=None)


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


@dataclass(frozen=True)
class _Measured:
    """A leaf's value and what it cost."""

    value: Any
    cost: PassCost

    @classmethod
    def merged(cls, parts: Sequence[_Measured]) -> _Measured:
        return cls(_add_up(*(part.value for part in parts)), reduce(add, (part.cost for part in parts)))


@dataclass(frozen=True)
class _OneThread:
    """A leaf that keeps BLAS at one thread while it runs."""

    leaf: Leaf

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> Any:
        with one_blas_thread():
            return self.leaf(blocks, parameters)


@dataclass(frozen=True)
class _Measuring:
    """A leaf that measures what it costs."""

    leaf: Leaf

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> _Measured:
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

        value = self.leaf(watched(), parameters)
        return _Measured(value, PassCost(n_rows, n_bytes, reading, time.perf_counter() - began - reading))


def run_pass(rows: Rows, leaf: Leaf, parameters: Any) -> Any:
    """Read all rows once; return the sum of what `leaf` gives for each task.

    Parameters
    ----------
    rows : Rows
    leaf : callable
        ``leaf(blocks, parameters)`` returns a value that adds up with ``+``, or whose class has ``merged``, which adds
        up several; a pure function that can be pickled
        wherever the rows are not in this process's memory.
    parameters : object
        Sent to the tasks once.

    Notes
    -----
    Runs where `dask.compute` would: on the active `distributed.Client`, else on the scheduler that Dask is configured
    for, else on threads. Rows in this process's memory never leave it, and need no graph.
    """
    if rows.in_memory and isinstance(rows, RandomAccessRows):
        return run_here(rows, leaf, parameters)
    import dask

    node = dask.delayed(parameters, pure=False, traverse=False)
    root = _tree(rows.leaves(_OneThread(leaf), node), dask.delayed(_add_up, pure=False, traverse=False))
    # The driver's own limit outlasts the tasks, so that threads which overlap don't switch it on and off.
    with one_blas_thread():
        (result,) = dask.compute(root)
    return result


def run_here(rows: RandomAccessRows, leaf: Leaf, parameters: Any) -> Any:
    """Do what `run_pass` does for rows in this process's memory, on its threads, without a graph.

    A graph takes a millisecond and more: too much for passes over a few thousand rows.
    """
    one = _OneThread(leaf)

    def value(part: RowRange) -> Any:
        return one(rows.blocks(part), parameters)

    if rows.n_tasks == 1 or _n_threads() == 1:
        values = [value(part) for part in rows.ranges]
    else:
        # The caller's limit outlasts the threads.
        with one_blas_thread(), ThreadPoolExecutor(min(_n_threads(), rows.n_tasks)) as pool:
            values = list(pool.map(value, rows.ranges))
    return _tree(values, _add_up)


def at_once(calls: Sequence[Callable[[], Value]], *, work: float) -> list[Value]:
    """Make some calls on this process's threads, and return what they return, in their order.

    Fits to some ten thousand rows are better run side by side than each on all threads. Each call has its share of the
    threads for `run_here` and for calls of its own. The first error, in the calls' order, is raised.

    Parameters
    ----------
    calls : sequence of callable
    work : float
        K * F * rows of one E-step. Where that is next to nothing the calls are made one after the other: the rest of an
        iteration is Python's, which runs one thread at a time.
    """
    n_threads = min(_n_threads(), len(calls)) if work >= _WORK_WORTH_THREADS else 1
    if n_threads < 2:
        return [call() for call in calls]
    share = _n_threads() // n_threads

    def one(call: Callable[[], Value]) -> Value:
        _share_of_threads.set(share)
        return call()

    with one_blas_thread(), ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(one, calls))


def _n_threads() -> int:
    import dask
    from dask.system import CPU_COUNT

    share = _share_of_threads.get()
    if share is not None:
        return share
    if _is_synchronous():
        return 1
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def run_measured_pass(rows: Rows, leaf: Leaf, parameters: Any) -> tuple[Any, PassCost]:
    """Do what `run_pass` does, and return what it cost too."""
    began = time.perf_counter()
    result: _Measured = run_pass(rows, _Measuring(leaf), parameters)
    return result.value, replace(result.cost, elapsed=time.perf_counter() - began, n_passes=1)


def _tree(values: Sequence[Any], combine: Callable[..., Any]) -> Any:
    """Combine values in groups, by their place, until one is left."""
    while len(values) > 1:
        values = [combine(*values[start : start + GROUP]) for start in range(0, len(values), GROUP)]
    return values[0]


def _add_up(*values: Any) -> Any:
    """Add values up: all at once where their class has `merged`, else one by one."""
    merged = getattr(type(values[0]), "merged", None)
    return reduce(add, values) if merged is None else merged(values)


def _is_synchronous() -> bool:
    import dask

    return dask.config.get("scheduler", None) in ("synchronous", "sync", "single-threaded")


def map_rows(
    rows: RandomAccessRows, leaf: Leaf, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
) -> da.Array:
    """Return a lazy Dask array of what `leaf` gives for each task's rows: one chunk per task.

    `leaf` returns an array of shape (n,) or (n, n_columns).
    """
    import dask
    import dask.array as da

    node = dask.delayed(parameters, pure=False, traverse=False)
    parts = []
    for part, value in zip(rows.ranges, rows.leaves(_OneThread(leaf), node), strict=True):
        n = part.stop - part.start
        shape = (n,) if n_columns is None else (n, n_columns)
        parts.append(da.from_delayed(value, shape=shape, meta=np.empty((0,) * len(shape), dtype=dtype)))
    return da.concatenate(parts, axis=0)


@dataclass(frozen=True)
class WriteInto:
    """A leaf that writes what `function` gives for each block into an array, and returns how many rows it wrote."""

    function: Leaf
    out: npt.NDArray[Any]

    def __call__(self, blocks: Iterable[Block], parameters: Any) -> int:
        n = 0
        for block in blocks:
            self.out[block.start : block.start + len(block.x)] = self.function([block], parameters)
            n += len(block.x)
        return n


def fill_from_rows(
    rows: RandomAccessRows, leaf: Leaf, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return an array of what `leaf` gives for rows that are in this process's memory."""
    if rows.n_rows is None:
        raise TypeError("rows in memory have a known number")
    out = np.empty((rows.n_rows,) if n_columns is None else (rows.n_rows, n_columns), dtype=dtype)
    run_pass(rows, WriteInto(leaf, out), parameters)
    return out


__all__ = ["GROUP", "PassCost", "at_once", "fill_from_rows", "map_rows", "run_here", "run_measured_pass", "run_pass"]
