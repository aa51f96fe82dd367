"""Mixtures made by hand: what is refused, what they can do, when two are the same."""

import pickle

import numpy as np
import pandas as pd
import pytest

import streamgmm
from streamgmm import GaussianMixture, InputError, StopReason
from tests.gaussian.test_conditional import a_mixture
from tests.helpers import FAMILY_NAMES, clusters


def by_hand(covariance_type="full", **keywords):
    value = a_mixture(covariance_type)
    return GaussianMixture.from_parameters(
        value.weights, value.means, value.covariances, covariance_type=covariance_type, **keywords
    )


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_a_fit_made_again_from_its_parameters_predicts_the_same(covariance_type, tmp_path):
    x = clusters(np.random.default_rng(0), 500)
    fitted = GaussianMixture(3, covariance_type=covariance_type, init_params="kmeans", random_state=0).fit(x)
    made = GaussianMixture.from_parameters(
        fitted.weights_, fitted.means_, fitted.covariances_, covariance_type=covariance_type
    )
    np.testing.assert_array_equal(made.predict(x), fitted.predict(x))
    np.testing.assert_allclose(made.score_samples(x), fitted.score_samples(x), rtol=1e-9)
    assert made.stop_reason_ is StopReason.GIVEN
    assert made.get_params()["n_components"] == 3
    streamgmm.save(made, tmp_path / "made.safetensors")
    loaded = streamgmm.load(tmp_path / "made.safetensors")
    assert loaded == made == pickle.loads(pickle.dumps(made))
    assert loaded.stop_reason_ is StopReason.GIVEN
    assert made.set_params(init_params="kmeans", random_state=0).fit(x).converged_


GOOD = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [1.0, 1.0]], "covariances": [np.eye(2), np.eye(2)]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": [0.5, 0.6]}, "weights sum to 1.1; expected 1"),
        ({"weights": [1.0, 0.0]}, "weights are as low as 0: leave out"),
        ({"weights": [1.0]}, r"weights have shape \(1,\); expected \(2,\)"),
        ({"weights": ["much", "little"]}, "weights must be an array of numbers"),
        ({"means": [0.0, 1.0]}, r"means have shape \(2,\); expected \(components, features\)"),
        ({"means": [[0.0, np.nan], [1.0, 1.0]]}, "means have 1 value"),
        ({"covariances": np.eye(2)}, r"covariances have shape \(2, 2\); expected \(2, 2, 2\)"),
        ({"covariances": [np.eye(2), -np.eye(2)]}, "not positive definite"),
        ({"covariances": [np.eye(2), [[1.0, 0.5], [0.4, 1.0]]]}, "covariances are not symmetric"),
        ({"covariance_type": "round"}, "covariance_type must be one of 'full', 'tied', 'diag', 'spherical'"),
        ({"covariance_type": "diag", "covariances": [[1.0, 1.0], [1.0, 0.0]]}, "not positive definite"),
        ({"feature_names": ["a"]}, "feature_names has 1 names"),
        ({"feature_names": ["a", "a"]}, "1 of them different"),
    ],
)
def test_what_is_no_mixture_is_refused_by_name(change, said):
    with pytest.raises(InputError, match=said):
        GaussianMixture.from_parameters(**{**GOOD, **change})


def test_tables_are_taken_by_the_names_that_were_given():
    model = GaussianMixture.from_parameters(**GOOD, feature_names=["a", "b"])
    frame = pd.DataFrame({"b": [0.9], "other": [7.0], "a": [0.0]})
    np.testing.assert_array_equal(model.score_samples(frame), model.score_samples(frame[["a", "b"]]))


def test_two_are_equal_by_their_parameters_and_features():
    one, same = by_hand(), by_hand()
    assert one == same
    assert hash(one) == hash(same)
    assert one != by_hand("tied")
    assert one != by_hand(feature_names=["a", "b", "c"])
    nudged = one.means_.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], 9.0)
    assert one != GaussianMixture.from_parameters(one.weights_, nudged, one.covariances_)
    assert one != "a mixture"
    unfitted = GaussianMixture(2)
    assert unfitted == unfitted
    assert unfitted != GaussianMixture(2)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_components_come_in_the_order_that_is_asked_for(covariance_type):
    model = by_hand(covariance_type)
    x = model.sample(100)[0]
    largest = model.reorder()
    assert (np.diff(largest.weights_) <= 0).all()
    backwards = model.reorder([2, 1, 0])
    np.testing.assert_array_equal(backwards.predict(x), 2 - model.predict(x))
    np.testing.assert_allclose(backwards.score_samples(x), model.score_samples(x), rtol=1e-12)
    assert backwards.reorder(model) == model
    for wrong in ([0, 1], [0, 1, 1], [0.0, 1.0, 2.0]):
        with pytest.raises(InputError, match="each of the components 0 to 2 once"):
            model.reorder(wrong)
    with pytest.raises(InputError, match="'weight', component numbers or a mixture"):
        model.reorder("size")


def test_components_are_a_table():
    model = by_hand(feature_names=["a", "b", "c"])
    table = model.components()
    assert table["weight"].is_monotonic_decreasing
    for k in range(3):
        assert table.loc[k, ("weight", "")] == model.weights_[k]
        np.testing.assert_array_equal(table.loc[k, "mean"][["a", "b", "c"]], model.means_[k])
        np.testing.assert_allclose(table.loc[k, ("standard deviation", "b")] ** 2, model.covariances_[k, 1, 1])
