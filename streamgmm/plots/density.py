"""The density of a mixture next to the rows: of one feature, of two, of pairs of several."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.export.extras import import_extra
from streamgmm.gaussian.conditional import marginalize
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.sampling import draw_rows
from streamgmm.plots.canvas import (
    MOST_NAMED,
    Shown,
    axes_for,
    colors_of,
    largest_first,
    name_component,
    name_left_out,
    rows_to_show,
    shorten,
    show_legend,
    title,
    view_of,
)
from streamgmm.typing import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Shares of the mixture that lie within the contours.
_MASSES = (0.95, 0.8, 0.5)
_GRID = 160
#: Pairs of more features than this have room for a legend above them.
_CORNER = 3


def plot_histogram(
    model: GaussianMixture,
    X: Any = None,
    feature: Hashable = None,
    *,
    sample_weight: Any = None,
    bins: int | str = "auto",
    ax: Axes | None = None,
) -> Axes:
    """Draw one feature: the rows' histogram, the components by their weights, and their sum.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows; anything that `GaussianMixture.predict` takes.
    feature : hashable, default=None
        Name or place; that which separates the components best if None.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.
    bins : int or str, default="auto"
        As `numpy.histogram_bin_edges` takes it.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    at = int(model._parameters().most_separating(1)[0] if feature is None else model._places(feature)[0])
    shown = rows_to_show(model, X, sample_weight)
    ax = axes_for(ax)
    _draw_histogram(ax, model, shown, at, bins)
    name = shorten(model._names()[at])
    ax.set_xlabel(name)
    ax.set_ylabel(f"density, per unit of {name}")
    others = model.n_features_in_ - 1
    title(
        ax,
        f"{name}: {_count(len(model.weights_))}",
        shown.note + (f"; {others} other feature{'s' * (others > 1)} not shown" if others else ""),
    )
    show_legend(ax, "component: weight")
    return ax


def plot_contours(
    model: GaussianMixture,
    X: Any = None,
    features: Sequence[Hashable] | None = None,
    *,
    sample_weight: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw two features: the rows as a density of hexagons, contours of the mixture's, an ellipse for each component.

    Parameters
    ----------
    model : GaussianMixture
        Fitted, with two features at least.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows; anything that `GaussianMixture.predict` takes.
    features : sequence of two hashables, default=None
        Names or places; the two that separate the components best if None.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    from streamgmm.exceptions import InputError

    places = model._parameters().most_separating(2) if features is None else model._places(list(features))
    if len(places) != 2:
        raise InputError(f"contours are of two features, and there are {len(places)}: use plot_histogram or plot_pairs")
    shown = rows_to_show(model, X, sample_weight)
    ax = axes_for(ax, 7.4, 6.2)
    first, second = places.tolist()
    hexagons = _draw_pair(ax, model, shown, first, second, contours=True)
    names = [shorten(model._names()[at]) for at in (first, second)]
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    if hexagons is not None and ax.figure is not None:
        ax.figure.colorbar(hexagons, ax=ax, label="rows in a hexagon", location="bottom", shrink=0.6, aspect=40)
    others = model.n_features_in_ - 2
    title(
        ax,
        f"{names[0]} and {names[1]}: {_count(len(model.weights_))}",
        f"{shown.note}; contours hold 50, 80 and 95 %, ellipses are at two standard deviations",
        f"{others} other feature{'s' * (others > 1)} not shown" if others else "",
        _outside(ax, model._parameters(), first, second),
    )
    show_legend(ax, "component: weight")
    return ax


def plot_pairs(
    model: GaussianMixture,
    X: Any = None,
    features: Sequence[Hashable] | None = None,
    *,
    n_features: int = 5,
    sample_weight: Any = None,
    figure: Any = None,
) -> npt.NDArray[np.object_]:
    """Draw every pair of some features, and each for itself, in a corner of axes.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows; anything that `GaussianMixture.predict` takes.
    features : sequence of hashable, default=None
        Names or places; those that separate the components best if None.
    n_features : int, default=5
        How many of them.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.
    figure : matplotlib.figure.Figure or SubFigure, default=None
        What to draw into.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (n, n)
        Those above the diagonal are not drawn.
    """
    MaxNLocator = import_extra("matplotlib.ticker", "plot").MaxNLocator
    parameters = model._parameters()
    places = (parameters.most_separating(n_features) if features is None else model._places(list(features))).tolist()
    shown = rows_to_show(model, X, sample_weight)
    n = len(places)
    if figure is None:
        plt = import_extra("matplotlib.pyplot", "plot")
        # With few features the legend stands beside them.
        width = 1.0 + 1.9 * n if n > _CORNER else 7.5
        figure = plt.figure(figsize=(width, 1.2 + 1.7 * max(n, 2)), layout="constrained")
    axes: npt.NDArray[np.object_] = figure.subplots(n, n, squeeze=False, sharex="col")
    names = [shorten(model._names()[at]) for at in places]
    for row in range(n):
        for column in range(n):
            ax = axes[row, column]
            if column > row:
                ax.set_axis_off()
            elif column == row:
                _draw_histogram(ax, model, shown, places[row], "auto")
                ax.set_yticks([])
                ax.set_ylabel("density" if row == 0 else "", fontsize=8)
            else:
                _draw_pair(ax, model, shown, places[column], places[row], contours=False)
            ax.tick_params(labelsize=7)
            ax.xaxis.set_major_locator(MaxNLocator(3))
            if column == 0 and row > 0:
                ax.set_ylabel(names[row], fontsize=8)
            elif 0 < column < row:
                ax.set_yticklabels([])
            if row == n - 1:
                ax.set_xlabel(names[column], fontsize=8)
    left_out = model.n_features_in_ - n
    chosen = "those that separate the components best" if features is None else "as chosen"
    what = f"{n} of {model.n_features_in_} features, {chosen}" if left_out else f"{n} feature{'s' * (n > 1)}"
    figure.suptitle(
        f"{_count(len(model.weights_))}; {what}\n{shown.note}; ellipses are at two standard deviations", fontsize=10
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    where = {"loc": "upper right", "bbox_to_anchor": (0.99, 0.9)} if n > _CORNER else {"loc": "outside right center"}
    figure.legend(handles, labels, fontsize=8, title="component: weight", title_fontsize=8, **where)
    return axes


def _draw_histogram(ax: Axes, model: GaussianMixture, shown: Shown, at: int, bins: int | str) -> None:
    marginal = marginalize(model._parameters(), np.array([at]))
    low, high = view_of(shown.x[:, at], shown.weight)
    if shown.are_data:
        inside = (shown.x[:, at] >= low) & (shown.x[:, at] <= high)
        values, weight = shown.x[inside, at], shown.weight[inside]
        edges = np.histogram_bin_edges(values, bins, (low, high))
        if not 10 <= len(edges) - 1 <= 200 and bins == "auto":
            edges = np.linspace(low, high, 11 if len(edges) < 11 else 201)
        heights = np.histogram(values, edges, weights=weight)[0] / shown.weight.sum() / np.diff(edges)
        ax.stairs(heights, edges, fill=True, color="0.85", label="rows")
    x = np.linspace(low, high, 600)
    deviations = np.sqrt(marginal.variances()[:, 0])
    parts = marginal.weights * norm.pdf(x[:, np.newaxis], marginal.means[:, 0], deviations)
    colors, order = colors_of(model), largest_first(model)
    for number, k in enumerate(order):
        label = name_component(model, k) if number < MOST_NAMED else "_"
        ax.plot(x, parts[:, k], color=colors[k], linewidth=1.2, label=label)
    if len(order) > MOST_NAMED:
        ax.plot([], [], " ", label=name_left_out(len(order) - MOST_NAMED))
    ax.plot(x, parts.sum(axis=1), color="black", linewidth=1.5, label="their sum")
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0.0)


def _draw_pair(ax: Axes, model: GaussianMixture, shown: Shown, first: int, second: int, *, contours: bool) -> Any:
    """Draw into axes; return the hexagons, where there are some."""
    from matplotlib.patches import Ellipse
    from matplotlib.patheffects import withStroke

    views = [view_of(shown.x[:, at], shown.weight) for at in (first, second)]
    hexagons = None
    if shown.are_data:
        (left, right), (bottom, top) = views
        x, y = shown.x[:, first], shown.x[:, second]
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        hexagons = ax.hexbin(
            x[inside], y[inside], shown.weight[inside], reduce_C_function=np.sum, gridsize=45 if contours else 30,
            cmap="Greys", norm="log", linewidths=0.1, extent=(left, right, bottom, top),
        )  # fmt: skip
    marginal = marginalize(model._parameters(), np.array([first, second]))
    if contours:
        _draw_contours(ax, marginal, views)
    colors, order = colors_of(model), largest_first(model)
    for number, k in enumerate(order):
        values, vectors = np.linalg.eigh(marginal.full_covariances()[k])
        angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
        width, height = 4.0 * np.sqrt(values[::-1])
        label = name_component(model, k) if number < MOST_NAMED else "_"
        ax.add_patch(
            Ellipse(
                marginal.means[k], width, height, angle=angle, fill=False, color=colors[k], linewidth=1.3, label=label
            )
        )
        if number < 2 * MOST_NAMED:
            ax.annotate(
                str(k), marginal.means[k], color=colors[k], fontsize=9 if contours else 6, fontweight="bold",
                ha="center", va="center", annotation_clip=True,
                path_effects=[withStroke(linewidth=2.0, foreground="white")],
            )  # fmt: skip
    if len(order) > MOST_NAMED:
        ax.plot([], [], " ", label=name_left_out(len(order) - MOST_NAMED))
    ax.set_xlim(*views[0])
    ax.set_ylim(*views[1])
    return hexagons


def _draw_contours(ax: Axes, marginal: MixtureParameters, views: list[tuple[float, float]]) -> None:
    """Draw the smallest regions that hold some shares of the mixture."""
    of_its_rows = evaluate(draw_rows(marginal, 0, 20_000, 0)[0], marginal, log_prob=True).log_prob
    levels = np.quantile(of_its_rows, [1.0 - mass for mass in _MASSES])
    x, y = (np.linspace(*view, _GRID) for view in views)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    log_density: Floats = evaluate(points, marginal, log_prob=True).log_prob.reshape(_GRID, _GRID)
    ax.contour(x, y, log_density, levels=levels, colors="black", linewidths=(0.6, 0.9, 1.2), linestyles="solid")


def _outside(ax: Axes, parameters: MixtureParameters, first: int, second: int) -> str:
    """Say how many means lie outside of the view."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    x, y = parameters.means[:, first], parameters.means[:, second]
    n_outside = int(((x < left) | (x > right) | (y < bottom) | (y > top)).sum())
    return f"{_count(n_outside)} outside of the picture" if n_outside else ""


def _count(n: int) -> str:
    return "one component" if n == 1 else f"{n} components"
