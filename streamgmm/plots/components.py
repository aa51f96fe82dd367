"""Components next to each other: what is typical of each, how sure the labels are, which belong together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.exceptions import InputError
from streamgmm.fitting.display import show_spread
from streamgmm.gaussian.e_step import evaluate
from streamgmm.merging.tree import MergeTree
from streamgmm.plots.canvas import (
    axes_for,
    count_in_integers,
    largest_first,
    rows_to_show,
    shorten,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Components and features of a profile, at most: more can't be read.
_PROFILE_COMPONENTS, _PROFILE_FEATURES = 20, 10
#: Lines that stand for all rows whose responsibilities are drawn.
_RESP_ROWS = 2000
_HEIGHTS = {
    "entropy": "log 2 less the entropy removed, nats per row",
    "demp": "1 less the probability of a mistaken label",
    "bhattacharyya": "Bhattacharyya distance",
    "symmetric_kl": "symmetric Kullback-Leibler divergence, nats",
    "runnalls": "cost of one Gaussian for both, nats per row",
    "wasserstein": "Wasserstein distance, units of the data",
}


def plot_profile(
    model: GaussianMixture,
    X: Any = None,
    features: Sequence[Hashable] | None = None,
    *,
    sample_weight: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a table of the components: mean and standard deviation of each feature, coloured by how unusual the mean is.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows, for the line of all rows; without them it is that of the mixture.
    features : sequence of hashable, default=None
        Names or places; the ten that separate the components best if None.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    parameters = model._parameters()
    places = parameters.most_separating(_PROFILE_FEATURES) if features is None else model._places(list(features))
    order = largest_first(model)[:_PROFILE_COMPONENTS]
    if X is None:
        center = parameters.weights @ parameters.means
        spread = np.sqrt(parameters.weights @ (parameters.variances() + (parameters.means - center) ** 2))
        everything = "the mixture"
    else:
        shown = rows_to_show(model, X, sample_weight)
        center = np.average(shown.x, axis=0, weights=shown.weight)
        spread = np.sqrt(np.average((shown.x - center) ** 2, axis=0, weights=shown.weight))
        everything = f"all rows ({shown.n_rows:,})"
    means, deviations = parameters.means[np.ix_(order, places)], np.sqrt(parameters.variances())[np.ix_(order, places)]
    # A feature that does not vary is nowhere unusual.
    scale = np.where(spread > 0.0, spread, 1.0)[places]
    unusual = np.vstack([np.zeros(len(places)), (means - center[places]) / scale])
    ax = axes_for(ax, 3.4 + 1.2 * len(places), max(3.2, 1.7 + 0.38 * (len(order) + 1)))
    image = ax.imshow(unusual, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto")
    cells = zip(np.vstack([center[places], means]), np.vstack([spread[places], deviations]), unusual, strict=True)
    for row, (values, spreads, shades) in enumerate(cells):
        for column, (value, deviation, shade) in enumerate(zip(values, spreads, shades, strict=True)):
            ax.text(
                column, row, show_spread(value, deviation), ha="center", va="center", fontsize=7.5,
                color="white" if abs(shade) > 1.7 else "black",
            )  # fmt: skip
    clusters = [f", cluster {model.clusters_[k]}" if hasattr(model, "clusters_") else "" for k in order]
    labels = [f"{k}: {model.weights_[k]:.1%}{cluster}" for k, cluster in zip(order, clusters, strict=True)]
    ax.set_yticks(range(len(order) + 1), [everything, *labels], fontsize=8)
    names = [shorten(model._names()[at]) for at in places]
    ax.set_xticks(range(len(places)), names, fontsize=8, **_slanted(names))
    ax.axhline(0.5, color="black", linewidth=1.0)
    if ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label="standard deviations from all", fraction=0.05, extend="both")
    left_out = [
        _left_out(
            model.n_features_in_ - len(places), "feature", " that separate them less" if features is None else ""
        ),
        _left_out(len(model.weights_) - len(order), "smaller component", ""),
    ]
    title(ax, "Components: mean ± standard deviation", "; ".join(filter(None, left_out)))
    return ax


def plot_responsibilities(
    model: GaussianMixture, X: Any = None, *, sample_weight: Any = None, ax: Axes | None = None
) -> Axes:
    """Draw the responsibilities of rows, put in the order of their components: where labels are unsure, bars are pale.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows; anything that `GaussianMixture.predict` takes. Rows of the mixture if None.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    shown = rows_to_show(model, X, sample_weight)
    # As many lines for a row as its weight says.
    shares = np.cumsum(shown.weight) / shown.weight.sum()
    drawn = np.searchsorted(shares, (np.arange(_RESP_ROWS) + 0.5) / _RESP_ROWS).clip(max=len(shares) - 1)
    resp = evaluate(np.ascontiguousarray(shown.x), model._parameters(), resp=True).resp
    sure = float(np.average(resp.max(axis=1) > 0.95, weights=shown.weight))
    components = largest_first(model)
    resp = resp[np.ix_(drawn, components)]
    best = resp.argmax(axis=1)
    resp = resp[np.lexsort([-resp.max(axis=1), best])]
    n_components = len(components)
    ax = axes_for(ax, 7.0, max(3.2, 2.2 + 0.16 * min(n_components, 40)))
    image = ax.imshow(resp.T, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    step = -(-n_components // 25)
    ax.set_yticks(range(0, n_components, step), [str(k) for k in components[::step]], fontsize=8)
    ax.set_ylabel("component, the largest first" + (f" (one in {step} named)" if step > 1 else ""), fontsize=9)
    ax.set_xlabel("rows (as 2,000), by component and how sure it is")
    if ax.figure is not None:
        ax.figure.colorbar(image, ax=ax, label="responsibility", fraction=0.05)
    rows = f"{shown.n_rows:,} rows" if shown.are_data else "rows of the mixture"
    title(ax, "Responsibilities", f"{rows}; {sure:.1%} of them belong to one component with more than 95 %")
    return ax


def plot_dendrogram(
    model: GaussianMixture, tree: MergeTree | None = None, X: Any = None, *, ax: Axes | None = None
) -> Axes:
    """Draw the tree in which components merge.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    tree : MergeTree, default=None
        What `model.merge_tree` gives; where None, that of the merge that made the model, or one by entropy.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows for a tree that is made here.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    from scipy.cluster import hierarchy

    tree = getattr(model, "merge_tree_", None) if tree is None else tree
    tree = model.merge_tree(X) if tree is None else tree
    n_components = tree.n_components
    ax = axes_for(ax, max(6.4, 2.0 + 0.25 * n_components), 4.8)
    if n_components == 1:
        ax.text(0.5, 0.5, "one component: nothing merges", ha="center", va="center", transform=ax.transAxes)
        ax.set_xticks([])
        ax.set_yticks([])
    else:
        labels = [f"{k}: {weight:.1%}" for k, weight in enumerate(model.weights_)]
        hierarchy.dendrogram(
            tree.matrix, ax=ax, labels=np.array(labels), color_threshold=_coloured_below(tree),
            above_threshold_color="0.5", leaf_rotation=90 if n_components > 8 else 0, leaf_font_size=8,
        )  # fmt: skip
        low, high = float(tree.heights[0]), float(tree.heights[-1])
        if low > 0.5 * high > 0.0:
            # All merges are far from 0: what is between them is what there is to see.
            ax.set_ylim(low - 0.3 * (high - low or high), high + 0.1 * (high - low or high))
    ax.set_xlabel("component: weight")
    ax.set_ylabel(_HEIGHTS[tree.distance])
    proposed = f"; the entropies propose {tree.n_clusters}" if tree.entropies is not None else ""
    title(ax, "How components merge", f"linkage: {tree.linkage}{proposed}")
    return ax


def plot_entropies(tree: MergeTree, *, ax: Axes | None = None) -> Axes:
    """Draw the entropy of the labels over the number of clusters, whose bend proposes a number.

    Parameters
    ----------
    tree : MergeTree
        Of responsibilities.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.

    Raises
    ------
    InputError
        If the tree was made without rows.
    """
    if tree.entropies is None:
        raise InputError("the tree was made without rows, and has no entropies")
    numbers, chosen = np.arange(1, tree.n_components + 1), tree.n_clusters
    ax = axes_for(ax)
    ax.plot(numbers, tree.entropies, color="black", marker="o", markersize=4)
    ax.plot(
        chosen,
        tree.entropies[chosen - 1],
        "o",
        markersize=11,
        fillstyle="none",
        color="C3",
        label=f"proposed: {chosen}",
    )
    for part in (slice(0, chosen), slice(chosen - 1, None)):
        if len(numbers[part]) > 2:
            line = np.polynomial.Polynomial.fit(numbers[part], tree.entropies[part], 1)
            ax.plot(numbers[part], line(numbers[part]), color="C3", linewidth=0.9)
    count_in_integers(ax)
    ax.set_xlabel("clusters")
    ax.set_ylabel("entropy of a row's cluster, nats")
    title(ax, "How unsure labels are, by the number of clusters")
    ax.legend(fontsize=8)
    return ax


def _slanted(names: Sequence[str]) -> dict[str, Any]:
    """Return how names of columns are set: slanted where they are long."""
    if max(map(len, names)) <= 9:
        return {}
    return {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


def _coloured_below(tree: MergeTree) -> float:
    """Return the height under which clusters have colours of their own: where the proposed number is cut."""
    if tree.entropies is None or tree.n_clusters in (1, tree.n_components):
        return 0.0
    n_merges = tree.n_components - tree.n_clusters
    return float(tree.heights[n_merges])


def _left_out(n: int, what: str, which: str) -> str:
    return f"{n} {what}{'s' * (n > 1)}{which} not shown" if n else ""
