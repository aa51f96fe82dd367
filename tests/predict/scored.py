"""What tests of scored rows share: how rows are stored, read again, and what is expected of them."""

from itertools import pairwise

import pandas as pd
import pyarrow.dataset as pads
import pyarrow.parquet as pq

FEATURES = ["a", "b", "c"]
KEYS = ["id", "name", "day", "seen", "price", "kind", "flags"]


def datetime_decimal(i):
    import decimal

    return None if i % 11 == 0 else decimal.Decimal(i).scaleb(-2)


def named(model, x):
    """The rows as the model knows its features: by names or by places."""
    return pd.DataFrame(x, columns=FEATURES) if hasattr(model, "feature_names_in_") else x


def expected_scores(model, x):
    x = named(model, x)
    proba = model.predict_proba(x)
    return {
        "label": model.predict(x),
        "probability": proba.max(axis=1),
        "log_density": model.score_samples(x),
        "outlier": model.outliers(x, threshold=-6.0),
        **{f"proba_{k}": proba[:, k] for k in range(proba.shape[1])},
    }


def read(path):
    """All rows of a folder of Parquet files, in the order of their names."""
    return pads.dataset(sorted(str(one) for one in path.rglob("*.parquet")), format="parquet").to_table()


def content(folder):
    """The bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_table(table, folder, layout):
    """Store a table in one of several ways."""
    folder.mkdir()
    n = table.num_rows
    if layout == "ragged row groups":
        with pq.ParquetWriter(folder / "0.parquet", table.schema) as writer:
            for start, stop in pairwise([0, 1, 402, 402, 959, 1519, n]):
                writer.write_table(table.slice(start, stop - start))
    elif layout == "one row group":
        pq.write_table(table, folder / "0.parquet", row_group_size=n)
    else:
        for number, start in enumerate(range(0, n, 100)):
            pq.write_table(table.slice(start, 100), folder / f"{number}.parquet")
    return str(folder)
