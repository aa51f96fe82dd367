"""Kinds of water: profiles of temperature are rows, depths are features, the map of classes is the result.

    python examples/ocean_profiles.py [FOLDER]

The field is made here, on a grid of time, depth, latitude and longitude, in a Zarr store with chunks, as models and
reanalyses of the ocean write it. Land is missing. (Maze et al., "Coherent heat patterns revealed by unsupervised
classification of Argo temperature profiles", Progress in Oceanography 151, 2017, is how such classes are used.)
"""

import sys
import tempfile
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import streamgmm

DEPTHS = np.array([5.0, 50.0, 100.0, 200.0, 400.0, 800.0])


def write_ocean(path: Path, n_months: int = 12) -> None:
    """Write a field with warm, temperate and polar waters, and the same with noise that eddies make."""
    rng = np.random.default_rng(3)
    latitude, longitude = np.linspace(-78.0, 78.0, 79), np.arange(0.0, 360.0, 4.0)
    month = np.arange(n_months)
    lat = np.radians(latitude)[:, np.newaxis]
    front = 38.0 + 6.0 * np.sin(2.0 * np.radians(longitude))
    warm = 1.0 / (1.0 + np.exp((np.abs(latitude)[:, np.newaxis] - front) / 3.0))
    surface = 2.0 + 10.0 * np.cos(lat) ** 2 + 14.0 * warm
    season = 3.0 * np.sin(2.0 * np.pi * month / 12.0)[:, np.newaxis, np.newaxis] * np.sin(lat)
    decay = np.exp(-DEPTHS / 350.0)
    field = 2.0 + (surface - 2.0)[:, :, np.newaxis] * decay + np.zeros((n_months, 1, 1, 1))
    field += season[..., np.newaxis] * np.exp(-DEPTHS / 60.0)
    eddies = rng.normal(0.0, 0.7, (*field.shape[:3], 1)) * np.exp(-DEPTHS / 500.0)
    field += eddies + rng.normal(0.0, 0.15, field.shape)
    land = (np.abs(longitude - 60.0) < 25.0) & (np.abs(latitude - 20.0) < 30.0)[:, np.newaxis]
    field[:, land] = np.nan
    ocean = xr.DataArray(
        field.astype(np.float32),
        dims=("time", "lat", "lon", "depth"),
        coords={
            "time": np.datetime64("2020-01", "ns") + month * np.timedelta64(30, "D"),
            "lat": ("lat", latitude, {"units": "degrees_north"}),
            "lon": ("lon", longitude, {"units": "degrees_east"}),
            "depth": ("depth", DEPTHS, {"units": "m"}),
        },
        attrs={"long_name": "temperature", "units": "degree_Celsius"},
    )
    ocean.transpose("time", "depth", "lat", "lon").to_dataset(name="temperature").chunk(time=4, lat=40).to_zarr(
        path, mode="w", consolidated=False
    )


def main(folder: Path) -> None:
    store = folder / "ocean.zarr"
    write_ocean(store)
    temperature = xr.open_zarr(store, consolidated=False)["temperature"]
    print(f"{temperature.sizes} in chunks of {temperature.data.chunksize}")

    model = streamgmm.GaussianMixture(5, missing="drop", init_params="kmeans", tol=1e-3, random_state=0)
    with dask.config.set(scheduler="threads"):
        model.fit(temperature, feature_dim="depth")
        print(model)
        # On the grid of the field, lazily, chunk by chunk: written as it is computed.
        classes = xr.Dataset({
            "label": model.predict(temperature),
            "log_density": model.score_samples(temperature),
        })  # fmt: skip
        classes.to_zarr(folder / "classes.zarr", mode="w", consolidated=False)
    classes = xr.open_zarr(folder / "classes.zarr", consolidated=False)

    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", width_ratios=[2, 1])
    january = classes["label"].isel(time=0)
    shown = axes[0].pcolormesh(classes["lon"], classes["lat"], january.where(january >= 0), cmap="Set2", vmin=0, vmax=7)
    axes[0].set(
        title="class of water, first month; land is missing", xlabel="longitude, degrees", ylabel="latitude, degrees"
    )
    for k in np.argsort(-model.weights_):
        spread = np.sqrt(np.diagonal(model.covariances_[k]))
        colour = shown.cmap(shown.norm(k))
        axes[1].plot(model.means_[k], DEPTHS, color=colour, label=f"{k}: {model.weights_[k]:.0%}")
        axes[1].fill_betweenx(DEPTHS, model.means_[k] - spread, model.means_[k] + spread, color=colour, alpha=0.25)
    axes[1].set(title="typical profile ± standard deviation", xlabel="temperature, °C", ylabel="depth, m")
    axes[1].invert_yaxis()
    axes[1].legend(title="class: share")
    figure.savefig(folder / "ocean.png", dpi=110)
    plt.close(figure)
    print(f"classes and picture are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
