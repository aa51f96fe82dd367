"""Threads of this process: as many as Dask would use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from streamgmm.execution.blas import one_blas_thread

Item = TypeVar("Item")
Value = TypeVar("Value")
#: K * F * rows of an E-step that takes longer than what an iteration does beside it, about 2 ms.
_WORK_WORTH_THREADS = 10_000_000
#: How many threads `run_at_once` has left to each of its calls; None outside of them.
_share_of_threads: ContextVar[int | None] = ContextVar("_share_of_threads", default=None)


def run_at_once(calls: Sequence[Callable[[], Value]], *, work: float) -> list[Value]:
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
    n_at_once = min(count_threads(), len(calls)) if work >= _WORK_WORTH_THREADS else 1
    if n_at_once < 2:
        return [call() for call in calls]
    share = count_threads() // n_at_once

    def one(call: Callable[[], Value]) -> Value:
        _share_of_threads.set(share)
        return call()

    with one_blas_thread(), ThreadPoolExecutor(n_at_once) as pool:
        return list(pool.map(one, calls))


def map_on_threads(function: Callable[[Item], Value], items: Sequence[Item]) -> list[Value]:
    """Return what a function gives for some items, in their order, computed on this process's threads."""
    if len(items) == 1 or count_threads() == 1:
        return [function(item) for item in items]
    # The caller's limit outlasts the threads.
    with one_blas_thread(), ThreadPoolExecutor(min(count_threads(), len(items))) as pool:
        return list(pool.map(function, items))


def count_threads() -> int:
    """Return how many threads this process computes on: Dask's setting, or a caller's share of it."""
    import dask
    from dask.system import CPU_COUNT

    share = _share_of_threads.get()
    if share is not None:
        return share
    if is_synchronous():
        return 1
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def is_synchronous() -> bool:
    """Whether Dask is to run one task after the other, here."""
    import dask

    return dask.config.get("scheduler", None) in ("synchronous", "sync", "single-threaded")
