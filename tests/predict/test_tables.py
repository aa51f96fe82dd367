"""Tables are scored and come back as the kind that they were."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pytest

from streamgmm.exceptions import InputError
from streamgmm.predict.scores import SCORES
from tests.predict.scored import FEATURES, expected_scores


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "batch", "Dask"])
def test_tables_come_back_as_the_kind_that_they_were(kind, model, table, x):
    frame = table.to_pandas().set_index("id")
    made = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_arrow(table),
        "pyarrow": lambda: table,
        "batch": lambda: table.combine_chunks().to_batches()[0],
        "Dask": lambda: dd.from_pandas(frame, npartitions=3, sort=False),
    }
    source = made[kind]()
    found = model.predict_table(source, write=SCORES, keep=["name"], outlier_threshold=-6.0)
    assert type(found) is type(source)
    if kind == "Dask":
        expected_meta = found._meta
        found = found.compute()
        pd.testing.assert_series_equal(found.dtypes, expected_meta.dtypes)
    in_pandas = found if isinstance(found, pd.DataFrame) else found.to_pandas()
    if kind in ("pandas", "Dask"):
        pd.testing.assert_index_equal(in_pandas.index, frame.index)
    assert in_pandas["name"].fillna("-").tolist() == frame["name"].fillna("-").tolist()
    for name, values in expected_scores(model, x).items():
        np.testing.assert_array_equal(in_pandas[name], values)
    alone = model.predict_table(source)
    assert list(
        alone.columns if hasattr(alone, "columns") and kind in ("pandas", "polars", "Dask") else alone.schema.names
    ) == ["label"]


def test_a_table_is_asked_for_where_none_is_given(model, x):
    with pytest.raises(InputError, match="predict_table takes a DataFrame"):
        model.predict_table(x)
    with pytest.raises(InputError, match="has the name of a result"):
        model.predict_table(pd.DataFrame(x, columns=FEATURES).assign(label=1), keep=["label"])
