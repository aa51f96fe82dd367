"""`search`: how many components, and of which covariance family? Many candidates, fed by the same passes."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamgmm.em.candidates import Candidate, best_candidate
from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.estimators.settings import settings_of
from streamgmm.exceptions import InputError
from streamgmm.fitting.display import show_table
from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.fitting.selection import CRITERIA, Compared, select


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What `search` found; it prints as a table, and shows itself as one.

    Attributes
    ----------
    candidates : tuple of Compared
        In the order in which they were asked for.
    criterion : str
        By which the best was chosen.
    best_index : int
        Place of the best among the candidates.
    best : GaussianMixture
        The best candidate, fitted to all rows; its `n_components` is what the mixture has, and its `fit_report_` counts
        the passes of the whole search.
    """

    candidates: tuple[Compared, ...]
    criterion: str
    best_index: int
    best: GaussianMixture

    def table(self) -> list[dict[str, Any]]:
        """Return the candidates as `pandas.DataFrame` takes them.

        Returns
        -------
        list of dict
            One for each, in their order.
        """
        return [dataclasses.asdict(candidate) for candidate in self.candidates]

    def __str__(self) -> str:
        # Those by which nothing was chosen are in the table of all.
        shown = ["bic", self.criterion] if self.criterion in ("aic", "icl") else ["bic"]

        def row(at: int, one: Compared) -> tuple[str, ...]:
            # Components that were left out are none of the mixture's.
            size = str(one.n_components) if one.n_components == one.n_asked else f"{one.n_components} of {one.n_asked}"
            behind = "" if at == self.best_index else _with_error(one.behind, one.behind_error)
            return (
                "best" if at == self.best_index else "left" if one.dropped else "",
                size,
                one.covariance_type,
                f"{one.n_parameters:,}",
                *(f"{getattr(one, name):.1f}" for name in shown),
                f"{one.log_likelihood:.5f}",
                _with_error(one.held_out, one.held_out_error),
                behind,
            )

        table = show_table(
            [
                ("", False),
                ("components", True),
                ("covariance", False),
                ("parameters", True),
                *((name.upper(), True) for name in shown),
                ("nats per row", True),
                ("held out", True),
                ("behind", True),
            ],
            [row(at, one) for at, one in enumerate(self.candidates)],
            marked=self.best_index,
        )
        better = "the higher, the better" if self.criterion == "held_out" else "the lower, the better"
        notes = [f"best by {self.criterion.replace('_', ' ')}: {better}"]
        if any(one.dropped for one in self.candidates):
            notes.append("left: it could not win any more, and was not fitted to its end")
        if any(not math.isnan(one.held_out) for one in self.candidates):
            notes.append("held out: mean log-density of rows that were not fitted; behind: how far below the best's")
        return "\n".join([table, "", *notes])

    __repr__ = __str__


def search(
    X: Any,
    n_components: int | Iterable[int] = range(1, 11),
    *,
    covariance_type: str | Iterable[str] = "full",
    criterion: str = "bic",
    held_out: float = 0.1,
    sample_weight: Any = None,
    columns: Sequence[str] | None = None,
    feature_dim: Hashable | None = None,
    where: str | None = None,
    stop: Callable[[], bool] | None = None,
    **parameters: Any,
) -> SearchResult:
    """Fit many mixtures with the same passes over the rows, and return the best by a criterion.

    Reading is what costs most out of core: here all candidates share each pass, and those that can't win any more
    leave. Where a sample in memory holds all rows, all are fitted to their end. The arithmetic is that of all
    candidates.

    Parameters
    ----------
    X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
        The rows, as `GaussianMixture.fit` takes them.
    n_components : int or iterable of int, default=range(1, 11)
        Numbers of components to try.
    covariance_type : str or iterable of str, default="full"
        Covariance families to try, each with every number of components.
    criterion : {"bic", "aic", "icl", "held_out"}, default="bic"
        What the best is chosen by: Bayes' or Akaike's information criterion, the integrated completed likelihood (for
        clusters that stand apart), or the mean log-density of held-out rows.
    held_out : float, default=0.1
        Share of the rows that are held out of the comparison's fits, the same on any number of workers. Equal rows are
        on one side; where few different values stand for many rows (answers of 1 to 5, ages), a share of the rows of
        each is held out. With 0, nothing is. The best is fitted to all rows in the end.
    sample_weight : array-like of shape (n_samples,), or str, default=None
        How many rows each row stands for, or the column of a table that says so.
    columns : sequence of str, default=None
        The features of a table.
    feature_dim : hashable, default=None
        The dimension of a DataArray of xarray that holds the features.
    where : str, default=None
        Which rows of Parquet files are meant, as `GaussianMixture.fit` takes it.
    stop : callable, default=None
        Asked after each pass; where it returns True the search ends with what it has found.
    **parameters
        Other parameters of `GaussianMixture`: `tol`, `reg_covar`, `random_state`, `missing`, `memory_limit`, ... Those
        for one mixture are refused: starts that are given, `warm_start`, `callback`, `verbose_interval`, `checkpoint`,
        `resume`.

    Returns
    -------
    SearchResult
        All candidates side by side, and the best of them as a fitted model.

    Raises
    ------
    InputError
        If a parameter or the rows can't be used; the message names what was found and what to do.

    Examples
    --------
    >>> import numpy as np, streamgmm
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(center, 1, (400, 2)) for center in (0, 10, 20)])
    >>> found = streamgmm.search(x, range(1, 6), random_state=0)
    >>> found.best.n_components
    3
    """
    sizes = _listed(n_components, "n_components", int)
    families = _listed(covariance_type, "covariance_type", str)
    if criterion not in CRITERIA:
        raise InputError(f"criterion must be one of {', '.join(map(repr, CRITERIA))}; got {criterion!r}")
    if not isinstance(held_out, (int, float)) or not 0.0 <= held_out <= 0.5:
        raise InputError(f"held_out must be a share of the rows between 0 and 0.5, got {held_out!r}")
    if criterion == "held_out" and held_out == 0.0:
        raise InputError("criterion='held_out' needs rows that are held out: held_out=0.1")
    unknown = sorted(set(parameters) - set(PARAMETERS))
    if unknown:
        raise InputError(
            f"search has no parameter {unknown[0]!r}; beside its own it takes those of GaussianMixture: "
            f"{', '.join(PARAMETERS)}"
        )
    not_for_many = sorted(name for name in parameters if not PARAMETERS[name].for_many)
    if not_for_many:
        raise InputError(
            f"search can't use {not_for_many[0]}, which is for a single mixture: leave it out, and give it to a "
            "GaussianMixture of the size that search finds"
        )
    models = [GaussianMixture(size, covariance_type=family, **parameters) for family in families for size in sizes]
    if parameters.get("max_iter") == 0:
        raise InputError("search compares fits, and with max_iter=0 there are none: use max_iter=1 or more")
    rows = models[0]._open_to_fit(X, sample_weight, columns=columns, feature_dim=feature_dim, where=where)
    settings = [settings_of(model, rows) for model in models]

    def after_pass(fits: Sequence[Candidate]) -> bool:
        if models[0].verbose:
            _report(fits)
        return stop is not None and stop()

    report = after_pass if models[0].verbose or stop is not None else None
    found = select(rows, settings, criterion, float(held_out), report)
    best = models[found.best]
    # Another one may have been asked for: the estimator says what it is.
    best.n_components = len(found.fit.parameters.weights)
    best._adopt(found.fit, models[0])
    return SearchResult(found.compared, criterion, found.best, best)


def _report(fits: Sequence[Candidate]) -> None:
    """Say on standard error how a search stands after a pass."""
    best = best_candidate(fits)
    left = sum(fit.dropped for fit in fits)
    print(
        f"{sum(fit.active for fit in fits)} of {len(fits)} candidates go on, {left} have left; best so far: "
        f"{best.state.parameters.n_components} components, {best.state.lower_bound:.6f} nats/row",
        file=sys.stderr,
    )


def _listed(value: Any, name: str, kind: type) -> list[Any]:
    """Turn one value or several into a list without repetitions."""
    single = isinstance(value, str) or not isinstance(value, Iterable)
    values = [value] if single else list(value)
    if not values:
        raise InputError(f"{name} is empty: give at least one")
    if kind is int and all(isinstance(v, (int, np.integer)) for v in values):
        values = [int(v) for v in values]
    return list(dict.fromkeys(values))


def _with_error(value: float, error: float) -> str:
    # Rounded first, and zero added: no -0.0000.
    return "" if math.isnan(value) else f"{round(value, 4) + 0.0:.4f} ± {error:.4f}"
