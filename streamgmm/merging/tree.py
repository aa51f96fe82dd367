"""The tree of merged components: as a linkage matrix, cut into clusters, with the number that the entropies propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.typing import Floats, Integers


@dataclass(frozen=True)
class Merge:
    """Two clusters become one.

    Attributes
    ----------
    one, other : int
        The components of the lowest number in each; the merged cluster is called by the lower of the two.
    distance : float
    """

    one: int
    other: int
    distance: float


@dataclass(frozen=True, eq=False)
class MergeTree:
    """How components were merged, from each for itself to all in one.

    Attributes
    ----------
    distance, linkage : str
        How near two clusters are: what was measured, and how for clusters of several components.
    merges : tuple of Merge
        In their order; their distances may fall again.
    entropies : ndarray of shape (n_components,), float64, or None
        The entropy of the cluster of a row given the row, mean over the rows, nats: with one cluster (0), with two and
        so on, up to each component for itself.
    """

    distance: str
    linkage: str
    merges: tuple[Merge, ...]
    entropies: Floats | None

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.merges) + 1

    @property
    def heights(self) -> Floats:
        """The distances of the merges, shape (n_components - 1,), each at least that of the merge before it."""
        return np.maximum.accumulate(np.array([merge.distance for merge in self.merges]))

    @property
    def matrix(self) -> Floats:
        """The linkage matrix, shape (n_components - 1, 4), as functions of `scipy.cluster.hierarchy` take it.

        Its third column has `heights`.
        """
        nodes = {component: (component, 1) for component in range(self.n_components)}
        rows = np.empty((len(self.merges), 4))
        for step, (merge, height) in enumerate(zip(self.merges, self.heights, strict=True)):
            (one, n_one), (other, n_other) = nodes.pop(merge.one), nodes.pop(merge.other)
            rows[step] = min(one, other), max(one, other), height, n_one + n_other
            nodes[min(merge.one, merge.other)] = (self.n_components + step, n_one + n_other)
        return rows

    @property
    def n_clusters(self) -> int:
        """The number of clusters that the entropies propose.

        Where the line of the entropies over the number of clusters bends: two straight pieces that share a point are
        fitted to it, with the smallest sum of squares (as `clustCombiOptim` of R's mclust does by default). The bend is
        at neither end: of three components it is two clusters, whatever their entropies, so look at these.

        Raises
        ------
        InputError
            If there are no entropies: the tree was made without rows.
        """
        if self.entropies is None:
            raise InputError("the number of clusters comes from entropies, and this tree was made without rows")
        return propose_n_clusters(self.entropies)

    def cut(self, n_clusters: int | None = None, threshold: float | None = None) -> Integers:
        """Return the cluster of each component.

        Parameters
        ----------
        n_clusters : int, default=None
            How many; the proposed number where neither this nor `threshold` is given.
        threshold : float, default=None
            Merge up to this height.

        Returns
        -------
        ndarray of shape (n_components,), int64
            Clusters are numbered in the order of their first components.
        """
        if n_clusters is not None and threshold is not None:
            raise InputError("give n_clusters or threshold, not both")
        if threshold is not None:
            n_clusters = self.n_components - int((self.heights <= threshold).sum())
        elif n_clusters is None:
            n_clusters = self.n_clusters
        if not isinstance(n_clusters, (int, np.integer)) or not 1 <= n_clusters <= self.n_components:
            raise InputError(
                f"n_clusters must be an integer from 1 to the {self.n_components} components, got {n_clusters!r}"
            )
        first = np.arange(self.n_components)
        for merge in self.merges[: self.n_components - n_clusters]:
            first[first == max(merge.one, merge.other)] = min(merge.one, merge.other)
        return np.unique(first, return_inverse=True)[1].astype(np.int64)


def propose_n_clusters(entropies: Sequence[float] | Floats) -> int:
    """Return where two straight pieces that share a point fit best to the entropies with 1, 2, ... clusters."""
    y = np.asarray(entropies, dtype=np.float64)
    if len(y) < 3:
        return len(y)
    x = np.arange(1.0, len(y) + 1.0)
    ends = range(2, len(y))
    squares = [_squares_about_line(x[:end], y[:end]) + _squares_about_line(x[end - 1 :], y[end - 1 :]) for end in ends]
    return ends[int(np.argmin(squares))]


def _squares_about_line(x: Floats, y: Floats) -> float:
    offsets = y - np.polynomial.Polynomial.fit(x, y, 1)(x)
    return float(offsets @ offsets)
