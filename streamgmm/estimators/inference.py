"""Questions to a fitted mixture: parts of it, some features given others, missing entries, outliers, distances."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from streamgmm.estimators.handmade import HandmadeMixture
from streamgmm.estimators.validation import check_count, check_probabilities
from streamgmm.exceptions import InputError
from streamgmm.gaussian.conditional import marginalize, regress
from streamgmm.gaussian.information import Estimate, estimate_entropy, estimate_js, estimate_kl
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.univariate import quantile
from streamgmm.predict.conditional import Cumulative, Impute, Regress
from streamgmm.predict.evaluate import compute_rows
from streamgmm.sources.grids import find_grid
from streamgmm.typing import Floats, Integers

if TYPE_CHECKING:
    import dask.array as da

    Result: TypeAlias = npt.NDArray[Any] | da.Array

#: What `regress` gives.
_WHAT = ("mean", "covariance", "quantiles")


class InferentialMixture(HandmadeMixture):
    """A mixture that can be asked for parts of itself, and for what it says of rows of which a part is known."""

    def marginal(self, features: Hashable | Sequence[Hashable]) -> Self:
        """Return the distribution of some of the features: a mixture of the same family.

        Parameters
        ----------
        features : hashable or sequence of hashable
            Names or places of features, in the order that the new mixture is to have.

        Returns
        -------
        GaussianMixture
            A new one, of these features.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([1.0], [[1.0, 2.0]], [[[1.0, 0.5], [0.5, 4.0]]])
        >>> model.marginal([1]).means_
        array([[2.]])
        """
        places = self._places(features)
        return self._of(marginalize(self._parameters(), places), features=places)

    def condition(self, values: Mapping[Hashable, float]) -> Self:
        """Return the distribution of the other features where some have given values.

        Parameters
        ----------
        values : mapping of hashable to float
            The value of each given feature, by its name or place.

        Returns
        -------
        GaussianMixture
            A mixture of the features that are not given, in their order. Components whose probability is zero there
            are left out; clusters that lose all of theirs are too, and those after them move up.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> model.condition({0: 2.0}).means_
        array([[1.]])
        """
        # A Series of pandas has items too.
        if not hasattr(values, "items") or not len(values):
            raise InputError(f"condition takes the values of some features, {{name: value}}; got {values!r}")
        values = dict(values.items())
        given = self._places(list(values))
        numbers = np.array([float(value) for value in values.values()])
        if not np.isfinite(numbers).all():
            name = list(values)[int(np.flatnonzero(~np.isfinite(numbers))[0])]
            raise InputError(f"the value of {name!r} is {values[name]!r}; give a finite number, or leave it out")
        targets = np.setdiff1d(np.arange(self.n_features_in_), given)
        if not len(targets):
            raise InputError("all features have values: nothing is left to be distributed")
        found, components = regress(self._parameters(), targets, given).at(numbers)
        return self._of(found, features=targets, components=components)

    def regress(
        self,
        X: Any,
        targets: Hashable | Sequence[Hashable],
        *,
        given: Hashable | Sequence[Hashable] | None = None,
        what: str = "mean",
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        columns: Sequence[str] | None = None,
    ) -> Result:
        """Predict some features from the others: what the mixture says of them, given those.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path
            Rows of the given features, in their order; or of all features, of which the others are ignored. A table
            gives them by their names.
        targets : hashable or sequence of hashable
            Names or places of the features to predict.
        given : hashable or sequence of hashable, default=None
            Names or places of the features to predict from; all that are no targets if None. Those that are neither
            are integrated out.
        what : {"mean", "covariance", "quantiles"}, default="mean"
            The conditional mean (the prediction of least squared error), the covariance about it, or each target's
            quantiles.
        quantiles : sequence of float, default=(0.05, 0.5, 0.95)
            Probabilities, between 0 and 1.
        columns : sequence of str, default=None
            The given features of a table, where it has other names for them.

        Returns
        -------
        ndarray or dask.array.Array, float64
            Of shape (n_samples, n_targets), (n_samples, n_targets, n_targets) or (n_samples, n_targets, n_quantiles).
            In memory or lazy as what `predict` gives. With ``missing="drop"``, NaN where a given value is missing.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> model.regress([[2.0], [-2.0]], targets=[1])
        array([[ 1.],
               [-1.]])
        """
        if what not in _WHAT:
            raise InputError(f"what must be one of {', '.join(map(repr, _WHAT))}; got {what!r}")
        probabilities = check_probabilities(quantiles, "quantiles")
        parameters, places = self._parameters(), self._places(targets)
        given_places = np.setdiff1d(np.arange(self.n_features_in_), places)
        if given is not None:
            given_places = self._places(given)
        if not len(given_places) or len(np.intersect1d(given_places, places)):
            raise InputError("all features are targets, or some are given: leave at least one to predict them from")
        grid = find_grid(X, columns=columns, fitted=self._fitted_schema().select(given_places.tolist()))
        source = X if grid is None else grid
        rows = self._rows(source, sample_weight=None, columns=columns, reset=False, features=given_places.tolist())
        function = Regress(what, probabilities, given_places, self.missing, rows.provenance)
        regression = regress(parameters, places, given_places)
        found = compute_rows(rows, function, regression, n_columns=function.n_columns(len(places)), dtype=np.float64)
        if what != "mean":
            found = _as_matrices(found, (len(places), len(places) if what == "covariance" else len(probabilities)))
        if grid is None:
            return found
        names = [self._names()[at] for at in places]
        more = {"mean": (), "covariance": (("other_target", names),), "quantiles": (("quantile", probabilities),)}[what]
        return grid.put(found, what, ("target", names), *more)

    def impute(
        self, X: Any, *, how: str = "mean", random_state: Any = None, columns: Sequence[str] | None = None
    ) -> Result:
        """Fill in missing values from those that a row has.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features)
            Rows; NaN, infinities and masked entries are missing.
        how : {"mean", "draw"}, default="mean"
            Whether a row's missing values are their mean given the others, or drawn from their distribution: a mean
            is nearest, and draws have the spread and the correlations that the data has.
        random_state : int, RandomState instance or None, default=None
            Of the draws; that of the estimator if None. They depend on a row's place alone, and not on chunks or
            workers (in a Dask collection whose lengths are unknown, on its place in its partition).
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples, n_features), float64
            In memory or lazy as what `predict` gives.

        Examples
        --------
        >>> import numpy as np
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> model.impute([[2.0, np.nan]])
        array([[2., 1.]])
        """
        if how not in ("mean", "draw"):
            raise InputError(f"how must be 'mean' or 'draw', got {how!r}")
        parameters = self._parameters()
        grid, rows = self._open_with_grid(X, columns)
        function = Impute(how == "draw", self._seed(random_state))
        found = compute_rows(rows, function, parameters, n_columns=parameters.n_features, dtype=np.float64)
        if grid is None:
            return found
        return grid.put(found, "imputed", (grid.schema.dimension, grid.schema.columns)).transpose(*grid.dims)

    def cdf(self, X: Any, *, columns: Sequence[str] | None = None) -> Result:
        """Return the probability of a value of at most that of each row, for a mixture of one feature.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, 1)
            The rows; infinities are values too.
        columns : sequence of str, default=None
            The feature of a table, as `predict` takes it.

        Returns
        -------
        ndarray or dask.array.Array of shape (n_samples,), float64
            In memory or lazy as what `predict` gives.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> GaussianMixture.from_parameters([1.0], [[3.0]], [1.0], covariance_type="spherical").cdf([[3.0]])
        array([0.5])
        """
        parameters = self._of_one_feature("cdf")
        grid, rows = self._open_with_grid(X, columns)
        function = Cumulative(self.missing, rows.provenance)
        found = compute_rows(rows, function, parameters, n_columns=None, dtype=float)
        return found if grid is None else grid.put(found, "probability")

    def quantile(self, probabilities: float | Sequence[float]) -> Floats:
        """Return the values below which the mixture has some probabilities, for a mixture of one feature.

        Parameters
        ----------
        probabilities : float or sequence of float
            Between 0 and 1.

        Returns
        -------
        ndarray of the same shape, float64
            In the feature's units.
        """
        parameters = self._of_one_feature("quantile")
        wanted = np.array(check_probabilities(np.ravel(probabilities).tolist(), "probabilities"))
        shape = (len(wanted), parameters.n_components)
        deviations = np.sqrt(parameters.variances()[:, 0])
        found = quantile(
            wanted, *(np.broadcast_to(of, shape) for of in (parameters.weights, parameters.means[:, 0], deviations))
        )
        return found.reshape(np.shape(probabilities))

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Return the interval with a probability of which as much lies below as above, for a mixture of one feature.

        Parameters
        ----------
        probability : float, default=0.95
            Of the interval.

        Returns
        -------
        tuple of (float, float)
            Its ends, in the feature's units.
        """
        (probability,) = check_probabilities([probability], "probability")
        low, high = self.quantile([0.5 - 0.5 * probability, 0.5 + 0.5 * probability])
        return float(low), float(high)

    def entropy(self, *, n_samples: int = 100_000, random_state: Any = None) -> Estimate:
        """Estimate the mixture's entropy from rows that it draws.

        Parameters
        ----------
        n_samples : int, default=100_000
            Rows to draw.
        random_state : int, RandomState instance or None, default=None
            That of the estimator if None.

        Returns
        -------
        Estimate
            ``value`` and ``standard_error``, nats.
        """
        return estimate_entropy(self._parameters(), check_count(n_samples, "n_samples", 2), self._seed(random_state))

    def kl_divergence(self, other: Self, *, n_samples: int = 100_000, random_state: Any = None) -> Estimate:
        """Estimate the Kullback-Leibler divergence of another mixture from this one, which the rows are drawn from.

        Parameters
        ----------
        other : GaussianMixture
            A mixture of the same features.
        n_samples : int, default=100_000
            Rows to draw.
        random_state : int, RandomState instance or None, default=None
            That of the estimator if None.

        Returns
        -------
        Estimate
            ``value`` and ``standard_error``, nats.
        """
        return estimate_kl(
            self._parameters(), self._other(other), check_count(n_samples, "n_samples", 2), self._seed(random_state)
        )

    def js_divergence(self, other: Self, *, n_samples: int = 100_000, random_state: Any = None) -> Estimate:
        """Estimate the Jensen-Shannon divergence between two mixtures: 0 for the same, log 2 where nothing overlaps.

        Parameters
        ----------
        other : GaussianMixture
            A mixture of the same features.
        n_samples : int, default=100_000
            Rows to draw from each.
        random_state : int, RandomState instance or None, default=None
            That of the estimator if None.

        Returns
        -------
        Estimate
            ``value`` and ``standard_error``, nats.
        """
        return estimate_js(
            self._parameters(), self._other(other), check_count(n_samples, "n_samples", 2), self._seed(random_state)
        )

    # Inner workings

    def _places(self, features: Hashable | Sequence[Hashable]) -> Integers:
        """Find features by their names, or by their places where none has such a name."""
        self._parameters()
        if isinstance(features, (set, frozenset)):
            raise InputError(f"a set has no order: give the features as a list, got {features!r}")
        one = isinstance(features, (str, bytes)) or not isinstance(features, Iterable)
        asked: list[Any] = [features] if one else list(cast("Iterable[Any]", features))
        names = self._names()
        if not one and isinstance(features, tuple) and features in names:
            asked = [features]
        where = {name: at for at, name in enumerate(names)}
        places = []
        for name in asked:
            # True is 1, and no feature.
            if isinstance(name, (bool, np.bool_)):
                raise InputError(
                    f"features are names or places, and {name!r} is neither; np.flatnonzero turns a mask into places"
                )
            if name in where:
                places.append(where[name])
            elif isinstance(name, (int, np.integer)) and 0 <= name < len(names):
                places.append(int(name))
            else:
                shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
                raise InputError(f"there is no feature {name!r}; the mixture has {shown}")
        if not places or len(set(places)) < len(places):
            raise InputError(f"name at least one feature, and none twice; got {features!r}")
        return np.array(places, dtype=np.int64)

    def _of_one_feature(self, method: str) -> MixtureParameters:
        parameters = self._parameters()
        if parameters.n_features != 1:
            raise InputError(
                f"{method} is for mixtures of one feature, and this one has {parameters.n_features}: take one of them "
                f"first, model.marginal([name]).{method}(...)"
            )
        return parameters

    def _seed(self, random_state: Any) -> int:
        return int(check_random_state(self.random_state if random_state is None else random_state).randint(2**31 - 1))


def _as_matrices(found: Result, shape: tuple[int, int]) -> Result:
    """Turn a row of numbers for each row into a matrix for each."""
    if isinstance(found, np.ndarray):
        return found.reshape(len(found), *shape)
    return found.map_blocks(
        _reshaped, shape, chunks=(found.chunks[0], (shape[0],), (shape[1],)), new_axis=2, dtype=found.dtype
    )


def _reshaped(block: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    return block.reshape(len(block), *shape)
