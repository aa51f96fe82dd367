"""How sure a fit is of its parameters, and whether other rows have changed: standard errors, drift."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Self

from streamgmm.estimators.scoring import ScoringMixture
from streamgmm.exceptions import InputError
from streamgmm.execution.blas import one_blas_thread
from streamgmm.gaussian.e_step import evaluate
from streamgmm.predict.calibration import calibrate
from streamgmm.predict.drift import DriftReport, find_drift
from streamgmm.predict.information import (
    MOST_PARAMETERS,
    Information,
    StandardErrors,
    estimate_information,
    find_standard_errors,
    rows_wanted,
)


def _why_not(n_parameters: int) -> str:
    return (
        f"it was not fitted to rows, or has too many parameters ({n_parameters}) for the fit to spend time on its "
        "information; estimate_standard_errors(X), of the rows of the fit, does"
    )


class UncertainMixture(ScoringMixture):
    """A mixture that says how well the rows of the fit tell its parameters."""

    information_: Information | None

    @property
    def standard_errors_(self) -> StandardErrors:
        """Standard errors of the weights, means and covariances, in the data's units.

        Raises
        ------
        AttributeError
            If the model was not fitted to rows, or has so many parameters that the fit left them out.
        """
        parameters = self._parameters()
        information: Information | None = getattr(self, "information_", None)
        if information is None:
            raise AttributeError(f"the model has no standard errors: {_why_not(parameters.n_parameters)}")
        return find_standard_errors(parameters, information)

    def compare(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        level: float = 0.01,
        min_gain: float = 0.0,
    ) -> DriftReport:
        """Say whether new rows come from where the rows of the fit came from, and what has changed; reads them once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The new rows.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.
        level : float, default=0.01
            How often a change may be found where there is none.
        min_gain : float, default=0
            What a fit to the new rows must gain on them, nats per row, for a change to matter. With very many rows each
            is found.

        Returns
        -------
        DriftReport
            The verdict, tests of the weights, the means and the covariances and of each feature, what has moved by how
            much, rows out of range, and the log-densities then and now.

        Raises
        ------
        InputError
            If the model has no information of its fit: `estimate_standard_errors` takes it from the rows.

        Examples
        --------
        >>> import numpy as np
        >>> from streamgmm import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> model = GaussianMixture(random_state=0).fit(rng.normal(size=(20_000, 2)))
        >>> model.compare(rng.normal(size=(5_000, 2))).drifted
        False
        >>> found = model.compare(rng.normal([0.0, 0.2], 1.0, (5_000, 2)))
        >>> found.drifted, np.abs(found.mean_shifts).round(1)
        (True, array([[0. , 0.2]]))
        """
        parameters = self._parameters()
        for name, value, most in (("level", level, 1.0), ("min_gain", min_gain, math.inf)):
            if not (0.0 <= value < most):
                raise InputError(f"{name} must be at least 0, and less than {most:g}; got {value!r}")
        information: Information | None = getattr(self, "information_", None)
        if information is None or self.calibration_ is None:
            raise InputError(f"the model can't be compared with other rows: {_why_not(parameters.n_parameters)}")
        rows = self._rows(X, sample_weight=sample_weight, columns=columns, where=where, reset=False)
        return find_drift(
            rows, parameters, information, self.calibration_, list(map(str, self._names())),
            missing=self.missing, level=level, min_gain=min_gain,
        )  # fmt: skip

    def estimate_standard_errors(
        self,
        X: Any,
        sample_weight: Any = None,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        n_samples: int | None = None,
    ) -> Self:
        """Estimate `standard_errors_` from the rows of the fit, or a sample of them; reads them once.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            The rows that were fitted: the errors are those of a fit to as many.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.
        where : str, default=None
            Which rows of Parquet files are meant, as `fit` takes it.
        n_samples : int, default=None
            Rows to estimate from; 20,000 and 50 for each parameter, or all where there are fewer, if None.

        Returns
        -------
        GaussianMixture
            The estimator itself.

        Raises
        ------
        InputError
            If the model has so many parameters that the matrices would not fit into memory.

        Examples
        --------
        >>> import numpy as np
        >>> from streamgmm import GaussianMixture
        >>> x = np.random.default_rng(0).normal(size=(10_000, 1))
        >>> model = GaussianMixture(random_state=0).fit(x)
        >>> model.estimate_standard_errors(x).standard_errors_.means.round(3)  # 1 / sqrt(10,000)
        array([[0.01]])
        """
        parameters = self._parameters()
        if parameters.n_parameters > MOST_PARAMETERS:
            raise InputError(
                f"the model has {parameters.n_parameters} parameters, and standard errors need matrices of as many "
                f"rows and columns: {MOST_PARAMETERS} are the most. covariance_type='diag' has fewer"
            )
        n = rows_wanted(parameters.n_parameters) if n_samples is None else int(n_samples)
        if n < 1:
            raise InputError(f"n_samples must be 1 or more; got {n_samples!r}")
        sample, surveyed = self._sample(X, sample_weight, columns=columns, where=where, n_samples=n)
        # As in a fit: the same bits on any machine.
        with one_blas_thread():
            assert surveyed.ranges is not None  # a new survey has them
            self.information_ = estimate_information(
                parameters, sample.x, sample.weight, surveyed.sum_weight, surveyed.ranges
            )
        if self.calibration_ is None:
            self.calibration_ = calibrate(evaluate(sample.x, parameters, log_prob=True).log_prob, sample.weight)
        return self

    def _names(self) -> tuple[Hashable, ...]:
        """Return a name for each feature: its place where it has none."""
        return self._fitted_schema().feature_names or tuple(range(self.n_features_in_))
