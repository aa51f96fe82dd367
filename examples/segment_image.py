"""Segment a photograph by colour: pixels are rows, colours are features, and labels come back as a picture.

    python examples/segment_image.py [FOLDER]

The picture is one that scikit-learn ships. As a DataArray of xarray, (y, x, channel), it needs no reshaping: the points
of the other dimensions are the rows, and what is predicted has their place.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from sklearn.datasets import load_sample_image

import streamgmm


def main(folder: Path) -> None:
    photograph = load_sample_image("flower.jpg")[::2, ::2] / 255.0
    image = xr.DataArray(
        photograph, dims=("y", "x", "channel"), coords={"channel": ["red", "green", "blue"]}, name="flower"
    )

    # Colours of petals, leaves and shadows: few clusters, none of them round.
    model = streamgmm.GaussianMixture(6, init_params="kmeans", tol=1e-3, random_state=0)
    model.fit(image, feature_dim="channel")
    print(model)

    # Several components make up one part of the picture.
    tree = model.merge_tree(image)
    merged = model.merge(3, tree=tree)
    labels = merged.predict(image)
    print(f"{labels.sizes['y']} x {labels.sizes['x']} pixels in {int(labels.max()) + 1} parts")

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    by_component = np.clip(model.means_, 0.0, 1.0)[model.predict(image).values]
    for axis, picture, title in zip(
        axes[:2], (photograph, by_component), ("photograph", "each pixel in its component's colour"), strict=True
    ):
        axis.imshow(picture)
        axis.set_title(title)
    axes[2].imshow(labels, cmap="tab10", interpolation="nearest")
    axes[2].set_title("three clusters of components")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(folder / "segments.png", dpi=110)
    plt.close(figure)
    print(f"pictures are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
