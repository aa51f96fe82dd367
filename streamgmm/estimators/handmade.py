"""Mixtures by their parameters: made by hand, compared, put in another order, shown as a table."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from streamgmm.em.convergence import StopReason
from streamgmm.estimators.uncertainty import UncertainMixture
from streamgmm.exceptions import InputError, SingularCovarianceError
from streamgmm.fitting.summary import TrainingSummary
from streamgmm.gaussian.conditional import marginalize
from streamgmm.gaussian.consistency import check_consistent
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.draw import draw_lazily
from streamgmm.predict.information import reorder_information
from streamgmm.sources.schema import FeatureSchema
from streamgmm.typing import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

#: How far from symmetric a covariance may be, next to its standard deviations; it is made symmetric.
_ASYMMETRY = 1e-8
#: How far from 1 weights may sum; they are divided by their sum.
_SUM_TOLERANCE = 1e-6


class HandmadeMixture(UncertainMixture):
    """What a mixture's parameters are enough for."""

    converged_: bool
    n_iter_: int
    lower_bound_: float
    lower_bounds_: Floats
    stop_reason_: StopReason
    n_missing_: int
    name_: str | None
    metadata_: dict[str, Any]
    training_summary_: TrainingSummary | None

    @classmethod
    def from_parameters(
        cls,
        weights: npt.ArrayLike,
        means: npt.ArrayLike,
        covariances: npt.ArrayLike,
        *,
        covariance_type: str = "full",
        feature_names: Sequence[Hashable] | None = None,
        feature_dim: Hashable | None = None,
        **parameters: Any,
    ) -> Self:
        """Make a mixture of parameters that are known; it predicts, answers and is saved as one that was fitted.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
            Mixing proportions, more than 0; they sum to 1.
        means : array-like of shape (n_components, n_features)
            In the data's units.
        covariances : array-like
            Of shape (n_components, n_features, n_features) if "full", (n_features, n_features) if "tied",
            (n_components, n_features) if "diag", (n_components,) if "spherical".
        covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
            The family.
        feature_names : sequence of hashable, default=None
            By which tables give the features.
        feature_dim : hashable, default=None
            The dimension along which a DataArray of xarray has them.
        **parameters
            Other parameters of the estimator: `missing`, `random_state`, ...

        Returns
        -------
        GaussianMixture
            Its `stop_reason_` is ``StopReason.GIVEN``.

        Raises
        ------
        InputError
            If the arrays are not the parameters of a mixture; the message names the array, and what is wrong with it.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], covariance_type="spherical")
        >>> model.predict([[1.0], [3.0]])
        array([0, 1])
        """
        if covariance_type not in FAMILIES:
            raise InputError(
                f"covariance_type must be one of {', '.join(map(repr, FAMILIES))}; got {covariance_type!r}"
            )
        given = {"weights": weights, "means": means, "covariances": covariances}
        arrays = {name: _as_floats(name, value) for name, value in given.items()}
        value = _checked(covariance_type, **arrays)
        names = None if feature_names is None else tuple(feature_names)
        if names is not None and (len(names) != value.n_features or len(set(names)) < len(names)):
            raise InputError(
                f"feature_names has {len(names)} names, {len(set(names))} of them different; means have "
                f"{value.n_features} features, and each needs a name of its own"
            )
        return cls._made(value, FeatureSchema(names, dimension=feature_dim), parameters)

    def reorder(self, order: Any = "weight") -> Self:
        """Return the same mixture with its components in another order.

        Parameters
        ----------
        order : "weight", array-like of int, or GaussianMixture, default="weight"
            The largest first; or which component comes first, second, ...; or another mixture with as many components,
            whose order is taken over: of all ways to pair the components, that with the smallest sum of Hellinger
            distances.

        Returns
        -------
        GaussianMixture
            A new one.
        """
        parameters = self._parameters()
        n_components = parameters.n_components
        if isinstance(order, HandmadeMixture):
            places = _places_like(parameters, self._other(order))
        elif isinstance(order, str):
            if order != "weight":
                raise InputError(f"order must be 'weight', component numbers or a mixture, got {order!r}")
            places = np.argsort(-parameters.weights, kind="stable")
        else:
            places = np.asarray(order)
            if places.dtype.kind not in "iu" or not np.array_equal(np.sort(places), np.arange(n_components)):
                raise InputError(f"order must name each of the components 0 to {n_components - 1} once, got {order!r}")
        value, reordered = parameters.select(places), copy.copy(self)
        reordered.metadata_ = dict(getattr(self, "metadata_", {}))
        reordered._take_parameters(value)
        if hasattr(self, "clusters_"):
            reordered.clusters_ = self.clusters_[places]
        if (information := getattr(self, "information_", None)) is not None:
            reordered.information_ = reorder_information(information, parameters, places)
        # What names components by their numbers.
        for name in ("fit_report_", "merge_tree_"):
            if hasattr(reordered, name):
                delattr(reordered, name)
        return reordered

    def components(self) -> pd.DataFrame:
        """Return the components as a table, the largest first.

        Returns
        -------
        pandas.DataFrame
            Indexed by the component's number; columns are ``("weight", "")``, and ``("mean", name)`` and
            ``("standard deviation", name)`` for each feature; the first is ``("cluster", "")`` where components were
            merged.
        """
        import pandas as pd

        parameters = self._parameters()
        names = list(self._names())
        columns = pd.MultiIndex.from_tuples(
            [("weight", ""), *(("mean", name) for name in names), *(("standard deviation", name) for name in names)]
        )
        table = np.hstack([parameters.weights[:, np.newaxis], parameters.means, np.sqrt(parameters.variances())])
        order = np.argsort(-parameters.weights, kind="stable")
        found = pd.DataFrame(table[order], index=pd.Index(order, name="component"), columns=columns)
        if hasattr(self, "clusters_"):
            found.insert(0, ("cluster", ""), self.clusters_[order])
        return found

    def sample(self, n_samples: Any = 1, *, chunks: int | str | None = None) -> tuple[Any, Any]:
        """Draw rows from the mixture.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        chunks : int or str, default=None
            Rows in a chunk, or "auto", as Dask takes it: the sample is a lazy Dask array of any length, whose numbers
            don't depend on the chunks.

        Returns
        -------
        X : ndarray or dask.array.Array of shape (n_samples, n_features), float64
            Grouped by component; in random order where it is lazy.
        y : ndarray or dask.array.Array of shape (n_samples,), int64
            The component of each.
        """
        parameters = self._parameters()
        if not isinstance(n_samples, numbers.Integral) or n_samples < 1:
            raise InputError(
                f"Invalid value for 'n_samples': {n_samples!r}. The sampling requires at least one sample."
            )
        rng = check_random_state(self.random_state)
        if chunks is not None:
            return draw_lazily(parameters, int(n_samples), int(rng.randint(2**31 - 1)), chunks)
        counts = rng.multinomial(n_samples, parameters.weights / parameters.weights.sum())
        lower = np.linalg.cholesky(parameters.full_covariances())
        x = np.concatenate(
            [
                mean + rng.standard_normal((count, parameters.n_features)) @ factor.T
                for mean, factor, count in zip(parameters.means, lower, counts, strict=True)
            ]
        )
        return x, np.repeat(np.arange(parameters.n_components), counts)

    def __eq__(self, other: object) -> bool:
        """Whether another is the same mixture: of the same family, features and clusters, with the same parameters."""
        if not isinstance(other, HandmadeMixture):
            return NotImplemented
        if self is other or not (hasattr(self, "means_") and hasattr(other, "means_")):
            return self is other
        mine, its = self._parameters(), other._parameters()
        return (
            self._fitted_schema().feature_names == other._fitted_schema().feature_names
            and mine.equals(its)
            and np.array_equal(getattr(self, "clusters_", ()), getattr(other, "clusters_", ()))
        )

    def __hash__(self) -> int:
        # Equal ones must have one hash, and parameters change with a fit.
        return hash(type(self))

    # What other modules of the package ask

    @classmethod
    def _made(cls, value: MixtureParameters, schema: FeatureSchema, parameters: dict[str, Any]) -> Self:
        """Make a mixture of checked parameters."""
        model = cls(**{"n_components": value.n_components, "covariance_type": value.covariance_type, **parameters})
        model._take_parameters(value)
        model.converged_, model.n_iter_, model.n_missing_ = False, 0, 0
        model.lower_bound_, model.lower_bounds_ = float("-inf"), np.empty(0)
        model.stop_reason_ = StopReason.GIVEN
        model.name_, model.metadata_, model.training_summary_, model.calibration_ = None, {}, None, None
        model.information_ = None
        model.n_features_in_ = value.n_features
        model._fitted_as = (value.covariance_type, value.n_components)
        model._take_schema(schema)
        return model

    def _of(
        self, value: MixtureParameters, *, features: Integers | None = None, components: Integers | None = None
    ) -> Self:
        """Make a mixture of other parameters, of some of the features and components, that is used as this one is."""
        kept = {name: getattr(self, name) for name in ("missing", "memory_limit", "random_state")}
        schema = self._fitted_schema()
        if features is not None:
            # Features that were the elements of lists have no names to be found by.
            schema = FeatureSchema() if schema.embedding else schema.select(features.tolist())
        made = self._made(value, schema, kept)
        if hasattr(self, "clusters_"):
            clusters = self.clusters_ if components is None else self.clusters_[components]
            made.clusters_ = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
        return made

    def _other(self, other: HandmadeMixture) -> MixtureParameters:
        """Return the parameters of another mixture, with the features in the order of this one's."""
        if not isinstance(other, HandmadeMixture):
            raise InputError(f"the other must be a fitted GaussianMixture, got a {type(other).__name__}")
        parameters = other._parameters()
        if parameters.n_features != self.n_features_in_:
            raise InputError(
                f"this mixture has {self.n_features_in_} features and the other {parameters.n_features}: take the "
                "marginals of the same features first"
            )
        mine, its = self._fitted_schema().feature_names, other._fitted_schema().feature_names
        if mine is None or its is None or mine == its:
            return parameters
        if set(mine) != set(its):
            others = sorted(map(str, set(its) - set(mine)))
            raise InputError(f"the other mixture has other features: {', '.join(others[:10])}")
        return marginalize(parameters, np.array([its.index(name) for name in mine]))


def _as_floats(name: str, value: npt.ArrayLike) -> Floats:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from error
    return array


def _checked(covariance_type: str, weights: Floats, means: Floats, covariances: Floats) -> MixtureParameters:
    """Factor the covariances, and refuse what is not a mixture."""
    if means.ndim != 2 or 0 in means.shape:
        raise InputError(f"means have shape {means.shape}; expected (components, features)")
    wanted = FAMILIES[covariance_type].shape(*means.shape)
    for name, array, shape in (("weights", weights, (len(means),)), ("covariances", covariances, wanted)):
        if array.shape != shape:
            raise InputError(
                f"{name} have shape {array.shape}; expected {shape} for means of shape {means.shape} and "
                f"covariance_type={covariance_type!r}"
            )
    for name, array in (("weights", weights), ("means", means), ("covariances", covariances)):
        if not np.isfinite(array).all():
            raise InputError(f"{name} have {np.count_nonzero(~np.isfinite(array))} value(s) that are not finite")
    if not (weights > 0.0).all():
        raise InputError(f"weights are as low as {weights.min():.6g}: leave out components that have no share")
    if abs(weights.sum() - 1.0) > _SUM_TOLERANCE:
        raise InputError(f"weights sum to {weights.sum():.9g}; expected 1")
    if covariance_type in ("full", "tied"):
        scale = np.sqrt(np.abs(np.diagonal(covariances, axis1=-2, axis2=-1)))
        unit = scale[..., np.newaxis] * scale[..., np.newaxis, :]
        transposed = np.swapaxes(covariances, -1, -2)
        if not (np.abs(covariances - transposed) <= _ASYMMETRY * unit).all():
            raise InputError("covariances are not symmetric")
        covariances = 0.5 * (covariances + transposed)
    try:
        value = MixtureParameters.from_covariances(covariance_type, weights / weights.sum(), means, covariances)
    except SingularCovarianceError as error:
        which = "the covariance" if FAMILIES[covariance_type].shared else "a covariance"
        raise InputError(f"{which} is not positive definite: {str(error).partition(':')[0]}") from error
    check_consistent(value)
    return value


def _places_like(parameters: MixtureParameters, other: MixtureParameters) -> npt.NDArray[np.int64]:
    """Return which of a mixture's components stands for each of another's."""
    from scipy.optimize import linear_sum_assignment

    from streamgmm.gaussian.divergences import bhattacharyya

    if parameters.means.shape != other.means.shape:
        raise InputError(
            f"order is a mixture of {other.n_components} components and {other.n_features} features; this one has "
            f"{parameters.n_components} and {parameters.n_features}"
        )
    affinity = np.exp(-bhattacharyya(other, parameters))
    return np.asarray(linear_sum_assignment(np.sqrt(np.maximum(1.0 - affinity, 0.0)))[1])
