"""The starts of EM, from a sample of the rows in whitened coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamgmm.em.degeneracy import find_degenerate, widen_to_resolution
from streamgmm.exceptions import InputError
from streamgmm.gaussian.assignment import statistics_of_responsibilities
from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.m_step import SMALLEST_WEIGHT, Moments, MStep
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.gaussian.whitening import Whitening
from streamgmm.typing import Floats, Integers

#: Rows that are clustered by agglomeration: it takes the square of their number, in time and memory (100 MB).
_WARD_ROWS = 5000


@dataclass(frozen=True)
class GivenStart:
    """Parameters that the user gives, in the data's coordinates; each may be None.

    Attributes
    ----------
    weights : ndarray of shape (K,) or None
    means : ndarray of shape (K, D) or None
    precisions : ndarray or None
        Inverse covariances, in the family's shape.
    """

    weights: Floats | None
    means: Floats | None
    precisions: Floats | None

    @classmethod
    def checked(
        cls, family: CovarianceFamily, n_components: int, n_features: int, weights: Any, means: Any, precisions: Any
    ) -> GivenStart:
        """Check shapes and values.

        Raises
        ------
        InputError
        """
        weights = _checked(weights, "weights_init", (n_components,), "one mixing proportion per component")
        means = _checked(means, "means_init", (n_components, n_features), "one row per component")
        shape = family.shape(n_components, n_features)
        precisions = _checked(
            precisions, "precisions_init", shape, f"the inverse covariances of covariance_type={family.name!r}"
        )
        if weights is not None:
            if (weights < 0.0).any() or abs(weights.sum() - 1.0) > 1e-6:
                raise InputError(
                    f"weights_init must be at least 0 and sum to 1; its smallest is {weights.min():g} and its sum "
                    f"{weights.sum():g}"
                )
            weights = np.maximum(weights / weights.sum(), SMALLEST_WEIGHT)
        if precisions is not None:
            _check_precisions(family, precisions)
        return cls(weights, means, precisions)

    @property
    def empty(self) -> bool:
        """Whether nothing is given."""
        return self.weights is None and self.means is None and self.precisions is None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be found from the rows."""
        return self.weights is not None and self.means is not None and self.precisions is not None


def _checked(value: Any, name: str, shape: tuple[int, ...], meaning: str) -> Floats | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise InputError(f"{name} must have shape {shape}, got {array.shape}: {meaning}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} has NaN or inf")
    return array


def _check_precisions(family: CovarianceFamily, precisions: Floats) -> None:
    if family.name in ("full", "tied"):
        matrices = precisions.reshape((-1, *precisions.shape[-2:]))
        if not np.allclose(matrices, matrices.transpose(0, 2, 1)):
            raise InputError("precisions_init must be symmetric")
        positive = np.linalg.eigvalsh(matrices)[:, 0] > 0.0
    else:
        positive = precisions.reshape(len(precisions), -1).min(axis=1) > 0.0
    if not positive.all():
        raise InputError(
            f"precisions_init must be positive definite; that of component {int(np.argmin(positive))} is not"
        )


def start_from_seed(
    family: CovarianceFamily,
    n_components: int,
    init_params: str,
    given: GivenStart,
    *,
    z: Floats,
    coordinates: Floats,
    sample_weight: Floats,
    whitening: Whitening,
    m_step: MStep,
    seed: int,
) -> MixtureParameters:
    """Make the parameters that EM starts from, in whitened coordinates.

    The sample's rows are assigned to components as `init_params` says, and one M-step follows; what is given replaces
    what that finds. Where means are given, every row goes to the nearest.

    Parameters
    ----------
    family, n_components, init_params, given
        What to start.
    z : ndarray of shape (n, n_features)
        The sample, in whitened coordinates.
    coordinates : ndarray of shape (n, n_features)
        The sample, in the coordinates in which distances are measured. (Not whitened by a matrix: clusters stand
        apart along the directions in which the data varies most, and whitening takes just that away.)
    sample_weight : ndarray of shape (n,)
    whitening : Whitening
    m_step : MStep
    seed : int
    """
    means = None if given.means is None else whitening.whiten(given.means)
    covariances = None
    if given.precisions is not None:
        covariances = family.whiten_covariances(family.covariances_of_precisions(given.precisions), whitening)
    if means is not None and covariances is not None and given.weights is not None:
        return MixtureParameters.from_covariances(family.name, given.weights, means, covariances)
    if len(z) < n_components and means is None:
        raise InputError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {len(z)}"
        )
    if means is not None:
        resp = _one_hot(_nearest(z, means), n_components)
    else:
        resp = _responsibilities(coordinates, sample_weight, n_components, init_params, np.random.RandomState(seed))
    statistics = statistics_of_responsibilities(family, z, resp, sample_weight)
    found = widen_to_resolution(family, m_step.maximize(family, statistics), Kernel.FLOAT64.resolution)
    if covariances is None:
        covariances = _regular(family, found, statistics.component_weights, m_step)
    return MixtureParameters.from_covariances(
        family.name,
        found.weights if given.weights is None else given.weights,
        found.means if means is None else means,
        covariances,
    )


def _regular(family: CovarianceFamily, found: Moments, component_weights: Floats, m_step: MStep) -> Floats:
    """Return a start's covariances; a component with too few rows for one of its own gets the data's."""
    covariances = found.covariances
    bad = find_degenerate(family, found, component_weights, m_step)
    if len(bad) and not family.shared:
        covariances = covariances.copy()
        covariances[bad] = family.identity(found.means.shape[1])
    return covariances


def _responsibilities(
    x: Floats, sample_weight: Floats, n_components: int, init_params: str, rng: np.random.RandomState
) -> Floats:
    if init_params == "random":
        resp = rng.uniform(size=(len(x), n_components))
        normalised: Floats = resp / resp.sum(axis=1, keepdims=True)
        return normalised
    if init_params == "random_from_data":
        chosen = rng.choice(len(x), size=n_components, replace=False, p=sample_weight / sample_weight.sum())
        return _one_hot(_nearest(x, x[chosen]), n_components)
    if init_params == "hierarchical":
        return _one_hot(_nearest(x, _ward_centers(x, n_components, rng)), n_components)
    from sklearn.cluster import KMeans, kmeans_plusplus

    if init_params == "k-means++":
        centers, _ = kmeans_plusplus(x, n_components, sample_weight=sample_weight, random_state=rng)
        return _one_hot(_nearest(x, centers), n_components)
    # Of fewer different rows k-means makes fewer clusters, and warns.
    n_clusters = _at_most_different(x, n_components)
    k_means = KMeans(n_clusters, n_init=1, random_state=rng).fit(x, sample_weight=sample_weight)
    return _one_hot(k_means.labels_, n_components)


def _ward_centers(x: Floats, n_components: int, rng: np.random.RandomState) -> Floats:
    """Return the means of Ward's clusters of rows; where there are too many rows, of some."""
    from scipy.cluster.hierarchy import fcluster, ward

    if len(x) == 1:
        return x
    if len(x) > _WARD_ROWS:
        x = x[rng.choice(len(x), size=max(_WARD_ROWS, n_components), replace=False)]
    labels = fcluster(ward(x), n_components, "maxclust")
    # Of equal rows there may be fewer clusters.
    return np.stack([x[labels == label].mean(axis=0) for label in np.unique(labels)])


def _at_most_different(x: Floats, most: int) -> int:
    """Return how many different rows there are, or `most` where there are more."""
    different: set[bytes] = set()
    for row in x:
        different.add((row + 0.0).tobytes())  # -0.0 is 0.0
        if len(different) == most:
            break
    return len(different)


def _nearest(x: Floats, centers: Floats) -> Integers:
    from sklearn.metrics import pairwise_distances_argmin

    labels: Integers = pairwise_distances_argmin(x, centers)
    return labels


def _one_hot(labels: Integers, n_components: int) -> Floats:
    return np.eye(n_components)[labels]
