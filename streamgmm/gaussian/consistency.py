"""Whether arrays are the parameters of a mixture: what a file held that was damaged, or made by hand, need not be."""

from __future__ import annotations

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats

#: How far the weights' sum may be from 1.
_SUM_TOLERANCE = 1e-6
#: How far U' Sigma U may be from the identity, where Sigma is well conditioned. A fit whose data is much worse
#: conditioned than its components loses some digits on the way from whitened coordinates to the data's.
_TOLERANCE = 1e-5
#: The same in units of the rounding that the condition of Sigma brings.
_ROUNDINGS = 100.0


def check_consistent(parameters: MixtureParameters) -> None:
    """Refuse arrays that are not the parameters of one mixture.

    Costs K D^2: instead of factors, products with two vectors are compared.

    Raises
    ------
    InputError
        It names the array, what was found, and what was expected.
    """
    weights, means = parameters.weights, parameters.means
    if means.ndim != 2 or 0 in means.shape:
        raise InputError(f"means have shape {means.shape}; expected (components, features)")
    n_components, n_features = means.shape
    shape = FAMILIES[parameters.covariance_type].shape(n_components, n_features)
    expected = {"weights": (n_components,), "means": means.shape, "covariances": shape, "precisions_cholesky": shape}
    for name, wanted in expected.items():
        array = getattr(parameters, name)
        if array.shape != wanted:
            raise InputError(f"{name} have shape {array.shape}; expected {wanted}")
        if array.dtype != np.float64:
            raise InputError(f"{name} are {array.dtype}; expected float64")
        if not np.isfinite(array).all():
            raise InputError(f"{name} have {np.count_nonzero(~np.isfinite(array))} value(s) that are not finite")
    if not ((weights >= 0.0) & (weights <= 1.0 + _SUM_TOLERANCE)).all():
        raise InputError(f"weights range from {weights.min():.6g} to {weights.max():.6g}; expected 0 to 1")
    if not abs(weights.sum() - 1.0) <= _SUM_TOLERANCE:
        raise InputError(f"weights sum to {weights.sum():.9g}; expected 1")
    with np.errstate(all="ignore"):
        if parameters.covariance_type in ("full", "tied"):
            matrices = (-1, n_features, n_features)
            _check_matrices(parameters.covariances.reshape(matrices), parameters.precisions_cholesky.reshape(matrices))
        else:
            _check_variances(parameters.covariances, parameters.precisions_cholesky)


def _check_variances(variances: Floats, factors: Floats) -> None:
    if not (variances > 0.0).all():
        raise InputError(f"covariances have a variance of {variances.min():.6g}; expected more than 0")
    if not (factors > 0.0).all():
        raise InputError(f"precisions_cholesky have a value of {factors.min():.6g}; expected more than 0")
    if not (np.abs((factors * np.sqrt(variances)) ** 2 - 1.0) <= _TOLERANCE).all():
        raise InputError("precisions_cholesky are not 1 / sqrt(covariances)")


def _check_matrices(covariances: Floats, factors: Floats) -> None:
    n_features = covariances.shape[-1]
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    if not (variances > 0.0).all():
        raise InputError(f"covariances have a variance of {variances.min():.6g}: they are not positive definite")
    if not (np.diagonal(factors, axis1=1, axis2=2) > 0.0).all():
        raise InputError("precisions_cholesky have a diagonal that is not positive")
    scale = np.sqrt(variances)
    vectors = np.random.default_rng(0).standard_normal((n_features, 2))
    for number, (covariance, factor, unit) in enumerate(zip(covariances, factors, scale, strict=True)):
        if np.tril(factor, -1).any():
            raise InputError(f"precisions_cholesky[{number}] is not upper triangular")
        # In the units of its own standard deviations: a correlation matrix.
        correlation = covariance / unit / unit[:, np.newaxis]
        if not (np.abs(correlation - correlation.T) <= _TOLERANCE).all():
            raise InputError(f"covariances[{number}] is not symmetric")
        if not (np.abs(correlation) <= 1.0 + _TOLERANCE).all():
            raise InputError(f"covariances[{number}] is not positive definite: a correlation is more than 1")
        scaled = unit[:, np.newaxis] * factor
        # U' Sigma U = 1, and then Sigma is positive definite. Rounding in Sigma grows by |U|^2, Sigma's condition.
        residual = scaled.T @ (correlation @ (scaled @ vectors)) - vectors
        rounding = _ROUNDINGS * n_features * np.finfo(np.float64).eps * np.square(scaled).sum()
        if not (np.abs(residual) <= (_TOLERANCE + rounding) * np.abs(vectors).sum()).all():
            definite = np.linalg.eigvalsh(correlation)[0] > 0.0
            raise InputError(
                f"precisions_cholesky[{number}] does not belong to covariances[{number}]"
                if definite
                else f"covariances[{number}] is not positive definite"
            )
