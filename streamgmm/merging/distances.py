"""Distances between clusters of components, and what becomes of them when two clusters are merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.special import xlogy

from streamgmm.gaussian.divergences import bhattacharyya, runnalls, symmetric_kl, wasserstein
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats

#: Closed forms: of the parameters alone.
OF_PARAMETERS: dict[str, Callable[[MixtureParameters, MixtureParameters], Floats]] = {
    "bhattacharyya": bhattacharyya,
    "symmetric_kl": symmetric_kl,
    "runnalls": runnalls,
    "wasserstein": wasserstein,
}
#: Sums over responsibilities of rows.
OF_RESPONSIBILITIES = ("demp", "entropy")
#: All that can be chosen.
DISTANCES = (*OF_RESPONSIBILITIES, *OF_PARAMETERS)


class Clusters(Protocol):
    """Clusters that know how far they are from each other."""

    def distances(self) -> Floats:
        """Return all distances, shape (C, C), of which the diagonal does not count."""

    def merge(self, one: int, other: int) -> Floats:
        """Put a cluster into another, `one` < `other`; return the distances of the merged one to all that are left."""


class GaussianClusters:
    """Clusters of which each is the one Gaussian that has the moments of its components.

    Parameters
    ----------
    parameters : MixtureParameters
        The components.
    distance : str
        One of `OF_PARAMETERS`.
    """

    def __init__(self, parameters: MixtureParameters, distance: str) -> None:
        self._distance = OF_PARAMETERS[distance]
        self._clusters = parameters

    def distances(self) -> Floats:
        """Return all distances."""
        return self._distance(self._clusters, self._clusters)

    def merge(self, one: int, other: int) -> Floats:
        """Put a cluster into another."""
        if self._clusters.covariance_type != "full":
            # Neither family nor a shared covariance outlives a merge.
            self._clusters = MixtureParameters.from_covariances(
                "full", self._clusters.weights, self._clusters.means, np.array(self._clusters.full_covariances())
            )
        pair = self._clusters.select(np.array([one, other]))
        weight = float(pair.weights.sum())
        shares = pair.weights / weight
        mean = shares @ pair.means
        offsets = pair.means - mean
        spread = pair.covariances + offsets[:, :, np.newaxis] * offsets[:, np.newaxis]
        covariance = np.einsum("k,kij->ij", shares, spread)
        left = self._clusters
        weights, means, covariances = left.weights.copy(), left.means.copy(), left.covariances.copy()
        weights[one], means[one], covariances[one] = weight, mean, covariance
        weights, means, covariances = (np.delete(array, other, axis=0) for array in (weights, means, covariances))
        self._clusters = MixtureParameters.from_covariances("full", weights, means, covariances)
        merged = self._clusters.select(np.array([one]))
        distances: Floats = self._distance(merged, self._clusters)[0]
        return distances


class ResponsibilityClusters:
    """Clusters of which each has the sum of its components' responsibilities for some rows.

    Parameters
    ----------
    resp : ndarray of shape (n, K)
    sample_weight : ndarray of shape (n,)
        Of the rows; they sum to 1.
    distance : {"demp", "entropy"}
    """

    def __init__(self, resp: Floats, sample_weight: Floats, distance: str) -> None:
        # A row of it is a cluster's: what is summed up lies together.
        self._resp = np.ascontiguousarray(resp.T)
        self._weight = sample_weight
        self._between = self._mistaken if distance == "demp" else self._unsure

    def distances(self) -> Floats:
        """Return all distances."""
        return np.stack([self._between(cluster) for cluster in range(len(self._resp))])

    def merge(self, one: int, other: int) -> Floats:
        """Put a cluster into another."""
        self._resp[one] += self._resp[other]
        self._resp = np.delete(self._resp, other, axis=0)
        return self._between(one)

    def _mistaken(self, cluster: int) -> Floats:
        """Return 1 less the larger probability that a row of one of two clusters rather goes to the other.

        Of Hennig's "directly estimated misclassification probabilities" the larger. A row goes to the cluster of the
        larger responsibility of the two.
        """
        its, weight = self._resp[cluster], self._weight
        sizes = self._resp @ weight
        from_others = np.where(its >= self._resp, self._resp, 0.0) @ weight
        to_others = np.where(self._resp >= its, its, 0.0) @ weight
        # A cluster without rows is mistaken for none.
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = np.fmax(from_others / sizes, to_others / sizes[cluster])
        distances: Floats = np.maximum(1.0 - np.nan_to_num(shares), 0.0)
        return distances

    def _unsure(self, cluster: int) -> Floats:
        """Return log 2 less the entropy, nats per row, that is gone once a cluster and another are one.

        It is log 2 where no row is between the two, and nearly 0 where each row is half of one and half of the other.
        """
        its, both = self._resp[cluster], self._resp[cluster] + self._resp
        gone: Floats = (xlogy(both, both) - xlogy(its, its) - xlogy(self._resp, self._resp)) @ self._weight
        distances: Floats = np.maximum(np.log(2.0) - gone, 0.0)
        return distances


def entropy_of_clusters(resp: Floats, sample_weight: Floats) -> float:
    """Return the entropy of the cluster of a row given the row, mean over the rows, nats."""
    return float(-(xlogy(resp, resp).sum(axis=1) @ sample_weight))
