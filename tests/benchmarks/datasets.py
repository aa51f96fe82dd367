"""The data sets of the benchmarks: made, so that the truth is known, and real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DataSet:
    """Rows, and the mixture that is fitted to them."""

    name: str
    make: Callable[[], np.ndarray]
    n_components: int
    covariance_type: str = "full"


def mixture_rows(
    n_rows: int,
    n_features: int,
    n_components: int,
    *,
    distance: float,
    seed: int,
    weights: np.ndarray | None = None,
    degrees_of_freedom: float | None = None,
    sort_by: int | None = None,
) -> np.ndarray:
    """Rows of clusters with covariances of their own, whose centres lie `distance` deviations from zero per feature."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_components, n_features)) * distance
    factors = np.eye(n_features) + rng.normal(size=(n_components, n_features, n_features)) / np.sqrt(n_features)
    x = rng.normal(size=(n_rows, n_features))
    if degrees_of_freedom is not None:
        x /= np.sqrt(rng.chisquare(degrees_of_freedom, size=(n_rows, 1)) / degrees_of_freedom)
    labels = rng.choice(n_components, size=n_rows, p=weights)
    for k in range(n_components):
        mine = labels == k
        x[mine] = centers[k] + x[mine] @ factors[k].T
    return x if sort_by is None else x[np.argsort(x[:, sort_by], kind="stable")]


def falling_weights(n: int, ratio: float) -> np.ndarray:
    weights = ratio ** np.arange(n)
    return weights / weights.sum()


def patches(height: int) -> np.ndarray:
    from streamgmm.datasets.photographs import patches as strips

    return np.concatenate(list(strips((height, height))))


def digits(n_features: int) -> np.ndarray:
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    return PCA(n_features, random_state=0).fit_transform(load_digits().data)


DATA_SETS = (
    DataSet("overlapping", lambda: mixture_rows(400_000, 8, 10, distance=1.0, seed=1), 10),
    DataSet("separated", lambda: mixture_rows(400_000, 4, 6, distance=5.0, seed=2), 6),
    DataSet(
        "skewed weights",
        lambda: mixture_rows(400_000, 6, 8, distance=1.5, seed=3, weights=falling_weights(8, 0.6)),
        8,
    ),
    DataSet("heavy tails", lambda: mixture_rows(400_000, 5, 8, distance=2.0, seed=4, degrees_of_freedom=3.0), 8),
    DataSet("sorted", lambda: mixture_rows(400_000, 5, 8, distance=1.2, seed=5, sort_by=0), 8),
    DataSet("64 features", lambda: mixture_rows(200_000, 64, 5, distance=0.5, seed=6), 5),
    DataSet("patches 4 x 4", lambda: patches(4), 8),
    DataSet("patches 8 x 8", lambda: patches(8), 4),
    DataSet("digits", lambda: digits(10), 10),
    DataSet("overlapping, tied", lambda: mixture_rows(400_000, 8, 10, distance=1.5, seed=7), 10, "tied"),
    DataSet("overlapping, diag", lambda: mixture_rows(400_000, 8, 10, distance=1.5, seed=7), 10, "diag"),
    DataSet("overlapping, spherical", lambda: mixture_rows(400_000, 8, 10, distance=1.5, seed=7), 10, "spherical"),
    DataSet("patches 4 x 4, diag", lambda: patches(4), 12, "diag"),
)


def chosen(names: list[str] | None) -> list[DataSet]:
    """Return the data sets whose names contain one of some texts; all where none is given."""
    return [one for one in DATA_SETS if not names or any(name in one.name for name in names)]
