"""Scores of a fitted mixture: outliers, and all that it says of the rows of a table, next to their columns."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy.typing as npt

from streamgmm.estimators.base import BaseMixture
from streamgmm.exceptions import InputError
from streamgmm.gaussian.e_step import evaluate
from streamgmm.predict.calibration import Calibration, calibrate
from streamgmm.predict.scores import check_float_type, check_outlier_options, check_scores
from streamgmm.predict.tables import score_table

if TYPE_CHECKING:
    import dask.array as da

    Result: TypeAlias = npt.NDArray[Any] | da.Array

#: Rows that `calibrate` draws, at most.
_ROWS_TO_CALIBRATE = 1_000_000


class ScoringMixture(BaseMixture):
    """A mixture that scores rows: which are outliers, and all results of a table's rows at once."""

    def predict_table(
        self,
        frame: Any,
        *,
        write: Sequence[str] | str = ("label",),
        keep: Sequence[Hashable] | str = (),
        columns: Sequence[str] | None = None,
        outlier_rate: float | None = None,
        outlier_threshold: float | None = None,
        float_type: str = "float64",
        prefix: str = "",
    ) -> Any:
        """Return a table of what the mixture says of each row of a table, next to columns of it.

        Parameters
        ----------
        frame : DataFrame of pandas, polars or Dask, or pyarrow Table
            The rows, or anything else that gives Arrow data.
        write : sequence of str, default=("label",)
            Of "label", "probability", "log_density", "outlier" and "responsibilities"; see `write_predictions`.
        keep : sequence of str, or "all", default=()
            Columns to carry over, in front of the results.
        columns : sequence of str, default=None
            The features of the table, as `predict` takes them.
        outlier_rate, outlier_threshold : float, default=None
            By which rows are outliers, as `outliers` takes them.
        float_type : {"float64", "float32"}, default="float64"
            Of densities and probabilities.
        prefix : str, default=""
            What the names of the results begin with.

        Returns
        -------
        DataFrame or Table
            Of the kind that was given, an Arrow Table for other kinds of Arrow data; lazy where it was. The order of
            the rows and the index of pandas and Dask are kept.

        Examples
        --------
        >>> import pandas as pd
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> visits = pd.DataFrame({"id": ["a", "b"], "minutes": [8.0, 1.0]}, index=[7, 8])
        >>> model.predict_table(visits, columns=["minutes"], write=["label", "probability"], keep=["id"])
          id  label  probability
        7  a      1          1.0
        8  b      0          1.0
        """
        names = check_scores(write)
        check_float_type(float_type)
        self._parameters()
        threshold = self._threshold_for(names, outlier_rate, outlier_threshold)
        return score_table(self, frame, names, threshold, float_type, keep=keep, columns=columns, prefix=prefix)

    def outliers(
        self,
        X: Any,
        rate: float | None = None,
        *,
        threshold: float | None = None,
        columns: Sequence[str] | None = None,
        where: str | None = None,
    ) -> Result:
        """Tell which rows have a log-density as low as few rows of the fit had.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows.
        rate : float, default=None
            The share of the rows of the fit that would be outliers. The quantiles of their log-densities are kept in
            `calibration_`, and with the model; they come from the sample (all rows where these are few).
        threshold : float, default=None
            The log-density in nats below which a row is an outlier; instead of `rate`.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples,), bool
            In memory or lazy as what `predict` gives. With ``missing="drop"``, False where a value is missing.

        Raises
        ------
        InputError
            If the model has no such quantiles, or they come from too few rows for the rate; `calibrate` makes others.

        Examples
        --------
        >>> import numpy as np
        >>> from streamgmm import GaussianMixture
        >>> x = np.random.default_rng(0).normal(size=(5000, 2))
        >>> model = GaussianMixture(random_state=0).fit(x)
        >>> model.outliers([[0.0, 0.0], [9.0, 9.0]], rate=0.01)
        array([False,  True])
        """
        self._parameters()
        threshold = self._outlier_threshold(rate, threshold, ("rate", "threshold"))
        found: Result = self._predict(X, "log_density", columns, where) < threshold
        if hasattr(found, "rename"):
            found = found.rename("outlier").assign_attrs(long_name="whether a row is an outlier")
            found.attrs.pop("units", None)
        return found

    def calibrate(
        self, X: Any, sample_weight: Any = None, *, columns: Sequence[str] | None = None, where: str | None = None
    ) -> Self:
        """Take the quantiles of the log-density, by which `outliers` goes, from other rows; reads them once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows; a sample of a million is taken where there are more.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.

        Returns
        -------
        GaussianMixture
            The estimator itself.
        """
        sample, _ = self._sample(X, sample_weight, columns=columns, where=where, n_samples=_ROWS_TO_CALIBRATE)
        log_density = evaluate(sample.x, self._parameters(), log_prob=True).log_prob
        self.calibration_ = calibrate(log_density, sample.weight)
        return self

    def _threshold_for(
        self, write: tuple[str, ...], outlier_rate: float | None, outlier_threshold: float | None
    ) -> float | None:
        """Return the log-density below which rows are outliers, where these are asked for."""
        check_outlier_options(write, outlier_rate, outlier_threshold)
        if "outlier" in write:
            return self._outlier_threshold(outlier_rate, outlier_threshold, ("outlier_rate", "outlier_threshold"))
        return None

    def _outlier_threshold(self, rate: float | None, threshold: float | None, names: tuple[str, str]) -> float:
        if (rate is None) == (threshold is None):
            raise InputError(f"give {names[0]} or {names[1]}, one of them: by it rows are outliers")
        if threshold is not None:
            if not math.isfinite(threshold):
                raise InputError(f"{names[1]} must be a number of nats; got {threshold!r}")
            return float(threshold)
        calibration: Calibration | None = getattr(self, "calibration_", None)
        if calibration is None:
            raise InputError(
                "the model has no quantiles of its log-density, as it was not fitted to rows: calibrate it with "
                f"some (calibrate), or give {names[1]}"
            )
        return calibration.threshold(float(rate))  # type: ignore[arg-type]
