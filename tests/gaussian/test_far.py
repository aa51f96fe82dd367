"""Rows so far away that their squared distance overflows: minus infinity or a number, and never NaN."""

import numpy as np
import pytest

from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters

COVARIANCES = {
    "full": np.array([np.eye(2), 4.0 * np.eye(2)]),
    "tied": np.eye(2),
    "diag": np.array([[1.0, 1.0], [4.0, 4.0]]),
    "spherical": np.array([1.0, 4.0]),
}


@pytest.fixture
def mixture(covariance_type):
    means = np.array([[0.0, 0.0], [6.0, 6.0]])
    return MixtureParameters.from_covariances(
        covariance_type, np.array([0.5, 0.5]), means, COVARIANCES[covariance_type]
    )


@pytest.mark.parametrize("value", [1e130, 1e160, 1.7e308])
def test_far_rows(value, mixture):
    x = np.array([[0.0, value], [1.0, 1.0], [np.nan, value], [-value, -value]])
    found = evaluate(x, mixture, log_prob=True, resp=True, labels=True)
    near = evaluate(x[1:2], mixture, log_prob=True, resp=True, labels=True)
    # The wider component is the nearer one far out; with one width, the one that lies in that direction.
    np.testing.assert_array_equal(found.labels[[0, 2, 3]], [1, -1, 0 if mixture.covariance_type == "tied" else 1])
    np.testing.assert_array_equal(found.resp[0], [0.0, 1.0])
    assert np.isnan(found.log_prob[2])
    assert (found.n_missing, found.first_missing) == (1, 2)
    assert found.log_prob[1] == pytest.approx(near.log_prob[0], rel=1e-12)
    np.testing.assert_allclose(found.resp[1], near.resp[0], rtol=1e-12)
    if value < 1e150:
        # log N is -|x - mu|^2 / (2 s^2) to all digits, with s the width of the component that answers.
        width = 1.0 if mixture.covariance_type == "tied" else 4.0
        assert found.log_prob[0] == pytest.approx(-0.5 * value**2 / width, rel=1e-12)
    else:
        assert found.log_prob[0] == -np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_tight_mixture_and_rows_of_narrower_range(dtype):
    tight = MixtureParameters.from_covariances("spherical", np.ones(1), np.zeros((1, 2)), np.array([1e-280]))
    found = evaluate(np.array([[0, 1], [10**9, 10**18]], dtype=dtype), tight, log_prob=True, resp=True)
    assert not np.isnan(found.log_prob).any()
    np.testing.assert_array_equal(found.resp, 1.0)
