"""A mixture among scikit-learn's tools, and what it shows of itself."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamgmm import GaussianMixture
from tests.estimators.test_handmade import by_hand
from tests.helpers import clusters


@pytest.fixture
def frame():
    return pd.DataFrame(clusters(np.random.default_rng(0), 900), columns=["a", "b", "c"])


def test_a_fitted_mixture_prints_what_was_found(frame):
    model = GaussianMixture(3, init_params="kmeans", random_state=0)
    assert str(model) == repr(model) == "GaussianMixture(init_params='kmeans', n_components=3, random_state=0)"
    model.fit(frame)
    assert repr(model) == "GaussianMixture(init_params='kmeans', n_components=3, random_state=0)"
    shown = str(model)
    assert shown.startswith("GaussianMixture of 3 components and 3 features, full covariances\n  ended ")
    assert f"{model.weights_.max():.2%}" in shown
    assert f"{model.lower_bound_:.6g} nats per row" in shown
    assert "900" in shown
    model.name_ = "Visits <daily>"
    page = model.merge(2)._repr_mimebundle_()["text/html"]
    assert "Visits &lt;daily&gt;: GaussianMixture of 3 components in 2 clusters" in page
    assert page.count("background:#4c78a8") == 3
    assert "text/html" in GaussianMixture(2)._repr_mimebundle_()


def test_of_many_components_and_features_some_are_shown_and_the_rest_is_counted():
    rng = np.random.default_rng(0)
    model = GaussianMixture.from_parameters(
        np.full(30, 1 / 30), rng.normal(size=(30, 50)), np.ones((30, 50)), covariance_type="diag"
    )
    lines = str(model).splitlines()
    assert lines[-2:] == ["20 smaller components not shown", "45 features that separate them less not shown"]
    assert max(map(len, lines)) < 120


def test_pipelines_give_tables_and_arrays(frame):
    scaled = make_pipeline(
        StandardScaler().set_output(transform="pandas"), GaussianMixture(3, init_params="kmeans", random_state=0)
    )
    scaled.fit(frame)
    assert list(scaled[-1].feature_names_in_) == ["a", "b", "c"]
    with_pca = make_pipeline(StandardScaler(), PCA(2), GaussianMixture(3, init_params="kmeans", random_state=0)).fit(
        frame
    )
    assert with_pca.predict(frame).shape == (900,)
    assert np.isfinite(with_pca.score(frame))
    both = make_pipeline(StandardScaler(), GaussianMixture(2)).set_output(transform="pandas").fit(frame)
    assert list(both[-1].feature_names_in_) == ["a", "b", "c"]


def test_weights_are_routed(frame):
    weight = (np.arange(900) % 3).astype(float)
    repeated = frame.loc[frame.index.repeat(weight.astype(int))]
    with config_context(enable_metadata_routing=True):
        model = GaussianMixture(2, init_params="kmeans", random_state=0).set_fit_request(sample_weight=True)
        routed = make_pipeline(StandardScaler().set_fit_request(sample_weight=True), model)
        routed.fit(frame, sample_weight=weight)
    expected = GaussianMixture(2, init_params="kmeans", random_state=0).fit(StandardScaler().fit_transform(repeated))
    np.testing.assert_allclose(
        np.sort(routed[-1].means_, axis=0), np.sort(expected.means_, axis=0), rtol=1e-3, atol=1e-3
    )


def test_model_selection(frame):
    grid = {"n_components": [1, 3], "covariance_type": ["full", "spherical"]}
    found = GridSearchCV(GaussianMixture(init_params="kmeans", random_state=0), grid, cv=3).fit(frame)
    assert found.best_params_["n_components"] == 3
    assert found.best_estimator_.predict(frame).shape == (900,)
    assert np.isfinite(
        cross_val_score(GaussianMixture(3, init_params="kmeans", random_state=0), frame.to_numpy(), cv=3)
    ).all()


def test_clones_and_pickles(frame):
    model = GaussianMixture(3, init_params="kmeans", random_state=0).fit(frame)
    copied = clone(model)
    assert not hasattr(copied, "means_")
    assert copied.get_params() == model.get_params()
    back = pickle.loads(pickle.dumps(model.merge(2)))
    np.testing.assert_array_equal(back.predict(frame), model.merge(2).predict(frame))
    assert back.training_summary_ == model.training_summary_
    assert clone(by_hand()).get_params()["n_components"] == 3
