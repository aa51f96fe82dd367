"""Merge the nearest two of all clusters, again and again."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from streamgmm.exceptions import InputError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.merging.distances import (
    DISTANCES,
    OF_RESPONSIBILITIES,
    Clusters,
    GaussianClusters,
    ResponsibilityClusters,
    entropy_of_clusters,
)
from streamgmm.merging.tree import Merge, MergeTree
from streamgmm.typing import Floats

#: How the distance of clusters of several components comes about.
LINKAGES = ("exact", "single", "complete", "average")


def merge_components(
    parameters: MixtureParameters | None,
    resp: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    *,
    distance: str = "entropy",
    linkage: str = "exact",
) -> MergeTree:
    """Merge components, nearest first, until all are one cluster.

    Parameters
    ----------
    parameters : MixtureParameters or None
        The components; not needed where distances come from responsibilities.
    resp : array-like of shape (n, K), default=None
        Responsibilities for rows. Of these come the entropies, and the distances "demp" and "entropy".
    sample_weight : array-like of shape (n,), default=None
        How many rows each row stands for.
    distance : {"entropy", "demp", "bhattacharyya", "symmetric_kl", "runnalls", "wasserstein"}, default="entropy"
        "entropy": log 2 less the entropy of the labels, nats per row, that merging does away with. "demp": 1 less the
        probability that a row of one cluster is taken for one of the other, in the worse direction. "bhattacharyya",
        "symmetric_kl" (nats), "wasserstein" (2-Wasserstein, in the data's units): between two Gaussians. "runnalls": a
        bound on what replacing the two by one Gaussian costs, nats per row.
    linkage : {"exact", "single", "complete", "average"}, default="exact"
        "exact": a merged cluster is measured as what it is: by the sum of its responsibilities, or as the Gaussian that
        has the moments of its components. The others take the smallest, largest or mean distance of components.

    Returns
    -------
    MergeTree
        All merges, in their order.

    Raises
    ------
    InputError
    """
    for name, value, known in (("distance", distance, DISTANCES), ("linkage", linkage, LINKAGES)):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")
    z, weight = (None, None) if resp is None else _checked(resp, sample_weight)
    if z is None and distance in OF_RESPONSIBILITIES:
        raise InputError(f"distance={distance!r} is a sum over rows: give their responsibilities")
    if parameters is None and distance not in OF_RESPONSIBILITIES:
        raise InputError(f"distance={distance!r} is of Gaussians: give their parameters")
    clusters: Clusters
    if z is not None and weight is not None and distance in OF_RESPONSIBILITIES:
        clusters = ResponsibilityClusters(z, weight, distance)
    else:
        assert parameters is not None
        clusters = GaussianClusters(parameters, distance)
    merges = _merge_exactly(clusters) if linkage == "exact" else _merge_by_pairs(clusters.distances(), linkage)
    return MergeTree(distance, linkage, merges, None if z is None or weight is None else _entropies(z, weight, merges))


def _merge_exactly(clusters: Clusters) -> tuple[Merge, ...]:
    """Merge with the distances of what was merged computed anew."""
    distances = clusters.distances()
    np.fill_diagonal(distances, np.inf)
    names = list(range(len(distances)))
    merges = []
    while len(names) > 1:
        one, other = sorted(np.unravel_index(int(np.argmin(distances)), distances.shape))
        merges.append(Merge(names[one], names[other], float(distances[one, other])))
        merged = clusters.merge(int(one), int(other))
        distances = np.delete(np.delete(distances, other, axis=0), other, axis=1)
        del names[other]
        distances[one], distances[:, one] = merged, merged
        distances[one, one] = np.inf
    return tuple(merges)


def _merge_by_pairs(distances: Floats, linkage: str) -> tuple[Merge, ...]:
    """Merge by SciPy's linkage of the distances of components."""
    n_components = len(distances)
    if n_components == 1:
        return ()
    symmetric = 0.5 * (distances + distances.T)
    np.fill_diagonal(symmetric, 0.0)
    names = list(range(n_components))
    merges = []
    for one, other, height, _ in hierarchy.linkage(squareform(symmetric), cast(Any, linkage)):
        pair = names[int(one)], names[int(other)]
        merges.append(Merge(min(pair), max(pair), float(height)))
        names.append(min(pair))
    return tuple(merges)


def _entropies(resp: Floats, sample_weight: Floats, merges: tuple[Merge, ...]) -> Floats:
    """Return the entropies with one cluster, two, ..., all components."""
    z = resp.copy()
    found = [entropy_of_clusters(z, sample_weight)]
    for merge in merges:
        z[:, merge.one] += z[:, merge.other]
        z[:, merge.other] = 0.0
        found.append(entropy_of_clusters(z, sample_weight))
    entropies: Floats = np.maximum(np.array(found[::-1]), 0.0)
    return entropies


def _checked(resp: npt.ArrayLike, sample_weight: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    z = np.asarray(resp, dtype=np.float64)
    if z.ndim != 2 or 0 in z.shape:
        raise InputError(f"resp has shape {z.shape}; expected (rows, components)")
    weight = np.ones(len(z)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (len(z),):
        raise InputError(f"sample_weight has shape {weight.shape}; expected {(len(z),)}")
    if not (z >= 0.0).all() or not np.allclose(z.sum(axis=1), 1.0, atol=1e-6):
        raise InputError("resp must be probabilities: not negative, and each row with a sum of 1")
    if not (weight >= 0.0).all() or not 0.0 < weight.sum() < np.inf:
        raise InputError("sample_weight must be finite, not negative and not all 0")
    return z, weight / weight.sum()
