"""Whole fits against scikit-learn's on the same rows in the same run: seconds, and the log-likelihood that they reach.

    python -m tests.benchmarks.endtoend [NAME ...] [--rows 1000000] [--every 10] [--n-init 10] [--random-states 5]

The first line is 1M x 16 with K=16 full covariances. scikit-learn runs with tol=1e-6, once with n_init=1 and, where
``--n-init`` is given, with that; both fits regularise alike (reg_covar=1e-6, scikit-learn's default), so that they
maximise the same thing. Seconds are medians over the random states of ours; scikit-learn runs once.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import numpy as np
from sklearn.mixture import GaussianMixture as Reference

from streamgmm import GaussianMixture
from tests.benchmarks.datasets import DATA_SETS, DataSet, mixture_rows


def large(n_rows: int) -> DataSet:
    return DataSet(
        "large", lambda: mixture_rows(n_rows, 16, 16, distance=0.35, seed=11).astype(np.float64), n_components=16
    )


def ours(data: DataSet, x: np.ndarray, seed: int) -> tuple[float, float, int]:
    began = time.perf_counter()
    model = GaussianMixture(
        data.n_components, covariance_type=data.covariance_type, reg_covar=1e-6, tol=1e-6, random_state=seed
    ).fit(x)
    return time.perf_counter() - began, model.score(x), model.fit_report_.n_passes


def scikit_learns(data: DataSet, x: np.ndarray, n_init: int) -> tuple[float, float, int]:
    began = time.perf_counter()
    model = Reference(
        data.n_components, covariance_type=data.covariance_type, tol=1e-6, max_iter=1000, n_init=n_init, random_state=0
    ).fit(x)
    return time.perf_counter() - began, model.score(x), model.n_iter_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of large, {', '.join(data.name for data in DATA_SETS)}")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large data set")
    parser.add_argument("--every", type=int, default=1, help="take one of so many rows of each other data set")
    parser.add_argument("--n-init", type=int, default=1, help="scikit-learn's")
    parser.add_argument("--random-states", type=int, default=1, help="of our fit")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    GaussianMixture(2, random_state=0).fit(np.random.default_rng(0).normal(size=(500, 2)))  # compiles the kernels
    print(
        f"{'':<24}{'ours':>9}{'scikit-learn':>14}{'ratio':>8}{'iterations':>12}{'passes':>10}"
        f"{'ours, lowest':>16}{'scikit-learn':>16}{'difference':>12}      (seconds; nats per row)"
    )
    for data in (large(options.rows), *DATA_SETS):
        if options.names and not any(name in data.name for name in options.names):
            continue
        x = data.make().astype(np.float64)
        if data.name != "large" and len(x) > 10_000:
            x = np.ascontiguousarray(x[:: options.every])
        fits = [ours(data, x, seed) for seed in range(options.random_states)]
        seconds = statistics.median(fit[0] for fit in fits)
        lowest = min(fit[1] for fit in fits)
        reference, score, n_iter = scikit_learns(data, x, options.n_init)
        print(
            f"{data.name:<24}{seconds:>9.2f}{reference:>14.1f}{reference / seconds:>8.1f}{n_iter:>12}"
            f"{max(fit[2] for fit in fits):>10}{lowest:>16.6f}{score:>16.6f}{lowest - score:>12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
