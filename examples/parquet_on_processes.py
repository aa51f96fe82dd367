"""A Parquet table on a cluster of processes: columns by name, weights, missing values, labels written beside it.

    python examples/parquet_on_processes.py [FOLDER]

The table is made here: trips of a bicycle scheme, with duration, distance and height gained of each, how many trips a
line stands for, and a sensor that fails now and then.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from dask.distributed import Client, LocalCluster

from streamgmm import GaussianMixture, write_predictions

FEATURES = ["minutes", "kilometres", "metres_up"]


def write_trips(folder: Path, n_files: int = 4, n_rows: int = 50_000) -> None:
    """Write commuters, tourists and racers, in files of several row groups."""
    rng = np.random.default_rng(7)
    folder.mkdir()
    kinds = {"commuter": (0.6, 18, 4.5, 30), "tourist": (0.3, 70, 9.0, 60), "racer": (0.1, 120, 55.0, 700)}
    shares, minutes, kilometres, metres = (np.array(column) for column in zip(*kinds.values(), strict=True))
    for number in range(n_files):
        kind = rng.choice(len(kinds), size=n_rows, p=shares)
        effort = rng.normal(1.0, 0.15, n_rows)
        up = metres[kind] * effort * rng.normal(1.0, 0.2, n_rows)
        up[rng.random(n_rows) < 0.001] = np.nan
        table = pa.table(
            {
                "kind": np.array(list(kinds))[kind],
                "minutes": (minutes[kind] * effort * rng.normal(1.0, 0.1, n_rows)).astype(np.float32),
                "kilometres": (kilometres[kind] * effort).astype(np.float32),
                "metres_up": up.astype(np.float32),
                "trips": rng.integers(1, 4, n_rows),
            }
        )
        pq.write_table(table, folder / f"trips-{number}.parquet", row_group_size=20_000)


def main(folder: Path) -> None:
    trips = folder / "trips"
    write_trips(trips)

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        # The active client is used; rows are read by the workers, and only statistics come back.
        model = GaussianMixture(n_components=3, missing="drop", random_state=0)
        model.fit(str(trips), sample_weight="trips", columns=FEATURES)
        print(f"{model.n_iter_} iterations, {model.stop_reason_.value}; left out {model.n_missing_} rows")
        for weight, mean in sorted(zip(model.weights_, model.means_, strict=True), reverse=True, key=lambda t: t[0]):
            values = ", ".join(f"{value:.1f} {name}" for name, value in zip(FEATURES, mean, strict=True))
            print(f"{weight:6.1%}  {values}")
        # The column "kind" is no feature; it goes with the rows.
        written = write_predictions(model, str(trips), folder / "labels.parquet", keep=["kind"])

    table = pads.dataset(folder / "labels.parquet").to_table()
    kinds, labels = table["kind"].to_numpy(), table["label"].to_numpy()
    for kind in np.unique(kinds):
        counts = np.bincount(labels[(kinds == kind) & (labels >= 0)], minlength=3)
        print(f"{counts.max() / counts.sum():.1%} of the {kind} rows have one label")
    print(f"labels of {written.n_rows:,} rows are in {folder / 'labels.parquet'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        main(Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
