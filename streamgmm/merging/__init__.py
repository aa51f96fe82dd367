"""Clusters from components: which components belong together, and how many clusters there are.

Components of a mixture describe a density, and a cluster that is not Gaussian takes several of them. Here they are
merged step by step, the two nearest first, into a tree that SciPy draws. How near two are is a matter of choice: by how
much their densities overlap (`bhattacharyya`, `symmetric_kl`, `runnalls`, `wasserstein`), how often rows of one are
taken for rows of the other (`demp`), or how unsure the labels of rows are because of the two (`entropy`).

Hennig, "Methods for merging Gaussian mixture components", Advances in Data Analysis and Classification 4 (2010),
compares most of them; Baudry, Raftery, Celeux, Lo & Gottardo, "Combining mixture components for clustering", Journal of
Computational and Graphical Statistics 19 (2010), is where the entropy and the number of clusters come from.
"""

from streamgmm.merging.agglomerate import LINKAGES, merge_components
from streamgmm.merging.distances import DISTANCES
from streamgmm.merging.tree import Merge, MergeTree, propose_n_clusters

__all__ = ["DISTANCES", "LINKAGES", "Merge", "MergeTree", "merge_components", "propose_n_clusters"]
