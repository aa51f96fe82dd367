"""How many components, and how many clusters? Two questions with two answers.

    python examples/choose_and_merge.py [FOLDER]

BIC says how many components describe the density: a cluster that is bent or has heavy tails takes several. Merging them
again, those first that can hardly be told apart, says how many clusters there are.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import streamgmm
from streamgmm import plots


def two_moons_and_a_ball(n_rows: int = 6000) -> np.ndarray:
    """Three clusters, two of which are bent."""
    rng = np.random.default_rng(5)
    angle = rng.uniform(0.0, np.pi, n_rows)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1.0 - np.cos(angle), 0.45 - np.sin(angle)], axis=1)
    ball = np.array([0.4, 2.2])
    kind = rng.choice(3, size=n_rows, p=[0.4, 0.4, 0.2])[:, np.newaxis]
    return np.select([kind == 0, kind == 1], [upper, lower], ball) + rng.normal(0.0, 0.09, (n_rows, 2))


def main(folder: Path) -> None:
    x = two_moons_and_a_ball()
    found = streamgmm.search(x, range(1, 13), criterion="bic", init_params="kmeans", random_state=0)
    print(found)
    model = found.best

    tree = model.merge_tree(x)
    print(f"{tree.n_components} components; the entropies propose {tree.n_clusters} clusters")
    clusters = model.merge(3, tree=tree)
    print("cluster of each component:", clusters.clusters_)

    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    plots.plot_criteria(found, ax=axes[0, 0])
    plots.plot_dendrogram(model, tree, ax=axes[0, 1])
    plots.plot_entropies(tree, ax=axes[1, 0])
    axes[1, 1].scatter(*x.T, c=clusters.predict(x), s=2, cmap="tab10")
    axes[1, 1].set(title="three clusters", xlabel="x", ylabel="y")
    figure.savefig(folder / "merged.png", dpi=110)
    plt.close(figure)
    print(f"the picture is in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="streamgmm-example-")))
