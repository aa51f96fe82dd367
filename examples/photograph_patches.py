"""Patches of photographs: a Zarr store, a mixture of full covariances, and its components as a picture.

    python examples/photograph_patches.py [FOLDER]

The rows are the 8 x 8 patches of the two photographs that scikit-learn ships: half a million points in 64 dimensions,
with very different weights and tails, as real data has them. Such mixtures are used to remove noise from pictures
(Zoran & Weiss, ICCV 2011): what a patch should look like is what the mixture finds probable.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from streamgmm import GaussianMixture, save
from streamgmm.datasets.photographs import PATCH_SHAPE, write_patches
from streamgmm.plots.patches import save_patch_components


def main(folder: Path) -> None:
    store = str(folder / "patches.zarr")
    n_rows = write_patches(store)
    print(f"{n_rows:,} patches in {store}")

    # The store is read chunk by chunk in every pass; 500 MB would do for one of any size.
    # One quick start: without `init_params` the best one is searched for, which takes most of a minute here.
    model = GaussianMixture(
        n_components=6, init_params="kmeans", tol=0.1, random_state=0, memory_limit="500MB", verbose=1
    )
    model.fit(store)
    print(f"{model.n_iter_} iterations, {model.lower_bound_:.2f} nats per patch, {model.stop_reason_.value}")

    # Labels of all rows: a lazy Dask array, computed a chunk at a time.
    labels = model.predict(store)
    shares = np.bincount(labels.compute(), minlength=6) / n_rows
    print("share of the patches in each component:", ", ".join(f"{share:.1%}" for share in shares))

    save(model, folder / "model.safetensors")
    save_patch_components(model, PATCH_SHAPE, str(folder / "components.png"))
    print(f"model and picture are in {folder}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        main(Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
