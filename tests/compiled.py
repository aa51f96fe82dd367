"""Kernels are compiled once for all processes that run tests: the first one compiles, the others wait and load.

Numba keeps machine code on disk, with an index for each function. Two processes that compile one function for different
arguments at once may overwrite each other's, so this is not only about the time.
"""

import numpy as np

from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel, e_step, evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel


def compile_kernels():
    """Compile the kernels for the kinds of rows that most tests have: float64, read-only, float32."""
    from streamgmm.gaussian import kernels

    x = np.random.default_rng(0).normal(size=(8, 2))
    parameters = MixtureParameters.from_covariances(
        "full", np.ones(1), np.zeros((1, 2)), FAMILIES["full"].identity(2)[np.newaxis]
    )
    frame = parameters.own_whitening()
    for rows, kernel in ((x, Kernel.FLOAT64), (_read_only(x), Kernel.FLOAT64), (x.astype("f4"), Kernel.FLOAT32)):
        e_step(rows, None, PassModel(parameters, frame, kernel))
    for rows in (x, _read_only(x)):
        evaluate(rows, parameters, log_prob=True, resp=True, labels=True)
        kernels.hash_rows(rows, 1, np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=bool))


def _read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def compile_once(lock_file):
    """Compile the kernels; a process that has the lock compiles, others find them on disk."""
    try:
        import fcntl
    except ImportError:  # another system than those that have it: each process compiles
        compile_kernels()
        return
    with open(lock_file, "w") as file:
        # Given up when the file is closed, by a process that has died too.
        fcntl.flock(file, fcntl.LOCK_EX)
        compile_kernels()
