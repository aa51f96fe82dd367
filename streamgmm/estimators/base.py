"""What every fitted mixture can do: open rows, check them against those of the fit, evaluate them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted

from streamgmm.estimators.validation import as_array
from streamgmm.exceptions import RowsError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.initialization.sampling import Sample
from streamgmm.initialization.survey import Survey, survey_rows
from streamgmm.predict.calibration import Calibration
from streamgmm.predict.evaluate import LogLikelihood, Predict, log_likelihood, predict
from streamgmm.sources.base import Rows
from streamgmm.sources.grids import Grid, find_grid
from streamgmm.sources.open import is_stored, is_table, open_rows
from streamgmm.sources.schema import FeatureSchema
from streamgmm.sources.unwrapping import fill_masked, unwrap
from streamgmm.storage.places import InUse, find_places
from streamgmm.typing import Floats, Integers
from streamgmm.units import parse_memory_limit

if TYPE_CHECKING:
    import dask.array as da

    Result: TypeAlias = npt.NDArray[Any] | da.Array


class BaseMixture(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted mixture, and the schema of the rows that it was fitted to.

    Who fits sets `weights_`, `means_`, `covariances_`, `precisions_cholesky_` and `n_features_in_`; who merges sets
    `clusters_`.
    """

    missing: str
    memory_limit: int | str | None
    random_state: int | np.random.RandomState | None
    checkpoint: str | os.PathLike[str] | None
    covariance_type: str
    n_components: int
    weights_: Floats
    means_: Floats
    covariances_: Floats
    precisions_: Floats
    precisions_cholesky_: Floats
    n_features_in_: int
    clusters_: Integers
    calibration_: Calibration | None

    def predict(self, X: Any, *, columns: Sequence[str] | None = None, where: str | None = None) -> Result:
        """Return the most probable component of each row.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        columns : sequence of str, default=None
            The features of a table. Where the fit had names they are taken by these, in any order and among others, and
            need not be given; where a table has other names for all of them, give those in the order of the fit's.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples,), int64
            A NumPy array for rows in memory, a lazy Dask array for others. With ``missing="drop"``, -1 where a value is
            missing.
        """
        return self._predict(X, "labels", columns, where)

    def predict_proba(self, X: Any, *, columns: Sequence[str] | None = None, where: str | None = None) -> Result:
        """Return the probability of each component given each row.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples, n_components), float64
            In memory or lazy as what `predict` gives; NaN where that is -1.
        """
        return self._predict(X, "proba", columns, where)

    def score_samples(self, X: Any, *, columns: Sequence[str] | None = None, where: str | None = None) -> Result:
        """Return the log-density of each row in nats.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples,), float64
            In memory or lazy as what `predict` gives; NaN where that is -1.
        """
        return self._predict(X, "log_density", columns, where)

    def score(
        self,
        X: Any,
        y: None = None,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> float:
        """Return the mean log-likelihood per row, in nats; reads the rows once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored; there for scikit-learn.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        float
            Weighted, where the rows have weights.
        """
        return self._log_likelihood(X, sample_weight, columns=columns, where=where).mean

    def aic(
        self, X: Any, sample_weight: Any = None, *, columns: Sequence[str] | None = None, where: str | None = None
    ) -> float:
        """Return Akaike's information criterion of the mixture on the rows; reads the rows once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        float
            The lower the better.
        """
        return (
            -2.0 * self._log_likelihood(X, sample_weight, columns=columns, where=where).total
            + 2.0 * self._parameters().n_parameters
        )

    def bic(
        self, X: Any, sample_weight: Any = None, *, columns: Sequence[str] | None = None, where: str | None = None
    ) -> float:
        """Return the Bayesian information criterion of the mixture on the rows; reads the rows once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        float
            The lower the better; the number of rows in it is the sum of their weights.
        """
        found = self._log_likelihood(X, sample_weight, columns=columns, where=where)
        return -2.0 * found.total + self._parameters().n_parameters * float(np.log(found.sum_weight))

    # What other modules of the package ask

    def _parameters(self) -> MixtureParameters:
        """Return the fitted parameters as one value."""
        check_is_fitted(self)
        return MixtureParameters(
            self._get_fitted_as()[0], self.weights_, self.means_, self.covariances_, self.precisions_cholesky_
        )

    def _get_fitted_as(self) -> tuple[str, int]:
        """Return the family of the fit, and the components it was asked for: those of the next may have been set."""
        return getattr(self, "_fitted_as", (self.covariance_type, self.n_components))

    def _log_likelihood(
        self, X: Any, sample_weight: Any = None, *, columns: Sequence[str] | None = None, where: str | None = None
    ) -> LogLikelihood:
        """Sum up the log-likelihood of rows of any kind and their weights; reads the rows once."""
        check_is_fitted(self)
        rows = self._rows(X, sample_weight=sample_weight, columns=columns, where=where, reset=False)
        return log_likelihood(rows, self._parameters(), missing=self.missing)

    def _open(
        self,
        X: Any,
        *,
        columns: Sequence[str] | None = None,
        keep: Sequence[Hashable] | str = (),
        where: str | None = None,
    ) -> Rows:
        """Open rows of any kind to evaluate the fitted mixture at, and check them against those of the fit."""
        check_is_fitted(self)
        return self._rows(X, sample_weight=None, columns=columns, reset=False, keep=keep, where=where)

    def _predictor(self, kind: str, rows: Rows) -> Predict:
        """Return what predicts labels, probabilities (of clusters, where there are any) or densities."""
        return Predict(kind, self.missing, rows.provenance, self._clusters())

    def _clusters(self) -> tuple[int, ...] | None:
        """Return the cluster of each component, where there are any."""
        clusters = getattr(self, "clusters_", None)
        return None if clusters is None else tuple(clusters.tolist())

    def _sample(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        n_samples: int,
        seed: int = 0,
    ) -> tuple[Sample, Survey]:
        """Draw rows of any kind, float64, with their weights, and say what there is to say of all; reads them once."""
        check_is_fitted(self)
        rows = self._rows(X, sample_weight=sample_weight, columns=columns, where=where, reset=False)
        surveyed, _ = survey_rows(rows, sample_size=n_samples, seed=seed, full_scatter=False, missing=self.missing)
        sample = surveyed.choose_sample().in_float64()
        return replace(sample, x=np.ascontiguousarray(sample.x)), surveyed.without_draws()

    def _places_in_use(self) -> tuple[InUse, ...]:
        """Return where that is which nothing should be written over: the rows of the fit, a checkpoint, a file."""
        return (
            InUse("the rows of the fit", getattr(self, "_source_places", ())),
            InUse("the checkpoint", find_places(self.checkpoint)),
            InUse("the file of the model", getattr(self, "_file_places", ())),
        )

    # Inner workings

    def _take_parameters(self, value: MixtureParameters) -> None:
        self.weights_, self.means_, self.covariances_ = value.weights, value.means, value.covariances
        self.precisions_, self.precisions_cholesky_ = value.precisions, value.precisions_cholesky

    def _predict(self, X: Any, kind: str, columns: Sequence[str] | None, where: str | None = None) -> Result:
        grid, rows = self._open_with_grid(X, columns, where)
        predictor = self._predictor(kind, rows)
        found = predict(rows, predictor, self._parameters())
        if grid is None:
            return found
        of = predictor.of
        name, trailing, attrs = {
            "labels": ("label", (), {"long_name": of}),
            "proba": ("proba", ((of, None),), {"long_name": f"probability of the {of}"}),
            "log_density": ("log_density", (), {"long_name": "log-density", "units": "nats"}),
        }[kind]
        return grid.put(found, name, *trailing, **attrs)

    def _fitted_schema(self) -> FeatureSchema:
        names = getattr(self, "feature_names_in_", None)
        known: FeatureSchema | None = getattr(self, "_schema", None)
        return known or FeatureSchema(None if names is None else tuple(names))

    def _rows(
        self,
        X: Any,
        *,
        sample_weight: Any,
        columns: Sequence[Any] | None,
        reset: bool,
        features: Sequence[int] | None = None,
        feature_dim: Hashable | None = None,
        keep: Sequence[Hashable] | str = (),
        where: str | None = None,
    ) -> Rows:
        """Open rows of any kind, and check them (`reset=False`) against those of the fit, or some of its features."""
        memory_limit = parse_memory_limit(self.memory_limit)
        fitted = None if reset else self._fitted_schema().select(features)
        grid = find_grid(X, feature_dim=feature_dim, sample_weight=sample_weight, columns=columns, fitted=fitted)
        if grid is not None:
            if where is not None:
                raise RowsError("where= is for Parquet files; X is a grid of xarray's: select its rows before, X.where")
            rows = open_rows(grid.rows, sample_weight=grid.sample_weight, memory_limit=memory_limit)
            rows.schema = grid.schema
        else:
            X = fill_masked(unwrap(X))
            if not is_table(X) and not is_stored(X):
                X = as_array(X, self)
            rows = open_rows(
                X,
                sample_weight=sample_weight,
                columns=columns,
                keep=keep,
                where=where,
                fitted=fitted,
                memory_limit=memory_limit,
            )
        if fitted is None:
            self.n_features_in_ = rows.n_features
            self._take_schema(rows.schema)
            return rows
        by_place = fitted.taken_by_place(rows.schema, type(self).__name__)
        if by_place is not None and columns is None and grid is None:
            warnings.warn(by_place, UserWarning, stacklevel=4)
        some = () if features is None else (len(features),)
        if rows.n_features not in (self.n_features_in_, *some):
            expected = " or ".join(map(str, (*some, self.n_features_in_)))
            raise RowsError(
                f"X has {rows.n_features} features, but {type(self).__name__} is expecting {expected} features as input"
            )
        return rows

    def _open_with_grid(
        self, X: Any, columns: Sequence[str] | None, where: str | None = None
    ) -> tuple[Grid | None, Rows]:
        """Open rows to evaluate the fitted mixture at; with the grid that results go back to, where there is one."""
        grid = find_grid(X, columns=columns, fitted=self._fitted_schema())
        return grid, self._open(X if grid is None else grid, columns=columns, where=where)

    def _take_schema(self, schema: FeatureSchema) -> None:
        """Take over the names of columns: those of a fit, or of a model file."""
        self._schema = schema
        if schema.feature_names is not None:
            # Names may be tuples: no array is made of those.
            names = np.empty(len(schema.feature_names), dtype=object)
            names[:] = schema.feature_names
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Missing values are found by the pass that reads them, not when the rows are given.
        tags.input_tags.allow_nan = self.missing == "drop"
        return tags
