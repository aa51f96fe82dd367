"""Trips of taxis: what kinds there are, as a table for people who don't know mixtures, and which trips are odd.

    python examples/trips_outliers.py [FOLDER]

The trips are made here, in Parquet files by month; some meters are broken, and some drivers go the long way round.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import streamgmm
from streamgmm import plots

FEATURES = ["log_km", "log_minutes", "log_fare"]


def write_trips(folder: Path, n_months: int = 3, n_rows: int = 25_000) -> None:
    """Write trips across town, to the airport, and by night, in files of a month each."""
    rng = np.random.default_rng(11)
    for month in range(1, n_months + 1):
        kind = rng.choice(3, size=n_rows, p=[0.75, 0.1, 0.15])
        km = np.exp(rng.normal(np.log([2.5, 18.0, 6.0])[kind], np.array([0.5, 0.12, 0.4])[kind]))
        speed = np.exp(rng.normal(np.log([14.0, 42.0, 28.0])[kind], 0.18))
        minutes = 60.0 * km / speed
        fare = (3.0 + 1.9 * km + 0.4 * minutes) * np.exp(rng.normal(0.0, 0.04, n_rows))
        odd = rng.random(n_rows) < 0.002
        fare[odd] *= rng.choice([0.1, 5.0], odd.sum())
        trips = pd.DataFrame({"id": np.arange(n_rows) + month * n_rows, "km": km, "minutes": minutes, "fare": fare})
        trips[FEATURES] = np.log(trips[["km", "minutes", "fare"]])
        trips["is_odd"] = odd
        (folder / f"month={month}").mkdir(parents=True)
        trips.to_parquet(folder / f"month={month}" / "trips.parquet", row_group_size=20_000)


def main(folder: Path) -> None:
    trips = folder / "trips"
    write_trips(trips)

    # Lengths, times and prices differ by factors: their logarithms are what clusters are of.
    model = streamgmm.GaussianMixture(3, init_params="kmeans", random_state=0).fit(str(trips), columns=FEATURES)
    print(model)

    # The share of the rows of the fit that counts as odd; the model keeps what log-density that is.
    frame = pd.read_parquet(trips)
    odd = model.outliers(frame, rate=0.005)
    found = frame[odd]
    made = frame["is_odd"].sum()
    print(f"{odd.sum()} odd trips of {len(frame):,}; {found['is_odd'].sum()} of the {made} made odd are among them")
    print(found[["id", "km", "minutes", "fare"]].head(5).to_string(index=False))

    figure, axes = plt.subplots(2, 1, figsize=(8, 9), layout="constrained", height_ratios=[1, 2])
    plots.plot_profile(model, frame, ax=axes[0])
    plots.plot_contours(model, frame, ["log_km", "log_fare"], ax=axes[1])
    axes[1].plot(found["log_km"], found["log_fare"], "r.", markersize=3, label="odd")
    axes[1].legend(loc="lower right")
    figure.savefig(folder / "trips.png", dpi=110)
    plt.close(figure)
    streamgmm.save(model, folder / "trips.safetensors", name="trips", metadata={"unit": "logarithms of km, min, fare"})
    print(f"model and picture are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
