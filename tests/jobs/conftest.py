"""A folder with rows, and a model of them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamgmm import GaussianMixture, save
from tests.jobs.commands import N


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with rows, and a model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 2)) + 6 * (np.arange(N) % 2)[:, None]
    holes = np.where(np.arange(N) < 30, np.nan, x[:, 0])
    pq.write_table(
        pa.table({"id": np.arange(N), "a": x[:, 0], "b": x[:, 1], "holes": holes}), tmp_path / "x.parquet",
        row_group_size=500,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    fitted = GaussianMixture(2, random_state=0, init_params="kmeans").fit("x.parquet", columns=["a", "b"])
    save(fitted, "m")
    return tmp_path
