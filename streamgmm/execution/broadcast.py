"""What all tasks of a pass need alike: a part of each where it is small, else sent once to each worker.

A value of its own in a graph is one more task, which one worker runs and the others fetch from it before any row is
read: some 15 ms of each pass.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask.delayed import Delayed

#: Bytes that the tasks of a graph may hold together of what they share.
_MOST_BYTES = 4 * 2**20


def broadcast_task(function: Callable[..., Any], *shared: Any, n_tasks: int) -> Callable[..., Delayed]:
    """Return what makes a lazy ``function(*shared, ...)`` of the arguments that differ.

    Parameters
    ----------
    function : callable
        Small; a part of each task in any case.
    *shared : object
        Its first arguments, the same in each task. They are in the graph once, or in each task where all are small.
    n_tasks : int
        How many tasks there will be.
    """
    from dask import delayed

    if _fits(shared, _MOST_BYTES // max(1, n_tasks)):
        whole: Callable[..., Delayed] = delayed(partial(function, *shared), pure=False, traverse=False)
        return whole
    task = delayed(function, pure=False, traverse=False)
    return partial(task, *(delayed(value, pure=False, traverse=False) for value in shared))


class _TooLongError(Exception):
    """More bytes than there is room for."""


class _Counting:
    """A file that takes so many bytes, and keeps none."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: Any) -> int:
        n = memoryview(data).nbytes
        self.room -= n
        if self.room < 0:
            raise _TooLongError
        return n


def _fits(value: Any, room: int) -> bool:
    """Whether a value takes no more bytes than that where it is sent; stops counting where it takes more."""
    try:
        pickle.Pickler(_Counting(room), protocol=5).dump(value)
    except Exception:  # what pickle can't send (functions of a session, say) Dask may be able to
        return False
    return True
