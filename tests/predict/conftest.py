"""A model of three features, and a table of them with keys of many types."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from streamgmm import GaussianMixture
from tests.predict.scored import FEATURES, datetime_decimal


@pytest.fixture
def model(x):
    names = pd.DataFrame(x, columns=FEATURES)
    return GaussianMixture(3, random_state=0, init_params="kmeans", max_iter=5, tol=0).fit(names)


@pytest.fixture
def table(x):
    """Rows with keys of many types, and nulls in some."""
    n = len(x)
    rng = np.random.default_rng(1)
    day = np.datetime64("2026-01-01") + rng.integers(0, 3, n).astype("timedelta64[D]")
    columns = {
        "id": pa.array(rng.permutation(n)),
        "name": pa.array([None if i % 7 == 0 else f"row {i}" for i in range(n)]),
        "day": pa.array(day.astype("datetime64[D]"), type=pa.date32()),
        "seen": pa.array(np.datetime64("2026-01-01T00:00:00.123456") + np.arange(n), type=pa.timestamp("us", tz="UTC")),
        "price": pa.array([datetime_decimal(i) for i in range(n)], type=pa.decimal128(12, 2)),
        "kind": pa.array(rng.choice(["u", "v"], n)).dictionary_encode(),
        "flags": pa.array([[i, i + 1] for i in range(n)]),
        **{name: x[:, j] for j, name in enumerate(FEATURES)},
    }
    return pa.table(columns)
