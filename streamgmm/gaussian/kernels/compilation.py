"""How kernels are compiled: without the GIL, cached on disk where a disk can be written."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import binding

Function = TypeVar("Function", bound=Callable[..., Any])

# Neither "nnan" nor "ninf" (missing values are found by arithmetic on NaN), nor "reassoc" (it would undo the rounding
# trick in exp, and let sums depend on the vector width): the same bits on every machine that has fused multiply-add.
FAST_MATH = {"contract", "arcp", "nsz"}


def compiled(function: Function) -> Function:
    """Compile `function` at its first call, and keep the machine code on disk where that is possible."""
    options = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:
        # Numba refuses to cache where neither the package's folder nor a home can be written (some containers).
        return numba.njit(cache=False, **options)(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Compile `function` into its callers."""
    return numba.njit(inline="always", fastmath=FAST_MATH, error_model="numpy")(function)  # type: ignore[no-any-return]


def has_32_wide_registers() -> bool:
    """Tell whether the target has 32 vector registers of 64 bytes (AVX-512)."""
    features = numba.config.CPU_FEATURES
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return "+avx512f" in features.split(",")
