"""Mixtures whose components were merged: what they predict, write, keep in files, and where that ends."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import zarr

import streamgmm
from streamgmm import GaussianMixture, InputError, write_predictions
from tests.estimators.test_handmade import by_hand
from tests.helpers import FAMILY_NAMES


def ring_and_ball(n_rows=6000, seed=0):
    """A ring, which takes many components, and a ball inside: two clusters."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0.0, 2.0 * np.pi, n_rows)
    ring = 10.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(size=(n_rows, 2))
    ball = rng.normal(size=(n_rows // 3, 2))
    return np.concatenate([ring, ball]), np.repeat([0, 1], [n_rows, n_rows // 3])


@pytest.fixture(scope="module")
def fitted():
    return GaussianMixture(9, init_params="kmeans", random_state=0).fit(ring_and_ball()[0])


@pytest.mark.parametrize("distance", ["entropy", "demp"])
def test_a_ring_and_a_ball_are_two_clusters(fitted, distance):
    x, truth = ring_and_ball()
    for rows in (None, x):
        merged = fitted.merge(2, X=rows, distance=distance)
        labels = merged.predict(x)
        agree = (labels == truth).mean()
        assert max(agree, 1.0 - agree) > 0.999
    assert fitted.merge(X=x).clusters_.max() + 1 == fitted.merge_tree(x).n_clusters


def test_the_density_stays_and_probabilities_are_sums(fitted):
    x, _ = ring_and_ball(300, seed=1)
    merged = fitted.merge(3)
    np.testing.assert_array_equal(merged.score_samples(x), fitted.score_samples(x))
    assert merged.bic(x) == fitted.bic(x)
    proba = merged.predict_proba(x)
    assert proba.shape == (len(x), 3)
    whole = fitted.predict_proba(x)
    for cluster in range(3):
        np.testing.assert_allclose(proba[:, cluster], whole[:, merged.clusters_ == cluster].sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(merged.predict(x), proba.argmax(axis=1))
    lazy = merged.predict_proba(da.from_array(x, chunks=(77, 2)))
    assert lazy.shape == proba.shape
    np.testing.assert_allclose(lazy.compute(), proba, rtol=1e-12, atol=1e-300)
    x[3, 0] = np.nan
    dropping = merged.set_params(missing="drop")
    assert dropping.predict(x)[3] == -1
    assert np.isnan(dropping.predict_proba(x)[3]).all()


def test_clusters_are_written_and_kept_in_files(fitted, tmp_path):
    x, _ = ring_and_ball(500, seed=1)
    merged = fitted.merge(3)
    streamgmm.save(merged, tmp_path / "merged.safetensors")
    loaded = streamgmm.load(tmp_path / "merged.safetensors")
    assert loaded == merged != fitted
    np.testing.assert_array_equal(loaded.clusters_, merged.clusters_)
    for write, name, expected in (
        ("label", "label", merged.predict(x)),
        ("responsibilities", "proba", merged.predict_proba(x)),
    ):
        write_predictions(loaded, x, tmp_path / f"{write}.zarr", write=write)
        written = zarr.open_group(tmp_path / f"{write}.zarr")[name]
        assert "cluster" in written.attrs["long_name"]
        found = written[:]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_parts_of_a_merged_mixture_keep_its_clusters():
    model = by_hand(feature_names=["a", "b", "c"]).merge(2, distance="bhattacharyya")
    x = model.sample(50, chunks=50)[0].compute()
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    np.testing.assert_array_equal(model.marginal(["a", "b"]).clusters_, model.clusters_)
    assert model.condition({"a": 0.0}).clusters_.max() == 1
    np.testing.assert_array_equal(model.reorder([2, 0, 1]).predict(frame), model.predict(frame))
    assert model.components()["cluster"].tolist() == model.clusters_[model.components().index].tolist()


def test_a_fit_begins_with_components_again(fitted):
    x, _ = ring_and_ball(500)
    merged = fitted.merge(2)
    again = merged.set_params(n_components=3, max_iter=5, tol=0).fit(x)
    assert not hasattr(again, "clusters_")
    assert again.predict_proba(x).shape == (len(x), 3)
    assert not hasattr(fitted, "clusters_")


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_every_family_merges_by_every_distance(covariance_type):
    model = by_hand(covariance_type, random_state=0)
    for distance in ("entropy", "demp", "bhattacharyya", "symmetric_kl", "runnalls", "wasserstein"):
        for linkage in ("exact", "single", "complete", "average"):
            tree = model.merge_tree(distance=distance, linkage=linkage)
            assert (np.diff(tree.heights) >= 0).all()
            assert model.merge(tree=tree, threshold=np.inf).clusters_.tolist() == [0, 0, 0]
            assert model.merge(tree=tree, threshold=-1.0).clusters_.tolist() == [0, 1, 2]


def test_weights_of_rows_count_in_a_merge(fitted):
    """Rows of the ring's right half alone: of weight 0 the others are as if they were not there."""
    x, _ = ring_and_ball()
    right = x[:, 0] > 0.0
    weighted = fitted.merge_tree(x, right.astype(float), distance="demp")
    alone = fitted.merge_tree(x[right], distance="demp")
    np.testing.assert_allclose(weighted.matrix, alone.matrix, rtol=1e-9)


def test_what_can_not_be_merged_is_said(fitted):
    with pytest.raises(InputError, match="sample_weight was given without rows"):
        fitted.merge_tree(sample_weight=[1.0])
    with pytest.raises(InputError, match="tree is of 3 components, and the mixture has 9"):
        fitted.merge(2, tree=by_hand().merge_tree())
    with pytest.raises(InputError, match="n_clusters must be an integer from 1 to the 9 components, got 10"):
        fitted.merge(10)
    one = GaussianMixture(1).fit(ring_and_ball(50)[0])
    assert one.merge().clusters_.tolist() == [0]
    assert one.merge_tree().matrix.shape == (0, 4)
