"""What tests in several rooms use: data, starts, models."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from streamgmm.em.anderson import Anderson
from streamgmm.em.iteration import run_em, start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.gaussian.regularization import PenalizedMStep

N_ROWS, NAMES = 5000, ["a", "b", "c"]
X = np.random.default_rng(1).normal(size=(N_ROWS, 3))
WEIGHT = np.random.default_rng(2).integers(0, 3, N_ROWS).astype(float)


def arrow_table():
    return pa.table({**{name: X[:, j] for j, name in enumerate(NAMES)}, "w": WEIGHT})


FAMILY_NAMES = ("full", "tied", "diag", "spherical")


def clusters(rng, n_rows=3000, n_features=3, n_components=3, spread=5.0):
    """Rows of a mixture of full covariances, in random order."""
    centers = rng.normal(size=(n_components, n_features)) * spread
    labels = rng.integers(n_components, size=n_rows)
    factors = np.eye(n_features) + 0.4 * rng.normal(size=(n_components, n_features, n_features))
    return centers[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n_rows, n_features)))


def a_start(x, n_components, covariance_type, rng):
    """weights_init, means_init, precisions_init somewhere near the data."""
    n_features = x.shape[1]
    variances = x.var(axis=0)
    precisions = {
        "full": np.tile(np.diag(1.0 / variances), (n_components, 1, 1)),
        "tied": np.diag(1.0 / variances),
        "diag": np.tile(1.0 / variances, (n_components, 1)),
        "spherical": np.full(n_components, 1.0 / variances.mean()),
    }[covariance_type]
    weights = rng.uniform(0.5, 1.5, n_components)
    means = x[rng.choice(len(x), n_components, replace=False)]
    assert means.shape == (n_components, n_features)
    return {"weights_init": weights / weights.sum(), "means_init": means, "precisions_init": precisions}


def model_of(x, n_components, covariance_type, rng, kernel=Kernel.FLOAT64):
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.atleast_2d(np.cov(x.T, bias=True)))
    start = a_start(x, n_components, covariance_type, rng)
    covariances = family.covariances_of_precisions(start["precisions_init"])
    data = MixtureParameters.from_covariances(covariance_type, start["weights_init"], start["means_init"], covariances)
    return PassModel(data.whiten(whitening), whitening, kernel), data


def quiet_fit(model, x, **keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, **keywords)


def bad_inputs(folder):
    """Name, what to open, keywords, what the message must name."""
    pq.write_table(arrow_table(), folder / "good.parquet")
    pq.write_table(pa.table({"a": X[:, 0], "s": ["text"] * N_ROWS}), folder / "text.parquet")
    (folder / "not.parquet").write_text("hello, no parquet here")
    (folder / "not.npy").write_text("hello")
    (folder / "other.txt").write_text("hello")
    (folder / "empty").mkdir()
    np.save(folder / "object.npy", np.array([[1, "a"]], dtype=object), allow_pickle=True)
    pq.write_table(arrow_table().slice(0, 0), folder / "norows.parquet")
    (folder / "mixed").mkdir()
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), folder / "mixed" / "0.parquet")
    pq.write_table(pa.table({"a": X[:, 0], "b": ["text"] * N_ROWS}), folder / "mixed" / "1.parquet")
    group = zarr.open_group(str(folder / "two.zarr"), mode="w")
    group.create_array("x", data=X)
    group.create_array("y", data=X)
    zarr.create_array(str(folder / "cube.zarr"), data=np.zeros((2, 2, 2)))
    zarr.create_array(str(folder / "complex.zarr"), data=np.zeros((2, 2), complex))
    frame = pd.DataFrame({"a": [1.0], "s": ["text"]})
    return [
        ("missing path", str(folder / "nowhere.zarr"), {}, "nowhere.zarr does not exist"),
        ("missing glob", str(folder / "nowhere*.parquet"), {}, "matches no file"),
        ("no parquet", str(folder / "not.parquet"), {}, r"not\.parquet can't be read as Parquet"),
        ("no npy", str(folder / "not.npy"), {}, r"not\.npy can't be read"),
        ("other file", str(folder / "other.txt"), {}, r"other\.txt is neither"),
        ("empty folder", str(folder / "empty"), {}, "empty is a folder without files"),
        ("objects", str(folder / "object.npy"), {}, r"object\.npy can't be read"),
        ("missing column", str(folder / "good.parquet"), {"columns": ["a", "z"]}, r"no column 'z'.*'a', 'b', 'c', 'w'"),
        ("missing weights", str(folder / "good.parquet"), {"sample_weight": "z"}, "no column 'z'"),
        ("text column", str(folder / "text.parquet"), {}, r"column 's' of .*text\.parquet.*columns="),
        ("no rows", str(folder / "norows.parquet"), {}, "has no rows"),
        ("text in a file", str(folder / "mixed"), {}, r"column 'b' of .*mixed/1\.parquet holds text"),
        ("two arrays", str(folder / "two.zarr"), {}, r"2 two-dimensional arrays.*two\.zarr/x"),
        ("cube", str(folder / "cube.zarr"), {}, "3 dimensions"),
        ("complex", str(folder / "complex.zarr"), {}, "complex128"),
        ("object array", np.array([["a", "b"]], dtype=object), {}, "dtype object"),
        ("pandas text", frame, {}, "column 's'"),
        ("columns of an array", X, {"columns": ["a"]}, "columns= is for tables"),
        ("weight column of an array", X, {"sample_weight": "w"}, "names a column"),
        ("weights too short", X, {"sample_weight": np.ones(3)}, r"must have shape \(5000,\).*\(3,\)"),
        ("dask cube", da.zeros((4, 4, 4)), {}, "3 dimensions"),
        ("dask complex", da.zeros((4, 4), dtype=complex), {}, "complex128"),
        ("a dict", {"a": 1}, {}, "X is a builtins.dict; expected a NumPy array"),
    ]


def problem_of(x, covariance_type):
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    reach = np.full(x.shape[1], 5.0)
    return Problem(
        whitening, PenalizedMStep.automatic(family, whitening, len(x)), reach, False, whitening.whiten(x[:500]), 0
    )


def fitted(problem, x, parameters):
    rows = RowsInMemory(x, np.ones(len(x)))
    return run_em(problem, start_state(parameters), rows.read, Anderson(), tol=1e-5, max_iter=500), rows


def a_bad_optimum(x, covariance_type):
    """Two components on one far cluster, one on the two others."""
    problem = problem_of(x, covariance_type)
    centers = np.array([[12.0, 0.0], [12.5, 0.5], [-6.0, 0.0]])
    z = problem.whitening.whiten(centers)
    family = FAMILIES[covariance_type]
    one = 0.02 * family.identity(2)
    covariances = one if family.shared else np.stack([one] * 3)
    start = MixtureParameters.from_covariances(covariance_type, np.full(3, 1 / 3), z, covariances)
    state, rows = fitted(problem, x, start)
    return problem, state, rows


def limit(n_sample, n_features):
    return 8 * n_sample * 8 * (n_features + 2)
