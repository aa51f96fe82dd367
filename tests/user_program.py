"""What a user writes, for type checkers: pyright and mypy accept it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import streamgmm
from streamgmm import GaussianMixture, InputError, StopReason


def fit(path: Path, rows: npt.NDArray[np.float64]) -> GaussianMixture:
    """Fit, look at what came of it, save and load."""
    model = GaussianMixture(n_components=3, covariance_type="diag", random_state=0, memory_limit="1GB")
    model.fit(rows, sample_weight=np.ones(len(rows)))
    means: npt.NDArray[np.float64] = model.means_
    if model.stop_reason_ is StopReason.MAX_ITER or not model.converged_:
        print(model.fit_report_.n_passes, model.stop_reason_.advice, means.shape)
    streamgmm.save(model, path, name="visits", metadata={"owner": "us"})
    loaded = streamgmm.load(path)
    summary = loaded.training_summary_
    print(summary.fitted_at if summary is not None else "by hand")
    return loaded


def ask(model: GaussianMixture, rows: pd.DataFrame) -> float:
    """Ask all kinds of questions."""
    part = model.marginal(["a", "b"]).condition({"a": 1.0})
    low, high = part.interval(0.9)
    tree = model.merge_tree(rows, distance="demp")
    merged = model.merge(tree.n_clusters, tree=tree)
    labels: npt.NDArray[np.int64] = np.asarray(merged.predict(rows))
    outliers = np.asarray(model.outliers(rows, rate=0.01))
    entropy = model.entropy(n_samples=1000)
    table: pd.DataFrame = model.components()
    made = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0], covariance_type="spherical")
    reference = made.to_sklearn()
    back: GaussianMixture = GaussianMixture.from_sklearn(reference)
    query: str = model.to_sql("duckdb", "label", table="visits", keep=["id"])
    print(low, high, labels.max(), outliers.sum(), table.shape, back == made, len(query))
    return entropy.value + entropy.standard_error


def choose(rows: npt.NDArray[np.float64]) -> int:
    """Choose a size."""
    try:
        found = streamgmm.search(rows, range(1, 6), criterion="held_out")
    except InputError as error:
        raise SystemExit(str(error)) from error
    best: GaussianMixture = found.best
    return len(best.weights_)
