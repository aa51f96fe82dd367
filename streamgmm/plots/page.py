"""Pictures as files: one picture, or a page with all of them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from streamgmm._version import __version__
from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.exceptions import InputError
from streamgmm.export.extras import import_extra
from streamgmm.gaussian.e_step import evaluate
from streamgmm.merging.agglomerate import merge_components
from streamgmm.merging.tree import MergeTree
from streamgmm.plots.canvas import rows_to_show
from streamgmm.plots.components import plot_dendrogram, plot_entropies, plot_profile, plot_responsibilities
from streamgmm.plots.density import plot_contours, plot_histogram, plot_pairs
from streamgmm.plots.fits import plot_convergence
from streamgmm.storage.outputs import write_whole

#: What can be drawn of a model; "density" is the histogram of one feature, contours of two, pairs of several.
PICTURES = (
    "density", "histogram", "contours", "pairs", "profile", "responsibilities", "dendrogram", "entropies",
    "convergence",
)  # fmt: skip
#: Formats of one picture.
FORMATS = ("png", "svg", "pdf")
_DPI = 130


def save_pictures(
    model: GaussianMixture,
    path: str,
    X: Any = None,
    *,
    what: str | None = None,
    features: Sequence[Hashable] | None = None,
    sample_weight: Any = None,
) -> list[str]:
    """Draw a model into a file, which appears whole or not at all.

    Parameters
    ----------
    model : GaussianMixture
        Fitted.
    path : str
        A name that ends in .png, .svg or .pdf, for one picture; or in .html, for a page that needs no network, with
        every picture that there is of the model.
    X : array-like, table, Dask collection, zarr.Array, str or path, default=None
        Rows. They are read once.
    what : str, default=None
        One of `PICTURES`: "density" if None, or all of them on a page.
    features : sequence of hashable, default=None
        Names or places; those that separate the components best if None.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for.

    Returns
    -------
    list of str
        What was drawn.

    Raises
    ------
    InputError
        If the name ends otherwise, or there is no such picture of the model.
    """
    suffix = path.rpartition(".")[2].lower()
    if suffix not in (*FORMATS, "html"):
        raise InputError(f"the name of a picture ends in .{', .'.join((*FORMATS, 'html'))}; got {path!r}")
    if what is not None and what not in PICTURES:
        raise InputError(f"what must be one of {', '.join(map(repr, PICTURES))}; got {what!r}")
    plt = import_extra("matplotlib.pyplot", "plot")
    pictures = _Pictures(model, X, features, sample_weight)
    chosen = [what] if what is not None else pictures.all_there_are() if suffix == "html" else ["density"]
    drawn = []
    for one in chosen:
        figure = pictures.draw(one)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png" if suffix == "html" else suffix, dpi=_DPI)
        plt.close(figure)
        drawn.append(buffer.getvalue())
    write_whole(path, _page(model, chosen, drawn).encode() if suffix == "html" else drawn[0])
    return chosen


class _Pictures:
    """All pictures of a model, which show the same rows."""

    def __init__(self, model: GaussianMixture, X: Any, features: Sequence[Hashable] | None, sample_weight: Any) -> None:
        self.model, self.features = model, features
        self.shown = rows_to_show(model, X, sample_weight)

    @cached_property
    def tree(self) -> MergeTree:
        made: MergeTree | None = getattr(self.model, "merge_tree_", None)
        if made is not None:
            return made
        parameters = self.model._parameters()
        return merge_components(parameters, evaluate(self.shown.x, parameters, resp=True).resp, self.shown.weight)

    def all_there_are(self) -> list[str]:
        several = len(self.model.weights_) > 1
        pictures = ["density", "profile", *(["responsibilities", "dendrogram", "entropies"] if several else [])]
        return [*pictures, "convergence"] if len(self.model.lower_bounds_) else pictures

    def draw(self, what: str) -> Any:
        """Draw a picture; return its figure."""
        model, shown, features = self.model, self.shown, self.features
        if what == "density":
            n_features = model.n_features_in_ if features is None else len(features)
            what = {1: "histogram", 2: "contours"}.get(n_features, "pairs")
        if what == "histogram" and features is not None and len(features) != 1:
            raise InputError(f"a histogram is of one feature, and {len(features)} were given")
        draw: dict[str, Callable[[], Any]] = {
            "histogram": lambda: plot_histogram(model, shown, None if features is None else features[0]),
            "contours": lambda: plot_contours(model, shown, features),
            "pairs": lambda: plot_pairs(model, shown, features)[0, 0],
            "profile": lambda: plot_profile(model, shown, features),
            "responsibilities": lambda: plot_responsibilities(model, shown),
            "dendrogram": lambda: plot_dendrogram(model, self.tree),
            "entropies": lambda: plot_entropies(self.tree),
            "convergence": lambda: plot_convergence(model),
        }
        return draw[what]().figure


def _page(model: GaussianMixture, names: Sequence[str], pictures: Sequence[bytes]) -> str:
    """Return a page that holds its pictures."""
    parameters, training = model._parameters(), model.training_summary_
    facts = {
        "Components": f"{parameters.n_components}, {parameters.covariance_type} covariances",
        "Features": f"{parameters.n_features}",
        "Lower bound": f"{model.lower_bound_:.6g} nats per row" if np.isfinite(model.lower_bound_) else None,
        "Ended": model.stop_reason_.value,
        "Rows": None if training is None else f"{training.n_rows:,} fitted, {training.n_missing:,} left out",
        "Fitted": None if training is None else training.fitted_at,
        **{str(key): str(value) for key, value in model.metadata_.items()},
    }
    heading = html.escape(model.name_ or "Gaussian mixture")
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(value)}</td></tr>"
        for key, value in facts.items()
        if value is not None
    )
    images = "".join(
        f'<figure><img alt="{name}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></figure>'
        for name, picture in zip(names, pictures, strict=True)
    )
    style = (
        "body{font-family:sans-serif;margin:2em auto;max-width:1100px;padding:0 1em}figure{margin:2em 0}"
        "img{max-width:100%}th{text-align:left;padding-right:2em;font-weight:normal;color:#555}"
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{heading}</title><style>{style}</style>'
        f"</head><body><h1>{heading}</h1><table>{rows}</table>{images}<p>streamgmm {__version__}</p></body></html>\n"
    )
