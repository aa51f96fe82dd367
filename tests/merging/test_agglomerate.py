"""Merging against R's mclust 6.0.0 (clustCombi) and fpc 2.2 (mergenormals), and against SciPy's own trees."""

from pathlib import Path

import numpy as np
import pytest
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from streamgmm.exceptions import InputError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.merging.agglomerate import LINKAGES, merge_components
from streamgmm.merging.distances import DISTANCES, OF_PARAMETERS
from streamgmm.merging.tree import propose_n_clusters
from tests.gaussian.test_conditional import a_mixture
from tests.helpers import FAMILY_NAMES

# What R gives for mixtures of full covariances that Mclust has fitted: three examples of Baudry et al. (2010), the
# geyser and the irises. Responsibilities, parameters; partitions of the components after each merge and entropies.
R = np.load(Path(__file__).parents[1] / "data" / "merging.npz")
SETS = ("ex41", "ex42", "ex44", "faithful", "iris")


def fitted(name):
    parameters = MixtureParameters.from_covariances("full", R[f"{name}_w"], R[f"{name}_means"], R[f"{name}_cov"])
    return parameters, R[f"{name}_z"]


@pytest.mark.parametrize("name", SETS)
def test_order_and_entropies_are_those_of_clustcombi(name):
    tree = merge_components(None, R[f"{name}_z"])
    n_rows, n_components = R[f"{name}_z"].shape
    np.testing.assert_allclose(tree.entropies * n_rows, R[f"{name}_entropies"], atol=1e-6)
    for n_clusters, partition in zip(range(n_components - 1, 0, -1), R[f"{name}_combi"], strict=True):
        assert adjusted_rand_score(tree.cut(n_clusters), partition) == 1.0
    assert tree.n_clusters == R[f"{name}_n_clusters"]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("distance", "method"), [("bhattacharyya", "bhat"), ("demp", "demp")])
def test_order_and_values_are_those_of_mergenormals(name, distance, method):
    parameters, z = fitted(name)
    tree = merge_components(parameters, z, distance=distance)
    assert [merge.other for merge in tree.merges] == R[f"{name}_{method}_defunct"].tolist()
    distances = np.array([merge.distance for merge in tree.merges])
    similarity = np.exp(-distances) if method == "bhat" else 1.0 - distances
    # mergenormals takes moments and proportions from the rows, which is the same where EM has ended.
    np.testing.assert_allclose(similarity, R[f"{name}_{method}_value"], rtol=1e-4, atol=1e-9)


def test_rows_of_some_weight_are_as_many_rows():
    z = R["ex44_z"]
    times = np.random.default_rng(0).integers(0, 4, len(z))
    for distance in ("entropy", "demp"):
        weighted = merge_components(None, z, times, distance=distance)
        repeated = merge_components(None, np.repeat(z, times, axis=0), distance=distance)
        np.testing.assert_allclose(weighted.matrix, repeated.matrix, rtol=1e-10)
        np.testing.assert_allclose(weighted.entropies, repeated.entropies, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("distance", DISTANCES)
def test_every_tree_is_a_linkage_matrix_that_scipy_cuts_the_same_way(distance, linkage):
    parameters, z = fitted("iris")
    tree = merge_components(parameters, z, distance=distance, linkage=linkage)
    assert hierarchy.is_valid_linkage(tree.matrix)
    assert hierarchy.is_monotonic(tree.matrix)
    assert hierarchy.dendrogram(tree.matrix, no_plot=True)["leaves"]
    for n_clusters in range(1, 7):
        height = 0.0 if n_clusters == 6 else tree.heights[5 - n_clusters]
        its = hierarchy.fcluster(tree.matrix, height, "distance")
        assert adjusted_rand_score(tree.cut(threshold=height), its) == 1.0
        assert len(set(tree.cut(n_clusters))) == n_clusters


@pytest.mark.parametrize("linkage", ["single", "complete", "average"])
def test_other_linkages_are_scipys(linkage):
    parameters = a_mixture("full", n_features=2)
    distances = OF_PARAMETERS["bhattacharyya"](parameters, parameters)
    np.fill_diagonal(distances, 0.0)
    expected = hierarchy.linkage(squareform(distances, checks=False), linkage)
    tree = merge_components(parameters, distance="bhattacharyya", linkage=linkage)
    np.testing.assert_allclose(tree.matrix, expected, rtol=1e-12)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_distances_of_a_family_are_those_of_its_full_covariances(covariance_type):
    parameters = a_mixture(covariance_type)
    full = MixtureParameters.from_covariances(
        "full", parameters.weights, parameters.means, np.array(parameters.full_covariances())
    )
    for name, distance in OF_PARAMETERS.items():
        found = distance(parameters, parameters)
        off = ~np.eye(3, dtype=bool)
        np.testing.assert_allclose(found[off], distance(full, full)[off], rtol=1e-9, atol=1e-9, err_msg=name)


def test_the_number_of_clusters_is_where_the_entropies_bend():
    assert propose_n_clusters([0.0]) == 1
    assert propose_n_clusters([0.0, 0.1]) == 2
    assert propose_n_clusters([0.0, 0.01, 0.02, 0.52, 1.02, 1.52]) == 3


def test_what_can_not_be_merged_is_refused():
    z = R["iris_z"]
    for arguments, keywords, said in (
        ((None,), {}, "distance='entropy' is a sum over rows"),
        ((None, z), {"distance": "runnalls"}, "distance='runnalls' is of Gaussians"),
        ((None, z), {"distance": "ward"}, "distance must be one of 'demp', 'entropy'"),
        ((None, z), {"linkage": "ward"}, "linkage must be one of 'exact', 'single'"),
        ((None, z[0]), {}, r"resp has shape \(6,\)"),
        ((None, 2.0 * z), {}, "resp must be probabilities"),
        ((None, z, [1.0]), {}, r"sample_weight has shape \(1,\)"),
        ((None, z, np.zeros(len(z))), {}, "not all 0"),
    ):
        with pytest.raises(InputError, match=said):
            merge_components(*arguments, **keywords)
    tree = merge_components(None, z)
    for keywords, said in (
        ({"n_clusters": 7}, "from 1 to the 6 components, got 7"),
        ({"n_clusters": 2.0}, "got 2.0"),
        ({"n_clusters": 2, "threshold": 1.0}, "not both"),
    ):
        with pytest.raises(InputError, match=said):
            tree.cut(**keywords)
    with pytest.raises(InputError, match="made without rows"):
        _ = merge_components(fitted("iris")[0], distance="wasserstein").n_clusters
