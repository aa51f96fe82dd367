"""Memory that a task of an E-step frees stays with its process until the task ends.

Dask's Nanny starts workers with ``MALLOC_TRIM_THRESHOLD_=65536``, so that they give back what they free. glibc then
gives back every block of rows as soon as it is freed, and the kernel hands out and zeroes the same pages for the next
one: that was seen to take half of the time of reading, more where several workers do it at once. A task that goes
through its rows block by block needs the same memory again at once; when it ends, the process's own settings hold.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from streamgmm.execution.overlapping import SharedContext

#: The parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: Bytes that glibc keeps at the top of its heap, and up to which it allocates from there (its largest).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = 128 * 2**20, 32 * 2**20
#: glibc's own, which it no longer changes by itself once any of the two has been set.
_OWN_MMAP_THRESHOLD = 128 * 2**10


@contextmanager
def _kept() -> Iterator[None]:
    own = _trim_threshold()
    if own is None:
        yield
        return
    _set(_TRIM_THRESHOLD, _MMAP_THRESHOLD)
    try:
        yield
    finally:
        _set(own, _number("MALLOC_MMAP_THRESHOLD_") or _OWN_MMAP_THRESHOLD)


_limited = False


def limit_arenas() -> None:
    """Let glibc keep one heap for each processor, at most, for all the threads of this process.

    It makes eight for each, and what a thread has freed stays in its own: where Dask's threads and Zarr's write
    results, that was seen to take a fourth of the memory, more the longer it went on, and a tenth of the time. What the
    environment says (``MALLOC_ARENA_MAX``) stays.
    """
    global _limited
    if not _limited and sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        from dask.system import CPU_COUNT

        _mallopt(_M_ARENA_MAX, max(2, CPU_COUNT))
    _limited = True


#: Lets glibc keep what is freed while any thread is inside, where the environment tells it to give that back. Does
#: nothing where glibc decides for itself, or is not there.
freed_memory_kept = SharedContext(_kept)


def _trim_threshold() -> int | None:
    """Return what the environment says, where that is less than what a task needs."""
    found = _number("MALLOC_TRIM_THRESHOLD_") if sys.platform == "linux" else None
    return None if found is None or found >= _TRIM_THRESHOLD else found


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def _set(trim_threshold: int, mmap_threshold: int) -> None:
    _mallopt(_M_TRIM_THRESHOLD, trim_threshold)
    _mallopt(_M_MMAP_THRESHOLD, mmap_threshold)


def _mallopt(parameter: int, value: int) -> None:
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(parameter, value)
