"""`GaussianMixture`: check the parameters, call fitting, set attributes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from streamgmm.em.convergence import StopReason
from streamgmm.em.state import State
from streamgmm.estimators.progress import report_progress
from streamgmm.estimators.settings import checkpoint_of, settings_of
from streamgmm.estimators.summary import SelfDescribingMixture
from streamgmm.fitting.fit import FitResult, fit
from streamgmm.fitting.parameters import check_parameters
from streamgmm.fitting.plan import Plan
from streamgmm.fitting.probe import plan_fit, probe_speed
from streamgmm.sources.base import Rows
from streamgmm.storage.places import find_places

if TYPE_CHECKING:
    import dask.array as da

    Result: TypeAlias = npt.NDArray[Any] | da.Array


class GaussianMixture(SelfDescribingMixture):
    """A Gaussian mixture, fitted by expectation-maximisation to any number of rows.

    Names and meanings are those of `sklearn.mixture.GaussianMixture`. What differs: the rows may be larger than memory
    (a Dask array or DataFrame, a `zarr.Array`, or the path of a Zarr store, of Parquet files or of a .npy file), they
    may have weights, and `tol` and `reg_covar` have other defaults.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance matrix for each component, one for all, one variance per component and feature, or one per
        component.
    tol : float, default=1e-6
        EM stops when the estimated distance of the mean log-likelihood to its optimum is under this, in nats per row.
        With 0 it runs all `max_iter` iterations.
    reg_covar : float or "auto", default="auto"
        What keeps covariances regular. A number is added to their diagonals, in the data's units squared, as in
        scikit-learn; 0 adds nothing. "auto" is a penalty that draws each covariance towards the harmonic mean of those
        within the components, as the search on the sample finds them, with the weight of 2 / sqrt(rows) rows [1]_: it
        does not depend on units, vanishes as rows are added, and leaves clusters as tight as they are. Components of
        few rows, or of equal ones, are drawn towards the pooled covariance within components; `fit_report_` names those
        of whose variance it makes up more than 1 %. Where there are fewer than two rows for each feature, covariances
        are drawn towards a diagonal one with as many rows as are lacking.
    max_iter : int, default=200
        Most iterations of EM. Each reads all rows once. With 0, as in scikit-learn, the start is the fit, without a
        warning: `n_iter_` is 0, `converged_` False, and `lower_bound_` minus infinity, since none was computed.
    n_init : int, default=1
        Number of restarts. "sample" searches so often; other starts are each run on a sample of the rows, and the best
        goes on. Where the sample can't tell the best apart, they go on together and share the passes. What
        ``n_init=1`` would start from is always among them: more restarts never end lower.
    init_params : {"sample", "k-means++", "kmeans", "hierarchical", "random", "random_from_data"}, default="sample"
        How the start is made, from a sample of the rows. "sample" searches for the optimum of the sample: a mixture
        grown by splitting components, many seeds in short runs of which the best go on, and, where these don't agree,
        mixtures grown again and components relocated where that raises the likelihood. The others are one seed:
        components around centres that k-means++ draws, from a whole k-means, around Ward's clusters (of 5,000 rows at
        most), of random responsibilities, or around random rows. Distances are in standard deviations of each
        feature (in the data's units if "spherical").
    accelerate : bool or "auto", default="auto"
        Whether to go further than EM does from one pass to the next: by EM on the sample, corrected to the full
        data, and Anderson's extrapolation. A step that lowers the likelihood is taken back. False is EM as in the
        textbook.
        "auto" is True, but for ``tol=0``, which asks for a number of iterations and not for convergence.
    weights_init : array-like of shape (n_components,), default=None
        Mixing proportions to start from.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from.
    precisions_init : array-like, default=None
        Inverse covariances to start from, in the shape of `precisions_`.
    random_state : int, RandomState instance or None, default=None
        Where the sample, the starts and `sample` get their randomness from. An int gives the same fit every time, on
        any scheduler and any number of workers.
    warm_start : bool, default=False
        Whether `fit` starts from the parameters of the fit before, where there was one.
    verbose : int, default=0
        1 for a progress bar on a terminal and a line per iteration elsewhere, 2 for lines everywhere; on standard
        error.
    verbose_interval : int, default=1
        Iterations between the lines.
    missing : {"raise", "drop"}, default="raise"
        What to do with rows that have a NaN, an infinity or a masked entry: raise `MissingValuesError`, or leave them
        out.
    memory_limit : int or str, default=None
        Memory that a process may use for rows, in bytes or as in "2GB": the rows are read in smaller pieces where that
        is needed, and data whose chunks can't be read within it is refused. None reads pieces of 64 MiB.
    persist : bool or "auto", default="auto"
        Whether the rows stay in memory after the first pass, with the workers that have read them. "auto" is True on
        a cluster whose workers have twice as much memory free. The fit is the same to the last bit.
    checkpoint : str or path, default=None
        A folder, or the URL of one in an object store, in which `fit` keeps what it has come to after each pass: a
        run that is stopped, however, goes on from there, to the same bits as one that was not. One run at a time.
    resume : {"auto", "must", "never"}, default="auto"
        Whether to go on from what is in `checkpoint`: where there is something of this fit (what is there of another
        one that has not ended is an error), always, or never. `max_iter` may differ from run to run.
    callback : callable, default=None
        Called with the state of the fit (a `State`) after every iteration. Where it returns True the fit ends there,
        with what it has found; what it raises ends it without.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,), float64
        Mixing proportions. Fewer than `n_components` where components were left out (a `ComponentWarning` says so).
    means_ : ndarray of shape (n_components, n_features), float64
    covariances_ : ndarray, float64
        Of shape (n_components, n_features, n_features) if "full", (n_features, n_features) if "tied", (n_components,
        n_features) if "diag", (n_components,) if "spherical".
    precisions_ : ndarray, float64
        Inverse covariances, in the shape of `covariances_`.
    precisions_cholesky_ : ndarray, float64
        Upper-triangular factors U with precision = U U' (1 / sd if "diag" or "spherical"), in that shape too.
    converged_ : bool
        Whether the estimated distance to the optimum came under `tol`.
    n_iter_ : int
        Iterations done.
    lower_bound_ : float
        Mean log-likelihood of a row in nats (less the penalty of ``reg_covar="auto"``), at the parameters that entered
        the last iteration; those found by it are at least as good.
    lower_bounds_ : ndarray of shape (n_iterations,), float64
        The same for every iteration.
    stop_reason_ : StopReason
        Why the fit stopped, with its `advice`.
    fit_report_ : FitReport
        Readings, rows, bytes, seconds, steps and the estimated gap; it prints as a table. Not kept in model files.
    training_summary_ : TrainingSummary
        Which rows, when, how long, with which versions.
    calibration_ : Calibration
        Quantiles of the log-density of the sample's rows, by which `outliers` goes.
    standard_errors_ : StandardErrors
        Of the weights, means and covariances, from the sample; where a fit would take long over them (with more
        than some 400 parameters), `estimate_standard_errors` does.
    name_ : str or None
    metadata_ : dict
        A name, and what else JSON can hold, for the model file; set them before `save`.
    clusters_ : ndarray of shape (n_components,), int64
        The cluster of each component, where `merge` has made some. `merge_tree_` is the tree they come from.
    n_missing_ : int
        Rows that were left out because of a missing value.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)
        Where the rows had names for their features, as they were (also numbers, which scikit-learn forgets).

    References
    ----------
    .. [1] Chen & Tan, "Inference for multivariate normal mixtures", Journal of Multivariate Analysis 100 (2009).

    Examples
    --------
    >>> import numpy as np
    >>> from streamgmm import GaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(10, 2, (500, 2))])
    >>> model = GaussianMixture(n_components=2, random_state=0).fit(x)
    >>> np.sort(model.means_[:, 0]).round(1)
    array([-0.1, 10.1])
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-6,
        reg_covar: float | str = "auto",
        max_iter: int = 200,
        n_init: int = 1,
        init_params: str = "sample",
        accelerate: bool | str = "auto",
        weights_init: npt.ArrayLike | None = None,
        means_init: npt.ArrayLike | None = None,
        precisions_init: npt.ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 1,
        missing: str = "raise",
        memory_limit: int | str | None = None,
        persist: bool | str = "auto",
        checkpoint: str | os.PathLike[str] | None = None,
        resume: str = "auto",
        callback: Callable[[State], object] | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.accelerate = accelerate
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.memory_limit = memory_limit
        self.persist = persist
        self.checkpoint = checkpoint
        self.resume = resume
        self.callback = callback

    # Fitting

    def fit(
        self,
        X: Any,
        y: None = None,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        feature_dim: Hashable | None = None,
        where: str | None = None,
    ) -> Self:
        """Fit the mixture.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str, path or list of paths, (n_samples, n_features)
            The rows. Stores are read anew in each pass; nothing is kept or persisted. A table is of pandas, polars,
            pyarrow, or anything that gives Arrow data; paths are of a .npy file, a Zarr store, or Parquet: a file, a
            folder, a pattern, or a list of files. The rows of Parquet are in the order of the files' names, with the
            numbers in these in the order of numbers, as Dask reads them (part.2 before part.10), or in that of a list.
        y : None
            Ignored; there for scikit-learn.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so. A row of weight 0 is absent.
        columns : sequence of str, default=None
            The features of a table; where not given, all columns but the weights, an index that pandas has stored, and,
            of Parquet, columns that only some files have (a `RowsWarning` says so) and the keys of folders (year=2020).
            Those that are named are missing values where a file lacks them. Of a Dataset of xarray its variables.
        feature_dim : hashable, default=None
            The dimension of a DataArray of xarray that holds the features, the last of two if None; the points of the
            others are the rows. The model remembers it.
        where : str, default=None
            Which rows of Parquet files are meant: a condition in SQL's words on columns and keys of folders,
            ``"date >= '2026-01-01' and country = 'DE'"``. What folders and bounds rule out is not read. As in SQL, a
            comparison with a missing value leaves the row out.

        Returns
        -------
        GaussianMixture
            The estimator itself.

        Raises
        ------
        InputError
            If a parameter or the rows can't be used; the message names what was found and what to do.
        CheckpointError
            If the fit can't go on from what is in `checkpoint`.
        """
        # Another one opens the rows, so that a fit that fails leaves this one as it was.
        opened = type(self)(**self.get_params(deep=False))
        rows = opened._open_to_fit(X, sample_weight, columns=columns, feature_dim=feature_dim, where=where)
        settings = settings_of(self, rows)
        with (
            checkpoint_of(self, rows, settings, opened._source_places) as checkpoint,
            report_progress(self.verbose, self.verbose_interval, self.callback) as listener,
        ):
            result = fit(rows, settings, listener, checkpoint)
        self._adopt(result, opened)
        if result.state.stop_reason is StopReason.MAX_ITER and self.tol > 0 and self.max_iter > 0:
            warnings.warn(
                f"the fit stopped after max_iter={self.max_iter} iterations, an estimated {result.state.gap:.1e} nats "
                f"per row from its optimum (tol={self.tol:g}): {StopReason.MAX_ITER.advice}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def plan(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        feature_dim: Hashable | None = None,
        where: str | None = None,
        probe: bool = True,
    ) -> Plan:
        """Say what `fit` would take, where it would run now: tasks, memory, time.

        Parameters
        ----------
        X, sample_weight, columns, feature_dim, where : as those of `fit`
            The rows, their weights, and the features of a table or a grid.
        probe : bool, default=True
            Whether to read one task, to learn how fast that is and how long a pass will take.

        Returns
        -------
        Plan
            It prints as a table. `fit` refuses what its `check` refuses: tasks that don't fit into a worker's memory.

        Raises
        ------
        InputError
            If a parameter or the rows can't be used.

        Examples
        --------
        >>> import numpy as np
        >>> from streamgmm import GaussianMixture
        >>> plan = GaussianMixture(n_components=2).plan(np.zeros((1000, 3)), probe=False)
        >>> plan.n_tasks, plan.n_bytes
        (1, 24000)
        """
        opener = clone(self)
        rows = opener._open_to_fit(X, sample_weight, columns=columns, feature_dim=feature_dim, where=where)
        settings = settings_of(opener, rows)
        projected = plan_fit(rows, [settings])
        return probe_speed(projected, rows, settings) if probe else projected

    def fit_predict(
        self,
        X: Any,
        y: None = None,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        feature_dim: Hashable | None = None,
        where: str | None = None,
    ) -> Result:
        """Fit the mixture and return the label of each row: `fit`, and then `predict`.

        Parameters
        ----------
        X, y, sample_weight, columns, feature_dim, where : as those of `fit`
            The rows, and what there is to know of them.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples,), int64
            As what `predict` gives.
        """
        self.fit(X, y, sample_weight, columns=columns, feature_dim=feature_dim, where=where)
        return self.predict(X, columns=columns, where=where)

    # What other modules of the package ask

    def _open_to_fit(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        feature_dim: Hashable | None = None,
        where: str | None = None,
    ) -> Rows:
        """Open rows of any kind for a fit, and take over the names of their features; `_adopt` passes them on."""
        self._check_parameters()
        rows = self._rows(
            X, sample_weight=sample_weight, columns=columns, reset=True, feature_dim=feature_dim, where=where
        )
        self._source_places = find_places(X, sample_weight)
        return rows

    def _adopt(self, result: FitResult, opened: GaussianMixture) -> None:
        """Take over the result of a fit to rows that `opened` has opened."""
        for name in ("n_features_in_", "feature_names_in_", "_schema", "_source_places"):
            if hasattr(opened, name):
                setattr(self, name, getattr(opened, name))
            elif hasattr(self, name):
                delattr(self, name)
        for name in ("clusters_", "merge_tree_"):
            if hasattr(self, name):
                delattr(self, name)
        self._fitted_as = (self.covariance_type, self.n_components)
        parameters, state = result.parameters, result.state
        self._take_parameters(parameters)
        assert state.stop_reason is not None  # a fit goes on until there is one
        self.converged_ = state.stop_reason in (StopReason.CONVERGED, StopReason.NOISE_FLOOR)
        self.n_iter_ = state.n_iter
        self.lower_bounds_ = np.array(state.lower_bounds)
        self.lower_bound_ = float(state.lower_bound)
        self.stop_reason_: StopReason = state.stop_reason
        self.n_missing_ = result.n_missing
        self.fit_report_ = result.report
        self.calibration_, self.training_summary_ = result.calibration, result.training
        self.information_ = result.information
        self.name_, self.metadata_ = None, {}

    def _check_parameters(self) -> None:
        check_parameters(self.get_params(deep=False))
