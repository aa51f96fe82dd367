"""What pictures share: axes, colours, names, the rows that are shown, the part of a feature that is looked at."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.export.extras import import_extra
from streamgmm.gaussian.sampling import draw_rows
from streamgmm.typing import Floats, Integers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows that are drawn of a source for a picture.
N_ROWS = 20_000
#: Components that a legend names, and that carry their numbers.
MOST_NAMED = 10
#: The share of the rows that a view leaves out at each end: of outliers nothing else could be seen.
_OUTSIDE = 0.002
#: Entries of a legend that have room in the axes.
_LONGEST_LEGEND = 7
_LONGEST_NAME = 28


@dataclass(frozen=True)
class Shown:
    """Rows to draw.

    Attributes
    ----------
    x : ndarray of shape (n, n_features)
    weight : ndarray of shape (n,)
    are_data : bool
        Whether they come from data; else the mixture has drawn them.
    """

    x: Floats
    weight: Floats
    are_data: bool

    @property
    def note(self) -> str:
        """What a title says of them."""
        return f"{self.n_rows:,} rows" if self.are_data else "no rows: the mixture alone"

    @property
    def n_rows(self) -> int:
        """How many rows there are, by their weights: equal ones are one of a sample."""
        return round(float(self.weight.sum()))


def rows_to_show(model: GaussianMixture, X: Any, sample_weight: Any, n_rows: int = N_ROWS) -> Shown:
    """Draw rows of a source in one reading; of the mixture where there is none. What is drawn already stays."""
    if isinstance(X, Shown):
        return Shown(X.x[:n_rows], X.weight[:n_rows], X.are_data)
    if X is None:
        return Shown(draw_rows(model._parameters(), 0, n_rows, 0)[0], np.ones(n_rows), are_data=False)
    sample, _ = model._sample(X, sample_weight, n_samples=n_rows)
    return Shown(sample.x, sample.weight, are_data=True)


def axes_for(ax: Axes | None, width: float = 6.4, height: float = 4.8) -> Axes:
    """Return the axes that were given, or new ones of a size in inches."""
    if ax is not None:
        return ax
    plt = import_extra("matplotlib.pyplot", "plot")
    axes: Axes = plt.subplots(figsize=(width, height), layout="constrained")[1]
    return axes


def colors_of(model: GaussianMixture) -> list[Any]:
    """Return a colour for each component: the same for those of one cluster; they repeat after twenty."""
    colormaps = import_extra("matplotlib", "plot").colormaps
    n_components = len(model.weights_)
    of: Sequence[int] = model.clusters_.tolist() if hasattr(model, "clusters_") else range(n_components)
    palette = colormaps["tab10"].colors if max(of) < 10 else colormaps["tab20"].colors
    return [palette[number % len(palette)] for number in of]


def largest_first(model: GaussianMixture) -> Integers:
    """Return the components in the order of their weights."""
    return np.argsort(-model.weights_, kind="stable")


def name_component(model: GaussianMixture, k: int) -> str:
    """Return what a legend calls a component."""
    cluster = f" (cluster {model.clusters_[k]})" if hasattr(model, "clusters_") else ""
    return f"{k}: {model.weights_[k]:.1%}{cluster}"


def shorten(name: Hashable) -> str:
    """Return a name that has room; dollars are no mathematics."""
    text = str(name).replace("$", r"\$")
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def view_of(values: Floats, weight: Floats) -> tuple[float, float]:
    """Return the limits between which nearly all rows lie, with a margin."""
    low, high = np.quantile(values, [_OUTSIDE, 1.0 - _OUTSIDE], weights=weight, method="inverted_cdf")
    margin = 0.06 * (high - low) or max(abs(high) * 1e-3, 1e-3)
    return float(low - margin), float(high + margin)


def show_legend(ax: Axes, heading: str) -> None:
    """Put a legend into axes, or beside them where it is long."""
    beside = len(ax.get_legend_handles_labels()[1]) > _LONGEST_LEGEND
    where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)} if beside else {"loc": "best"}
    ax.legend(fontsize=8, title=heading, title_fontsize=8, framealpha=0.8, **where)


def name_left_out(n_left_out: int) -> str:
    """Return what a legend says of components that it does not name."""
    return f"and {n_left_out} smaller"


def title(ax: Axes, main: str, *notes: str) -> None:
    """Write a title, and under it what there is to know."""
    said = [note for note in notes if note]
    ax.set_title("\n".join([main, *said]), fontsize=10)


def count_in_integers(ax: Axes) -> None:
    """Let the ticks of the x axis be integers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
