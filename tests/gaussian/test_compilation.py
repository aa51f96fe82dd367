"""Kernels compile where no disk can be written."""

import numba

from streamgmm.gaussian.kernels.compilation import compiled


def test_kernels_compile_without_a_cache(monkeypatch):
    plain = numba.njit

    def refusing(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*args, cache=False, **options)

    monkeypatch.setattr(numba, "njit", refusing)

    @compiled
    def add(a, b):
        return a + b

    assert add(1, 2) == 3
