"""A Dask cluster that may fail: what it has computed stays, the rest is given to it again, a bounded number of times.

A worker that ends is Dask's own business: its tasks run elsewhere. What comes here is what Dask gives up on: a task
whose workers ended again and again, a scheduler that was lost, a cluster that does nothing. All parts of a pass are
pure functions of the rows and the parameters, so computing one again gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import ClusterError
from streamgmm.storage.retries import Retries, get_setting

if TYPE_CHECKING:
    from distributed import Client, Future

    from streamgmm.execution.tree_reduce import LazyParts

#: Seconds between two looks at whether a cluster does anything.
_POLL = 5.0
#: Seconds in which values that come are fetched together.
_TOGETHER = 0.2


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster, as it is now.

    Attributes
    ----------
    n_workers, n_threads : int
        Threads of all workers together.
    memory_limit : int or None
        Bytes of the worker with the lowest limit; None where there is no limit, or no worker.
    free_memory : int
        Bytes that are left under the limits of all workers; 0 where one has no limit.
    """

    n_workers: int
    n_threads: int
    memory_limit: int | None
    free_memory: int


def get_active_client() -> Client | None:
    """Return the client that `dask.compute` would use, if it would use one; None inside of a cluster's task."""
    from dask.base import get_scheduler

    owner = getattr(get_scheduler(), "__self__", None)
    if owner is None or type(owner).__name__ != "Client":
        return None
    from distributed.worker import thread_state

    # A task that fits on its own cluster must leave its place meanwhile, which Dask's own `get` takes care of.
    return None if hasattr(thread_state, "execution_state") else owner


def get_workers(client: Client) -> Workers:
    """Return the workers that a cluster has now.

    Raises
    ------
    OSError
        If the scheduler does not answer.
    """
    if client.scheduler is None:
        raise OSError("the client of the Dask cluster is closed")
    # Not client.scheduler_info(): it returns what the client keeps, which its own refreshing, without workers, may have
    # overwritten meanwhile.
    found = client.sync(client.scheduler.identity, n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] or None for worker in found]
    used = [worker.get("metrics", {}).get("memory", 0) for worker in found]
    limited = bool(limits) and None not in limits
    free = sum(max(0, limit - taken) for limit, taken in zip(limits, used, strict=True) if limit) if limited else 0
    return Workers(
        len(limits),
        sum(worker["nthreads"] for worker in found),
        min(limit for limit in limits if limit) if any(limits) else None,
        free,
    )


def compute_on(
    client: Client,
    graph: Callable[[Sequence[int]], Sequence[LazyParts]],
    wanted: Iterable[int],
    done: Callable[[int, Any], None],
) -> None:
    """Compute some parts on a cluster; hand each over, with its number, when it is there.

    Parameters
    ----------
    client : Client
    graph : callable
        Makes the lazy values of the parts with some numbers, for each attempt anew: what one of them needs may have
        been lost with the cluster.
    wanted : iterable of int
        The numbers of the parts that are to be computed.
    done : callable
        ``done(number, value)``.

    Raises
    ------
    ClusterError
        Where the cluster has failed too often; what the tasks themselves raise is raised as it is.
    """
    left, faults = set(wanted), _faults()

    def wait_for_scheduler() -> None:
        if not _comes_back(client):
            raise TimeoutError("the scheduler is gone")

    try:
        Retries.configured("pass-attempts").call(
            lambda: _attempt(client, graph(sorted(left)), left, done),
            # A task's own error may be that of a store that a user's own graph reads: it may answer the next time.
            may_pass=lambda error: isinstance(error, (_TaskError, *faults)),
            before_wait=wait_for_scheduler,
        )
    except (_HandoverError, _TaskError) as error:
        raise error.__cause__ from None  # type: ignore[misc]
    except faults as error:
        raise ClusterError(_explained(error, client)) from error


def _attempt(client: Client, lazy: Sequence[LazyParts], left: set[int], done: Callable[[int, Any], None]) -> None:
    """Compute what is left; take out of `left` what is there."""
    pending: dict[Future, LazyParts] = dict(zip(client.compute([parts.lazy for parts in lazy]), lazy, strict=True))
    # What is seen is that a task begins or ends.
    watch = _Watch(client, get_setting("stall-timeout") * max((parts.n_parts_of_task for parts in lazy), default=1))
    finished: SimpleQueue[Future] = SimpleQueue()
    for future in pending:
        future.add_done_callback(finished.put)
    try:
        while pending:
            futures = _arrived(finished, len(pending))
            if not futures:
                watch.look()
                continue
            # What has come is handed over before anything that failed is raised.
            there = [future for future in futures if future.status == "finished"]
            for some in (there, [future for future in futures if future not in there]):
                for future, found in zip(some, _values(client, some, watch.patience), strict=True):
                    for number, value in pending.pop(future).values(found):
                        left.remove(number)
                        _hand_over(done, number, value)
            watch.alive()
    finally:
        for future in pending:
            future.release()


def _arrived(finished: SimpleQueue[Future], most: int) -> list[Future]:
    """Wait for futures that are done, for a while; return those that come at about the same time, or none.

    To ask Dask for the first of many costs time for each of them, and to fetch each value by itself some milliseconds,
    of the same processors that compute where all is on one machine.
    """
    futures: list[Future] = []
    with suppress(Empty):
        futures.append(finished.get(timeout=_POLL))
        deadline = time.monotonic() + _TOGETHER
        while len(futures) < most:
            futures.append(finished.get(timeout=max(0.0, deadline - time.monotonic())))
    return futures


class _TaskError(Exception):
    """An OSError that is a task's own, not the cluster's; it is the cause."""


class _HandoverError(Exception):
    """An OSError of who takes the values, not the cluster's; it is the cause."""


def _hand_over(done: Callable[[int, Any], None], number: int, value: Any) -> None:
    try:
        done(number, value)
    except OSError as error:
        raise _HandoverError from error


def _values(client: Client, futures: list[Future], patience: float) -> list[Any]:
    """Return what futures hold, or raise what a task has raised; a worker that freezes with it in hand is a stall."""
    if not futures:
        return []

    async def gathered() -> Any:
        return await client.gather(futures, asynchronous=True)

    try:
        found: list[Any] = client.sync(gathered, callback_timeout=patience)
        return found
    except OSError as error:
        if any(future.status == "error" for future in futures):
            raise _TaskError from error
        raise


class _Watch:
    """Tells a cluster that is slow from one that does nothing."""

    def __init__(self, client: Client, patience: float) -> None:
        self.client, self.patience = client, patience
        self._seen: Any = None
        self._since = time.monotonic()

    def alive(self) -> None:
        """Note that something has come."""
        self._since = time.monotonic()

    def look(self) -> None:
        """Raise TimeoutError where no task has begun or ended for too long."""
        seen = self._running()
        if seen is not None and seen != self._seen and any(seen.values()):
            self.alive()
        self._seen = seen
        if time.monotonic() - self._since > self.patience:
            raise TimeoutError(f"no task began or ended in {self.patience:g} s")

    def _running(self) -> dict[str, tuple[str, ...]] | None:
        """Return which tasks are with which worker; None where the scheduler does not say."""
        try:
            return {
                worker: tuple(sorted(map(str, keys)))
                for worker, keys in self.client.sync(
                    self.client.scheduler.processing, workers=None, callback_timeout=_POLL
                ).items()
            }
        except (OSError, AttributeError):
            return None


def _faults() -> tuple[type[BaseException], ...]:
    """Return what a cluster's failures raise; tasks raise errors of other types."""
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

    return (KilledWorker, NoValidWorkerError, NoWorkerError, ClosedClientError, CancelledError, TimeoutError, OSError)


def _comes_back(client: Client) -> bool:
    """Wait until a client that has lost its scheduler has found it again, or gives up."""
    deadline = time.monotonic() + get_setting("stall-timeout")
    while client.status not in ("running", "closed") and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(client.status == "running")


def _explained(error: BaseException, client: Client) -> str:
    """Say what has failed, and what to do."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            "workers ended again and again while they computed the same task, most often because they ran out of "
            "memory: give memory_limit= a smaller value, so that tasks read less at once, give workers more memory, or "
            f"give them fewer threads; the workers' logs say more. Dask says: {error}"
        )
    if client.status != "running":
        return (
            f"the Dask scheduler is gone and did not come back within the client's time-out ({_text(error)}): start it "
            "again and make the same call again: a fit goes on from its checkpoint, where there is one, and scores "
            "that are written from the parts that are complete"
        )
    if isinstance(error, TimeoutError):
        try:
            n_workers = get_workers(client).n_workers
        except OSError:
            n_workers = -1
        state = {0: "it has no workers", -1: "its scheduler does not answer"}.get(n_workers, f"{n_workers} workers")
        return (
            f"the Dask cluster has done nothing for {get_setting('stall-timeout'):g} s, or that for each part of a "
            f"pass that one of its tasks computes ({state}): look at it, or raise "
            "Dask's setting streamgmm.stall-timeout where that is no fault; calling fit again goes on from the "
            "checkpoint where there is one"
        )
    return (
        f"the Dask cluster has failed {int(get_setting('pass-attempts'))} times, the last time with {_text(error)}; "
        "calling fit again goes on from the checkpoint where there is one"
    )


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
