"""ONNX graphs under onnxruntime against `predict_proba` and `score_samples`."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from streamgmm import GaussianMixture, InputError, OutputExistsError
from tests.estimators.test_handmade import by_hand
from tests.export.test_sql import hard_rows, moved
from tests.helpers import FAMILY_NAMES


def run(graph, x):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["label", "probabilities", "log_density"], {"X": x})


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-6, 1e3), (1e6, -1e9)])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_float64_agrees_to_1e_10(covariance_type, merged, scale, offset):
    model = moved(covariance_type, scale, offset, None)
    model = model.merge(2, distance="wasserstein") if merged else model
    x = hard_rows(model)
    label, proba, log_density = run(model.to_onnx(), x)
    assert label.dtype == np.int64
    np.testing.assert_array_equal(label, model.predict(x))
    np.testing.assert_allclose(proba, model.predict_proba(x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_density, model.score_samples(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("covariance_type", FAMILY_NAMES)
def test_float32_agrees_with_the_model_at_those_rows(covariance_type):
    """Also where a component is tight: within the graph it is float64."""
    model = moved(covariance_type, 1e-2, 1e3, None)
    x = hard_rows(model).astype(np.float32)
    label, proba, log_density = run(model.to_onnx(float_type="float32"), x)
    assert proba.dtype == log_density.dtype == np.float32
    np.testing.assert_array_equal(label, model.predict(x))
    np.testing.assert_allclose(proba, model.predict_proba(x), atol=1e-6)
    np.testing.assert_allclose(log_density, model.score_samples(x), rtol=1e-6)


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_other_versions_of_the_operators_give_the_same(opset):
    model = by_hand()
    x = hard_rows(model.set_params(missing="drop"))
    graph = model.to_onnx(opset=opset)
    assert graph.opset_import[0].version == opset
    for found, expected in zip(run(graph, x), run(model.to_onnx(), x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-300)


def test_a_file_says_which_features_it_wants(tmp_path):
    model = by_hand(feature_names=["a", "b", ("c", 1)])
    model.name_ = "visits"
    model.to_onnx(tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    facts = {one.key: one.value for one in graph.metadata_props}
    assert (facts["name"], json.loads(facts["features"])) == ("visits", ["a", "b", "('c', 1)"])
    assert graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 3
    with pytest.raises(OutputExistsError):
        model.to_onnx(tmp_path / "model.onnx")
    model.to_onnx(tmp_path / "model.onnx", overwrite=True)


def test_options_are_checked_by_name(monkeypatch):
    for keywords, said in (
        ({"opset": 12}, "opset must be an integer from 13 to"),
        ({"opset": 10_000}, "got 10000"),
        ({"float_type": "float16"}, "float_type must be one of 'float64', 'float32'; got 'float16'"),
    ):
        with pytest.raises(InputError, match=said):
            by_hand().to_onnx(**keywords)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r"this needs the package onnx: pip install 'streamgmm\[onnx\]'"):
        by_hand().to_onnx()


def test_many_components_of_many_features():
    rng = np.random.default_rng(0)
    factors = np.eye(30) + 0.2 * rng.normal(size=(40, 30, 30))
    covariances = factors @ factors.transpose(0, 2, 1)
    model = GaussianMixture.from_parameters(rng.dirichlet(np.ones(40)), rng.normal(size=(40, 30)), covariances)
    x = model.sample(3000)[0]
    _, proba, log_density = run(model.to_onnx(), x)
    np.testing.assert_allclose(proba, model.predict_proba(x), atol=1e-12)
    np.testing.assert_allclose(log_density, model.score_samples(x), rtol=1e-12)
