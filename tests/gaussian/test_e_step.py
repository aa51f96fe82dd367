"""The kernels against a dense NumPy E-step; edges of blocks and tiles; weights and missing values."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel, e_step, evaluate, scatter
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from tests.helpers import FAMILY_NAMES, model_of


def dense(x, model, sample_weight=None):
    """Statistics by the definition: logits, logsumexp, outer products, all in NumPy."""
    parameters = model.parameters
    phi = parameters.family.features(model.whitening.whiten(x))
    logits = phi @ parameters.natural_parameters().T
    log_prob = logsumexp(logits, axis=1)
    weight = np.ones(len(x)) if sample_weight is None else sample_weight
    resp = np.exp(logits - log_prob[:, np.newaxis]) * weight[:, np.newaxis]
    return resp.T @ phi, float(weight @ log_prob)


@pytest.mark.parametrize("n_rows", [1, 15, 255, 256, 257, 1000])
def test_equals_the_dense_e_step_at_any_number_of_rows(covariance_type, n_rows, rng):
    x = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 3)) + 10.0
    model, _ = model_of(x, 3, covariance_type, rng)
    found = e_step(x[:n_rows], None, model)
    sums, log_likelihood = dense(x[:n_rows], model)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-11, atol=1e-11 * n_rows)
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-12)
    assert found.sum_weight == n_rows


@pytest.mark.parametrize("n_components", [1, 2, 4, 5, 8, 9, 12, 13, 31])
def test_any_number_of_components_fills_the_tiles(covariance_type, n_components, rng):
    x = rng.normal(size=(600, 2))
    model, _ = model_of(x, n_components, covariance_type, rng)
    sums, log_likelihood = dense(x, model)
    found = e_step(x, None, model)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-11, atol=1e-9)
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-12)


@pytest.mark.parametrize("n_features", [1, 2, 3, 7, 16, 33])
def test_any_number_of_features(covariance_type, n_features, rng):
    x = rng.normal(size=(500, n_features)) * np.logspace(-3, 3, n_features)
    model, _ = model_of(x, 3, covariance_type, rng)
    sums, log_likelihood = dense(x, model)
    found = e_step(x, None, model)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-10, atol=1e-9)
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-12)


@pytest.mark.parametrize(
    ("covariance_type", "n_features", "n_components"),
    [
        ("full", 512, 2),
        ("full", 24, 300),
        ("diag", 512, 40),
        ("diag", 3, 1024),
        ("tied", 512, 5),
        ("spherical", 512, 1024),
    ],
)
def test_the_largest_sizes(covariance_type, n_features, n_components, rng):
    x = rng.normal(size=(max(700, n_components), n_features))
    if covariance_type in ("full", "tied"):
        x = np.concatenate([x, rng.normal(size=(1500, n_features))])
    model, _ = model_of(x, n_components, covariance_type, rng)
    rows = x[:300]
    sums, log_likelihood = dense(rows, model)
    found = e_step(rows, None, model)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-9, atol=1e-9 * np.abs(sums).max())
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-11)


def test_float32_products_lose_no_more_than_the_rule_allows(covariance_type, x, rng):
    rows = x.astype(np.float32)
    model, _ = model_of(x, 3, covariance_type, rng)
    sums, log_likelihood = dense(rows.astype(np.float64), model)
    found = e_step(rows, None, replace(model, kernel=Kernel.FLOAT32))
    assert found.sums.dtype == np.float64
    np.testing.assert_allclose(found.sums, sums, rtol=1e-4, atol=1e-4 * len(x))
    assert abs(found.log_likelihood - log_likelihood) / len(x) < 1e-4


def test_the_centered_kernel_finds_the_same_moments(covariance_type, x, rng):
    model, _ = model_of(x, 3, covariance_type, rng)
    family = model.parameters.family
    fast = e_step(x, None, replace(model, collect_scatter=family.shared))
    centered = e_step(x, None, replace(model, kernel=Kernel.CENTERED))
    np.testing.assert_allclose(centered.component_weights, fast.component_weights, rtol=1e-10)
    np.testing.assert_allclose(centered.shift + centered.offsets(), fast.shift + fast.offsets(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(family.scatters(centered), family.scatters(fast), rtol=1e-8, atol=1e-6)


def test_the_scatter_is_the_sum_of_outer_products(x, rng):
    model, _ = model_of(x, 2, "full", rng)
    z = model.whitening.whiten(x)
    weight = rng.uniform(0, 2, len(x))
    np.testing.assert_allclose(scatter(x, weight, model.whitening), (z.T * weight) @ z, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("kernel", [Kernel.FLOAT64, Kernel.CENTERED])
def test_integer_weights_are_repetitions(covariance_type, kernel, x, rng):
    weight = rng.integers(0, 4, len(x))
    model, _ = model_of(x, 3, covariance_type, rng, kernel)
    weighted = e_step(x, weight, model)
    repeated = e_step(np.repeat(x, weight, axis=0), None, model)
    np.testing.assert_allclose(weighted.sums, repeated.sums, rtol=1e-10, atol=1e-8)
    assert weighted.sum_weight == repeated.sum_weight == weight.sum()
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, rel=1e-12)


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_with_a_missing_value_are_counted_and_left_out(covariance_type, kernel, value, x, rng):
    rows = x.astype(np.float32)
    model, _ = model_of(x, 3, covariance_type, rng, kernel)
    broken = rows.copy()
    bad = [300, 301, 900]
    broken[bad, [0, 2, 1]] = value
    found = e_step(broken, None, model)
    assert (found.n_missing, found.first_missing) == (3, 300)
    expected = e_step(np.delete(rows, bad, axis=0), None, model)
    np.testing.assert_allclose(found.sums, expected.sums, rtol=1e-5, atol=1e-4)
    assert np.isfinite(found.log_likelihood)


def test_a_row_of_weight_zero_may_hold_anything(x, rng):
    model, _ = model_of(x, 3, "full", rng)
    broken, weight = x.copy(), np.ones(len(x))
    broken[7], weight[7] = np.nan, 0.0
    found = e_step(broken, weight, model)
    assert found.n_missing == 0
    np.testing.assert_allclose(found.sums, e_step(np.delete(x, 7, axis=0), None, model).sums, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "int8", "uint16", "bool", ">f8"])
def test_any_dtype_and_layout_gives_the_same_as_float64(dtype, rng):
    rows = (rng.normal(size=(40_000, 3)) * 10).astype(dtype)
    model, _ = model_of(rows.astype(np.float64) + 0.01 * rng.normal(size=rows.shape), 2, "full", rng)
    expected = e_step(rows.astype(np.float64), None, model)
    for layout in (rows, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
        np.testing.assert_allclose(e_step(layout, None, model).sums, expected.sums, rtol=1e-11, atol=1e-8)


def test_evaluation_equals_scipy(covariance_type, x, rng):
    from scipy.stats import multivariate_normal

    _, data = model_of(x, 3, covariance_type, rng)
    log_prob = np.stack(
        [
            np.log(weight) + multivariate_normal(mean, covariance).logpdf(x)
            for weight, mean, covariance in zip(data.weights, data.means, data.full_covariances(), strict=True)
        ],
        axis=1,
    )
    found = evaluate(x, data, log_prob=True, resp=True, labels=True)
    np.testing.assert_allclose(found.log_prob, logsumexp(log_prob, axis=1), rtol=1e-11)
    np.testing.assert_allclose(found.resp, np.exp(log_prob - logsumexp(log_prob, axis=1, keepdims=True)), atol=1e-11)
    assert (found.labels == log_prob.argmax(axis=1)).all()


@pytest.mark.parametrize("tight", [False, True])
def test_evaluation_marks_missing_values(tight, rng):
    x = rng.normal(size=(50, 2))
    # A component so tight that the centered kernel is chosen.
    data = MixtureParameters.from_covariances(
        "spherical", np.array([0.5, 0.5]), np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1e-14 if tight else 1.0])
    )
    x[5, 1] = np.nan
    found = evaluate(x, data, log_prob=True, resp=True, labels=True)
    assert (found.n_missing, found.first_missing) == (1, 5)
    assert found.labels[5] == -1
    assert np.isnan(found.log_prob[5])
    assert np.isnan(found.resp[5]).all()
    assert np.isfinite(np.delete(found.log_prob, 5)).all()


_BITS = """
import hashlib, sys
import numpy as np
from tests.helpers import model_of
from streamgmm.gaussian.e_step import e_step
from streamgmm.gaussian.kernels.tiles import LARGE_GROUP
from tests.helpers import model_of
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for covariance_type in ("full", "diag"):
    x = rng.normal(size=(2000, 5))
    found = e_step(x, None, model_of(x, 11, covariance_type, rng)[0])
    digest.update(found.sums.tobytes())
    digest.update(np.float64(found.log_likelihood).tobytes())
print(LARGE_GROUP, digest.hexdigest())
"""


@pytest.mark.slow
def test_shorter_registers_give_the_same_bits(tmp_path):
    """Code for a processor with AVX2 alone sums in the same order as code for this one."""
    outputs = []
    for target in ({}, {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2"}):
        environment = {**os.environ, **target, "NUMBA_CACHE_DIR": str(tmp_path / str(len(outputs)))}
        done = subprocess.run(
            [sys.executable, "-c", _BITS], env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        outputs.append(done.stdout.split())
    assert outputs[1][0] == "4"
    assert outputs[0][1] == outputs[1][1]


def test_families_are_those_of_scikit_learn():
    assert tuple(FAMILIES) == FAMILY_NAMES


@pytest.mark.parametrize(("kernel", "distance"), [(Kernel.FLOAT32, 13.0), (Kernel.FLOAT64, 38.0)])
def test_responsibilities_whose_products_would_be_denormal_are_zero(kernel, distance):
    """exp(-85) and exp(-722) are normal numbers and denormal ones: neither adds to a component that is so far away."""
    means = np.array([[0.0], [distance]])
    parameters = MixtureParameters.from_covariances("diag", np.full(2, 0.5), means, np.ones((2, 1)))
    whitening = FAMILIES["diag"].whitening(np.zeros(1), np.ones((1, 1)))
    found = e_step(np.zeros((50, 1)), None, PassModel(parameters, whitening, kernel))
    assert found.component_weights.tolist() == [50.0, 0.0]
