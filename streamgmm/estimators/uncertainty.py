"""How sure a fit is of its parameters: standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from streamgmm.estimators.scoring import ScoringMixture
from streamgmm.exceptions import InputError
from streamgmm.execution.blas import one_blas_thread
from streamgmm.predict.information import (
    MOST_PARAMETERS,
    Information,
    StandardErrors,
    estimate_information,
    find_standard_errors,
    rows_wanted,
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
            raise AttributeError(
                f"the model has no standard errors: it was not fitted to rows, or has too many parameters "
                f"({parameters.n_parameters}) for the fit to spend time on them; estimate_standard_errors(X) does"
            )
        return find_standard_errors(parameters, information)

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
        sample, surveyed = self._weighed_sample(X, sample_weight, columns=columns, where=where, n_samples=n)
        # As in a fit: the same bits on any machine.
        with one_blas_thread():
            assert surveyed.ranges is not None  # a new survey has them
            self.information_ = estimate_information(
                parameters, sample.x, sample.weight, surveyed.sum_weight, surveyed.ranges
            )
        return self
