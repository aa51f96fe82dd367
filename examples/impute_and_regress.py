"""Fill in missing values, and predict some features from others, with how sure that is.

    python examples/impute_and_regress.py [FOLDER]

A mixture is a model of all features together: what it says of some, given others, needs no further fit.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import streamgmm


def households(n_rows: int = 30_000) -> pd.DataFrame:
    """Rooms, power and gas of households with and without a heat pump: a relation with two branches."""
    rng = np.random.default_rng(2)
    pump = rng.random(n_rows) < 0.35
    area = rng.normal(95.0, 25.0, n_rows).clip(25.0)
    power = np.where(pump, 1500.0 + 45.0 * area, 1200.0 + 15.0 * area) + rng.normal(0.0, 350.0, n_rows)
    gas = np.where(pump, 300.0, 1000.0 + 110.0 * area) + rng.normal(0.0, 300.0, n_rows)
    return pd.DataFrame({"area": area, "power": power, "gas": gas})


def main(folder: Path) -> None:
    data = households()
    model = streamgmm.GaussianMixture(4, init_params="kmeans", random_state=0).fit(data)
    print(model)

    rng = np.random.default_rng(0)
    holes = data.mask(rng.random(data.shape) < 0.2)
    filled = {"column means": holes.fillna(holes.mean())}
    for how in ("mean", "draw"):
        filled[how] = pd.DataFrame(model.impute(holes, how=how, random_state=1), columns=data.columns)
    for name, frame in filled.items():
        error = float(np.sqrt((((frame - data) / data.std()) ** 2).to_numpy()[holes.isna().to_numpy()].mean()))
        spread = float(frame["gas"].std() / data["gas"].std())
        print(f"{name:>13}: error {error:.2f} standard deviations, spread of gas {spread:.2f} of what it was")

    # One household of 120 square metres with much power: which gas?
    one = model.condition({"area": 120.0, "power": 7000.0})
    low, high = one.interval(0.9)
    print(f"gas given area and power: 90 % of households from {low:.0f} to {high:.0f} kWh")

    area = np.linspace(40.0, 150.0, 100)
    homes = pd.DataFrame({"area": area})
    mean = model.regress(homes, "gas", given="area")[:, 0]
    low, middle, high = model.regress(homes, "gas", given="area", what="quantiles")[:, 0].T
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.hexbin(data["area"], data["gas"], gridsize=60, bins="log", cmap="Greys")
    axes.plot(area, mean, label="mean")
    axes.plot(area, middle, "--", label="median")
    axes.fill_between(area, low, high, alpha=0.2, label="90 % of households")
    axes.set(
        title="gas by area: two branches, and what is between them",
        xlabel="area, m²",
        ylabel="gas, kWh",
        xlim=(40, 150),
    )
    axes.legend()
    figure.savefig(folder / "regression.png", dpi=110)
    plt.close(figure)
    print(f"the picture is in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
