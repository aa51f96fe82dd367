"""Checks of what users give an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array

from streamgmm.exceptions import InputError, RowsError
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters


def as_array(X: Any, estimator: BaseEstimator) -> npt.NDArray[Any]:
    """Turn lists, arrays, anything that scikit-learn can, into an array of numbers."""
    # Missing values are found by the pass.
    options = {"estimator": estimator, "input_name": "X", "ensure_all_finite": False}
    array: npt.NDArray[Any] = check_array(X, dtype=None, **options)
    if array.dtype.kind in "mM":
        since = "X" if array.dtype.kind == "m" else "(X - np.datetime64('2000-01-01'))"
        raise RowsError(
            f"X has dtype {array.dtype}, which is time: convert it to numbers of a unit first, as in "
            f"{since} / np.timedelta64(1, 'h') for hours"
        )
    if array.dtype.kind in "US":
        raise RowsError(f"X has dtype {array.dtype}, which is text: convert it to numbers first, X.astype(float)")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        array = check_array(X, dtype=np.float64, **options)
    return array


def check_warm_start(
    fitted: MixtureParameters, n_asked: int, *, covariance_type: str, n_components: int, n_features: int
) -> None:
    """Refuse to go on from a fit with other settings.

    Parameters
    ----------
    fitted : MixtureParameters
        Of the fit before.
    n_asked : int
        Components that it was asked for.
    covariance_type, n_components, n_features
        Of the fit that is to go on from it.

    Raises
    ------
    InputError
    """
    shape = FAMILIES[covariance_type].shape(*fitted.means.shape)
    if fitted.covariance_type != covariance_type or fitted.covariances.shape != shape:
        raise InputError(
            f"warm_start=True, but covariance_type={covariance_type!r} is not that of the fit before, whose "
            f"covariances have shape {fitted.covariances.shape}: use warm_start=False"
        )
    if n_asked != n_components:
        raise InputError(
            f"warm_start=True, but the fit before had n_components={n_asked} and this one has {n_components}: use "
            "warm_start=False"
        )
    if fitted.n_features != n_features:
        raise InputError(
            f"warm_start=True, but the fit before had {fitted.n_features} features and X has {n_features}: use "
            "warm_start=False"
        )


def check_probabilities(values: Sequence[float], name: str) -> tuple[float, ...]:
    """Return some numbers between 0 and 1, without these.

    Raises
    ------
    InputError
    """
    found = tuple(float(value) for value in values)
    if not found or not all(0.0 < value < 1.0 for value in found):
        raise InputError(f"{name} must lie between 0 and 1, got {values!r}")
    return found


def check_count(value: Any, name: str, least: int) -> int:
    """Return an integer of at least so much.

    Raises
    ------
    InputError
    """
    if not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)
