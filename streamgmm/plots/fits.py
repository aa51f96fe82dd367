"""How a fit went, and how sizes compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.estimators.search import SearchResult
from streamgmm.exceptions import InputError
from streamgmm.fitting.selection import CRITERIA
from streamgmm.plots.canvas import axes_for, count_in_integers, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_convergence(model: GaussianMixture, *, ax: Axes | None = None) -> Axes:
    """Draw the lower bound, reading by reading, with the steps that were kept and those that were taken back.

    Parameters
    ----------
    model : GaussianMixture
        Fitted. Of a model from a file, which step was taken back is not known.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.

    Raises
    ------
    InputError
        If the mixture was not fitted: it has no bounds.
    """
    bounds = model.lower_bounds_
    if not len(bounds):
        raise InputError("the mixture was made, and not fitted: there is no convergence to draw")
    report = getattr(model, "fit_report_", None)
    accepted = np.ones(len(bounds), dtype=bool)
    labels = ["kept"] * len(bounds)
    if report is not None:
        accepted = np.array([one.accepted for one in report.iterations], dtype=bool)
        labels = [one.label for one in report.iterations]
    ax = axes_for(ax)
    numbers = np.arange(1, len(bounds) + 1)
    ax.plot(numbers, bounds, color="0.6", linewidth=1.0, zorder=1)
    for label in dict.fromkeys(labels):
        of_label = accepted & np.array([one == label for one in labels])
        if of_label.any():
            ax.plot(numbers[of_label], bounds[of_label], "o", markersize=6, label=label)
    if not accepted.all():
        ax.plot(numbers[~accepted], bounds[~accepted], "x", color="black", markersize=8, label="taken back")
    ax.ticklabel_format(axis="y", useOffset=False)
    count_in_integers(ax)
    in_memory = report is not None and report.in_memory
    ax.set_xlabel("iteration, on rows in memory" if in_memory else "reading of the rows, after the first")
    ax.set_ylabel("lower bound, nats per row")
    gap = "" if report is None else f"; an estimated {report.gap:.0e} nats per row from the optimum"
    title(ax, "Convergence", f"{model.stop_reason_.value}{gap}")
    ax.legend(fontsize=8, title="step", title_fontsize=8)
    return ax


def plot_criteria(result: SearchResult, criterion: str | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw a criterion over the number of components, a line for each family.

    Parameters
    ----------
    result : SearchResult
        Of `search`.
    criterion : {"bic", "aic", "icl", "held_out"}, default=None
        That by which the best was chosen if None. The held-out log-density has bars: the standard error of its
        difference to the best's, to each side.
    ax : matplotlib.axes.Axes, default=None
        What to draw into; new ones if None.

    Returns
    -------
    matplotlib.axes.Axes
        The axes, with the picture.
    """
    criterion = result.criterion if criterion is None else criterion
    if criterion not in CRITERIA:
        raise InputError(f"criterion must be one of {', '.join(map(repr, CRITERIA))}; got {criterion!r}")
    ax = axes_for(ax)
    families = list(dict.fromkeys(one.covariance_type for one in result.candidates))
    for number, family in enumerate(families):
        of_family = sorted(
            (one for one in result.candidates if one.covariance_type == family), key=lambda one: one.n_components
        )
        x = [one.n_components for one in of_family]
        y = [getattr(one, criterion) for one in of_family]
        errors = [one.behind_error for one in of_family] if criterion == "held_out" else None
        ax.errorbar(x, y, errors, color=f"C{number}", marker="o", markersize=5, capsize=3, label=family)
        for one, at, value in zip(of_family, x, y, strict=True):
            if one.dropped:
                ax.plot(at, value, "o", color="white", markeredgecolor=f"C{number}", markersize=5, zorder=3)
    best = result.candidates[result.best_index]
    ax.plot(
        best.n_components, getattr(best, criterion), "o", markersize=12, fillstyle="none", color="black",
        label=f"best by {result.criterion.replace('_', ' ')}",
    )  # fmt: skip
    count_in_integers(ax)
    ax.set_xlabel("components")
    held_out = criterion == "held_out"
    ax.set_ylabel("held-out log-density, nats per row" if held_out else f"{criterion.upper()}")
    unfinished = any(one.dropped for one in result.candidates)
    bars = "the higher the better; bars are one standard error of the difference to the best"
    left = "hollow: could not win any more, and was not fitted to its end" if unfinished else ""
    title(ax, "How many components", bars if held_out else "the lower the better", left)
    ax.legend(fontsize=8, title="covariances", title_fontsize=8)
    return ax
