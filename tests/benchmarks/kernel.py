"""Time one E-step with statistics against scikit-learn's, and daal4py's em_gmm where that is installed.

    python -m tests.benchmarks.kernel [--quick]

Every figure of a line comes from one run on the same rows; ratios are of medians. "2D K F" below counts the useful
arithmetic of the two matrix products, 4 K F per row (and 2 D^2 for whitening where the frame is a matrix), whatever the
kernel does beyond it; the peak is NumPy's own product of two large matrices with the same number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np
from sklearn.mixture import GaussianMixture as Reference
from threadpoolctl import threadpool_limits

from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel, e_step
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel

SHAPES = ((2, 5), (4, 8), (16, 16), (32, 32), (64, 32))


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def peak(dtype: type, n_threads: int) -> float:
    """Floating-point operations per second of NumPy's matrix product."""
    n = 2048
    a = np.random.default_rng(0).normal(size=(n, n)).astype(dtype)
    with threadpool_limits(n_threads, user_api="blas"):
        return 2 * n**3 / median_seconds(lambda: a @ a, 7)


def a_model(x: np.ndarray, n_components: int, covariance_type: str, kernel: Kernel) -> PassModel:
    family = FAMILIES[covariance_type]
    n_features = x.shape[1]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    one = family.identity(n_features)
    covariances = one if family.shared else np.stack([one] * n_components)
    means = np.random.default_rng(1).normal(size=(n_components, n_features))
    weights = np.full(n_components, 1.0 / n_components)
    parameters = MixtureParameters.from_covariances(covariance_type, weights, means, covariances)
    return PassModel(parameters, whitening, kernel)


def our_e_step(x: np.ndarray, model: PassModel, n_threads: int) -> Callable[[], object]:
    if n_threads == 1:
        return lambda: e_step(x, None, model)
    # Tasks of a cluster are of tens of milliseconds at least; smaller parts would time the making of their workspaces.
    parts = np.array_split(x, 2 * n_threads)
    pool = ThreadPoolExecutor(n_threads)
    return lambda: list(pool.map(lambda part: e_step(part, None, model), parts))


def scikit_learns(x: np.ndarray, n_components: int, covariance_type: str) -> Callable[[], object]:
    """One E-step and the M-step that takes the statistics, as scikit-learn's loop does them."""
    reference = Reference(n_components, covariance_type=covariance_type)
    resp = np.random.default_rng(1).dirichlet(np.ones(n_components), len(x)).astype(x.dtype)
    reference._initialize(x, resp)

    def iterate() -> None:
        _, log_resp = reference._e_step(x)
        reference._m_step(x, log_resp)

    return iterate


def import_daal4py() -> ModuleType | None:
    if find_spec("daal4py") is None:
        return None
    # Its patches of scikit-learn import with scikit-learn 1.5 at most; the algorithm needs none of them.
    for name in ("daal4py.sklearn", "daal4py.mb"):
        sys.modules.setdefault(name, ModuleType(name))
    return import_module("daal4py")


def daals(x: np.ndarray, n_components: int, covariance_type: str) -> Callable[[], object] | None:
    daal4py = import_daal4py()
    if daal4py is None:
        return None
    if covariance_type not in ("full", "diag"):
        return None
    n_features = x.shape[1]
    weights = np.full((1, n_components), 1.0 / n_components)
    means = np.random.default_rng(1).normal(size=(n_components, n_features))
    covariances = [np.eye(n_features) if covariance_type == "full" else np.ones((1, n_features))] * n_components
    storage = "full" if covariance_type == "full" else "diagonal"
    algorithm = daal4py.em_gmm(n_components, maxIterations=1, accuracyThreshold=0.0, covarianceStorage=storage)
    return lambda: algorithm.compute(x, weights, means, covariances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rows and repeats")
    quick = parser.parse_args().quick
    repeats = 3 if quick else 5
    peaks = {(dtype, n): peak(dtype, n) for dtype in (np.float64, np.float32) for n in (1, 2)}
    for (dtype, n), value in peaks.items():
        print(f"matrix-product peak {np.dtype(dtype).name}, {n} thread(s): {value / 1e9:.0f} GFlop/s")
    header = f"{'family':>9} {'(D, K)':>8} {'dtype':>7} | {'1 thread':>8} {'2 threads':>9} {'speed-up':>8} | "
    header += f"{'peak 1':>6} {'peak 2':>6} "
    print(header + f"| {'sklearn':>8} {'ratio':>6} | {'daal4py':>8} {'ratio':>6}      (ns per row)")
    for dtype, kernel in ((np.float64, Kernel.FLOAT64), (np.float32, Kernel.FLOAT32)):
        for covariance_type, family in FAMILIES.items():
            for n_features, n_components in SHAPES:
                n_columns = len(family.factor_pairs(n_features)[0])
                n_rows = int(min(4_000_000, 16e6 / n_features) * (0.2 if quick else 1.0))
                if n_features * n_components >= 1024:
                    n_rows //= 2
                x = np.random.default_rng(0).normal(size=(n_rows, n_features)).astype(dtype)
                model = a_model(x, n_components, covariance_type, kernel)
                per_row = 1e9 / n_rows
                ours = [median_seconds(our_e_step(x, model, n), repeats) * per_row for n in (1, 2)]
                with threadpool_limits(2, user_api="blas"):
                    theirs = median_seconds(scikit_learns(x, n_components, covariance_type), 3) * per_row
                    daal = daals(x, n_components, covariance_type)
                    daal_seconds = median_seconds(daal, 3) * per_row if daal else None
                whitening = 2 * n_features**2 if covariance_type in ("full", "tied") else 0
                flops = 4 * n_components * n_columns + whitening
                shares = [flops / ours[n - 1] * 1e9 / peaks[dtype, n] for n in (1, 2)]
                line = (
                    f"{covariance_type:>9} {f'({n_features}, {n_components})':>8} {np.dtype(dtype).name:>7} | "
                    f"{ours[0]:8.1f} {ours[1]:9.1f} {ours[0] / ours[1]:8.2f} | {shares[0]:6.0%} {shares[1]:6.0%} | "
                    f"{theirs:8.0f} {theirs / ours[1]:6.1f} |"
                )
                line += f" {daal_seconds:8.0f} {daal_seconds / ours[1]:6.1f}" if daal_seconds else f" {'-':>8} {'-':>6}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
