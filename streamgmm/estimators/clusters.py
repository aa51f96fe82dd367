"""Clusters of a mixture's components: how components merge, and a mixture that predicts clusters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

from streamgmm.estimators.inference import InferentialMixture
from streamgmm.estimators.validation import check_count
from streamgmm.exceptions import InputError
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.sampling import draw_rows
from streamgmm.merging.agglomerate import merge_components
from streamgmm.merging.tree import MergeTree
from streamgmm.typing import Floats


class ClusterableMixture(InferentialMixture):
    """A mixture whose components can be merged into clusters."""

    merge_tree_: MergeTree

    def merge_tree(
        self,
        X: Any = None,
        sample_weight: Any = None,
        *,
        distance: str = "entropy",
        linkage: str = "exact",
        n_samples: int = 20_000,
        random_state: Any = None,
        columns: Sequence[str] | None = None,
    ) -> MergeTree:
        """Merge components step by step, the nearest two first, until all are one cluster.

        Parameters
        ----------
        X : array-like, table, Dask collection, zarr.Array, str or path of shape (n_samples, n_features), default=None
            Rows. Distances that are sums over rows, and the entropies that propose the number of clusters, come from
            the responsibilities of a sample of these, which one reading draws; of rows that the mixture draws itself
            where not given.
        sample_weight : array-like of shape (n_samples,), or str, default=None
            How many rows each row stands for, or the column of a table that says so.
        distance : {"entropy", "demp", "bhattacharyya", "symmetric_kl", "runnalls", "wasserstein"}, default="entropy"
            "entropy": log 2 less the entropy of the labels, nats per row, that merging does away with. "demp": 1 less
            the probability that a row of one cluster is taken for one of the other, in the worse direction.
            "bhattacharyya", "symmetric_kl" (nats), "wasserstein" (2-Wasserstein, in the data's units): between two
            Gaussians. "runnalls": a bound on what replacing the two by one Gaussian costs, nats per row.
        linkage : {"exact", "single", "complete", "average"}, default="exact"
            "exact": a merged cluster is measured as what it is: by the sum of its responsibilities, or as the Gaussian
            that has the moments of its components. The others take the smallest, largest or mean distance between
            components.
        n_samples : int, default=20_000
            Rows of the sample, at most.
        random_state : int, RandomState instance or None, default=None
            Of the sample; that of the estimator if None.
        columns : sequence of str, default=None
            The features of a table, as `predict` takes them.

        Returns
        -------
        MergeTree
            Its `matrix` is what `scipy.cluster.hierarchy.dendrogram` draws, its `n_clusters` the number proposed.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters(
        ...     [0.4, 0.4, 0.2], [[0.0], [1.0], [9.0]], [1.0, 1.0, 1.0], covariance_type="spherical"
        ... )
        >>> model.merge_tree(distance="bhattacharyya").matrix.round(2)
        array([[0.  , 1.  , 0.12, 2.  ],
               [2.  , 3.  , 8.03, 3.  ]])
        """
        parameters, seed = self._parameters(), self._seed(random_state)
        n_samples, weight = check_count(n_samples, "n_samples", 2), None
        if X is not None:
            sample, _ = self._sample(X, sample_weight, columns=columns, n_samples=n_samples, seed=seed)
            x, weight = sample.x, sample.weight
        elif sample_weight is None:
            x = draw_rows(parameters, 0, n_samples, seed)[0]
        else:
            raise InputError("sample_weight was given without rows")
        resp: Floats = evaluate(x, parameters, resp=True).resp
        return merge_components(parameters, resp, weight, distance=distance, linkage=linkage)

    def merge(
        self,
        n_clusters: int | None = None,
        threshold: float | None = None,
        *,
        tree: MergeTree | None = None,
        X: Any = None,
        sample_weight: Any = None,
        distance: str = "entropy",
        linkage: str = "exact",
        n_samples: int = 20_000,
        random_state: Any = None,
        columns: Sequence[str] | None = None,
    ) -> Self:
        """Return the same mixture with its components merged into clusters.

        Its density stays what it is; `predict` returns clusters, and `predict_proba` their probabilities, the sums of
        those of their components. `clusters_` says which cluster each component is in.

        Parameters
        ----------
        n_clusters : int, default=None
            How many; as many as the entropies propose where neither this nor `threshold` is given.
        threshold : float, default=None
            Merge up to this height of the tree.
        tree : MergeTree, default=None
            One that `merge_tree` made of this mixture; where not given one is made, as the other arguments say.
        X, sample_weight, distance, linkage, n_samples, random_state, columns : as those of `merge_tree`
            What the tree comes from.

        Returns
        -------
        GaussianMixture
            A new one; `fit` makes it an ordinary one again.

        Examples
        --------
        >>> from streamgmm import GaussianMixture
        >>> model = GaussianMixture.from_parameters(
        ...     [0.4, 0.4, 0.2], [[0.0], [1.0], [9.0]], [1.0, 1.0, 1.0], covariance_type="spherical"
        ... )
        >>> model.merge(2).predict([[0.0], [1.0], [9.0]])
        array([0, 0, 1])
        """
        if tree is None:
            tree = self.merge_tree(
                X,
                sample_weight,
                distance=distance,
                linkage=linkage,
                n_samples=n_samples,
                random_state=random_state,
                columns=columns,
            )
        elif tree.n_components != self._parameters().n_components:
            raise InputError(
                f"tree is of {tree.n_components} components, and the mixture has {self._parameters().n_components}"
            )
        merged = copy.copy(self)
        merged.metadata_ = dict(getattr(self, "metadata_", {}))
        merged.clusters_ = tree.cut(n_clusters, threshold)
        merged.merge_tree_ = tree
        return merged
