"""One BLAS thread at a time.

Dask runs as many tasks as there are cores; a BLAS that starts threads of its own in each would fight with them, and
OpenBLAS gives other bits with other thread counts. Dask's Nanny sets the environment for that; the threaded scheduler
and workers inside a process do not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_users = 0
_limit: Any = None


@cache
def _controller() -> Any:
    # Looks through the loaded libraries, which takes milliseconds: once per process, when SciPy's is loaded too.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS of this process at one thread while any thread is inside; nests, and may be entered at once."""
    global _users, _limit
    with _lock:
        if _users == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limit.__exit__(None, None, None)
                _limit = None
