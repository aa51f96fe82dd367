"""One BLAS thread at a time.

Dask runs as many tasks as there are cores; a BLAS that starts threads of its own in each would fight with them, and
OpenBLAS gives other bits with other thread counts. Dask's Nanny sets the environment for that; the threaded scheduler
and workers inside a process do not.
"""

from functools import cache
from typing import Any

from streamgmm.execution.overlapping import SharedContext


@cache
def _controller() -> Any:
    # Looks through the loaded libraries, which takes milliseconds: once per process, when SciPy's is loaded too.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


#: Holds every BLAS of this process at one thread while any thread is inside.
one_blas_thread = SharedContext(lambda: _controller().limit(limits=1, user_api="blas"))
