"""Count the readings of all rows that a fit needs to come within 1e-4 and 1e-6 nats per row of the optimum.

    python -m tests.benchmarks.passes [NAME ...] [--seeds 3]

The optimum is the best that any of the runs here has found. A model counts as reached after a reading if the fit would
have returned it had it stopped there. The reading that draws the sample counts. Ways to fit:

    default         as it comes; data that fits in the sample's memory is read once
    out of core     the same, with a memory limit that holds an eighth of the rows (10,000 at least) in the sample
    Anderson        the same sample, without surrogate steps
    plain EM        the same sample and start, accelerate=False
    cold EM         accelerate=False from one k-means++ start, as a loop by hand would

A dash means that the fit ended without coming so near: it stopped by itself, went to another optimum, or was at its
200th reading.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from unittest import mock

import numpy as np

from streamgmm import GaussianMixture
from streamgmm.em.state import State
from streamgmm.fitting import prepare as preparation
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.predict.evaluate import log_likelihood
from streamgmm.sources.open import open_rows
from tests.benchmarks.datasets import DATA_SETS, DataSet, chosen

GAPS = (1e-4, 1e-6)
WAYS = ("default", "out of core", "Anderson", "plain EM", "cold EM")


def limit(x: np.ndarray) -> int:
    """A memory limit under which the sample holds an eighth of the rows, or 10,000."""
    return 8 * max(10_000, len(x) // 8) * 8 * (x.shape[1] + 2)


def bounds(data: DataSet, x: np.ndarray, way: str, seed: int) -> tuple[list[float], bool]:
    """Return the objective of what a fit would return after each of its iterations, and whether it ran in memory."""
    keywords: dict = {"covariance_type": data.covariance_type, "random_state": seed, "tol": 1e-7}
    if way != "default":
        keywords["memory_limit"] = limit(x)
    if way in ("plain EM", "cold EM"):
        keywords["accelerate"] = False
    if way == "cold EM":
        keywords["init_params"] = "k-means++"
    states: list[State] = []
    surrogates = 10**9 if way == "Anderson" else preparation._FEWEST_FOR_SURROGATE
    with warnings.catch_warnings(), mock.patch.object(preparation, "_FEWEST_FOR_SURROGATE", surrogates):
        warnings.simplefilter("ignore")
        model = GaussianMixture(data.n_components, callback=states.append, **keywords).fit(x)
    return [objective(data, x, state.safe) for state in states], model.fit_report_.in_memory


def objective(data: DataSet, x: np.ndarray, whitened: MixtureParameters) -> float:
    """Return the mean log-likelihood less the penalty, in float64."""
    family = FAMILIES[data.covariance_type]
    wide = x.astype(np.float64)
    whitening = family.whitening(wide.mean(axis=0), np.cov(wide.T, bias=True))
    found = log_likelihood(open_rows(x), whitened.unwhiten(whitening), missing="raise")
    return found.mean - PenalizedMStep.automatic(whitened.family, whitening, len(x)).penalty(whitened) / len(x)


def passes_to(found: list[float], optimum: float, gap: float) -> int | None:
    """Return how many readings it took, the sample's included."""
    return next((number + 2 for number, bound in enumerate(found) if bound > optimum - gap), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(data.name for data in DATA_SETS)}")
    parser.add_argument("--seeds", type=int, default=1, help="random states for each fit; medians are shown")
    options = parser.parse_args()
    print(f"{'':<24}" + "".join(f"{way:>16}" for way in WAYS) + "      (readings to 1e-4 / 1e-6)")
    table: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for data in chosen(options.names):
        x = data.make()
        runs = {way: [bounds(data, x, way, seed) for seed in range(options.seeds)] for way in WAYS}
        optimum = max(max(found) for way in WAYS for found, _ in runs[way])
        line = f"{data.name:<24}"
        for way in WAYS:
            counts = []
            for gap in GAPS:
                found = [passes_to(one, optimum, gap) or np.inf for one, _ in runs[way]]
                in_memory = [memory for _, memory in runs[way]]
                counts.append(
                    statistics.median(
                        1 if memory and np.isfinite(n) else n for n, memory in zip(found, in_memory, strict=True)
                    )
                )
            table[way].append((counts[0], counts[1]))
            line += f"{_shown(counts):>16}"
        missed = {way: optimum - max(max(found) for found, _ in runs[way]) for way in WAYS}
        print(line + "   " + ", ".join(f"{way} ends {by:.1e} lower" for way, by in missed.items() if by > GAPS[1]))
        sys.stdout.flush()
    for name, function in (("median", statistics.median), ("largest", max)):
        print(f"{name:<24}" + "".join(
            f"{_shown([function(row[i] for row in table[way]) for i in (0, 1)]):>16}" for way in WAYS
        ))  # fmt: skip


def _shown(counts: list[float]) -> str:
    return " / ".join(f"{n:g}" if np.isfinite(n) else "-" for n in counts)


if __name__ == "__main__":
    main()
