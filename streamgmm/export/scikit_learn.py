"""Mixtures of scikit-learn: the same parameters, the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.export.header import Description
from streamgmm.gaussian.consistency import check_consistent
from streamgmm.gaussian.parameters import MixtureParameters

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

#: Parameters that both have, with the same values but for those below.
_SHARED = ("n_components", "covariance_type", "tol", "max_iter", "n_init", "random_state", "warm_start")
_ARRAYS = ("weights_", "means_", "covariances_", "precisions_cholesky_")


def to_scikit_learn(parameters: MixtureParameters, description: Description, bounds: Any) -> GaussianMixture:
    """Return a fitted `sklearn.mixture.GaussianMixture`."""
    from sklearn.mixture import GaussianMixture

    if description.clusters is not None:
        raise InputError("scikit-learn's mixtures have no clusters of components: convert the model before the merge")
    given = description.parameters
    init = given.get("init_params", "kmeans")
    model = GaussianMixture(
        **{name: given[name] for name in _SHARED if name in given} | {"n_components": parameters.n_components},
        reg_covar=1e-6 if isinstance(given.get("reg_covar", "auto"), str) else given["reg_covar"],
        init_params=init if init in ("kmeans", "k-means++", "random", "random_from_data") else "kmeans",
    )
    # Copies: what happens to one must not happen to the other.
    model.weights_, model.means_ = parameters.weights.copy(), parameters.means.copy()
    model.covariances_, model.precisions_cholesky_ = (
        parameters.covariances.copy(),
        parameters.precisions_cholesky.copy(),
    )
    model.precisions_ = parameters.precisions
    model.converged_, model.n_iter_ = description.converged, description.n_iter
    model.lower_bound_, model.lower_bounds_ = description.lower_bound, list(bounds)
    model.n_features_in_ = parameters.n_features
    names = description.schema.feature_names
    # Others it does not keep either.
    if names is not None and all(isinstance(name, str) for name in names):
        model.feature_names_in_ = np.array(names, dtype=object)
    return model


def from_scikit_learn(model: Any) -> tuple[MixtureParameters, dict[str, Any], tuple[str, ...] | None]:
    """Return the parameters of a fitted mixture of scikit-learn, those of its estimator, and the names of its features.

    Raises
    ------
    InputError
        If it is something else, or not fitted.
    """
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    if isinstance(model, BayesianGaussianMixture):
        raise InputError(
            "a BayesianGaussianMixture predicts from a distribution of parameters, and not from the parameters that it "
            "shows: from_parameters(model.weights_, model.means_, model.covariances_, ...) makes a mixture of these"
        )
    if not isinstance(model, GaussianMixture):
        raise InputError(f"expected a fitted sklearn.mixture.GaussianMixture, got a {type(model).__name__}")
    if not all(hasattr(model, name) for name in _ARRAYS):
        raise InputError("the GaussianMixture of scikit-learn is not fitted: call its fit first")
    arrays = (np.array(getattr(model, name), dtype=np.float64) for name in _ARRAYS)
    parameters = MixtureParameters(model.covariance_type, *arrays)
    check_consistent(parameters)
    names = getattr(model, "feature_names_in_", None)
    given = {name: getattr(model, name) for name in (*_SHARED, "reg_covar", "init_params")}
    given["n_components"] = parameters.n_components
    return parameters, given, None if names is None else tuple(names)
