"""Numbers of a stream have their own places in it: any stretch is what the whole has there."""

import numpy as np
import pytest

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.sampling import draw_labels, draw_rows, uniforms


@pytest.mark.parametrize("n_columns", [1, 3, 4, 5, 9])
def test_a_stretch_is_that_of_the_whole(n_columns):
    whole = uniforms(0, 3000, n_columns, seed=3)
    assert whole.shape == (3000, n_columns)
    assert len(np.unique(whole)) == whole.size
    for start, n in ((0, 10), (1, 1), (999, 1500), (2999, 1)):
        np.testing.assert_array_equal(uniforms(start, n, n_columns, seed=3), whole[start : start + n])


@pytest.mark.parametrize("n_features", [2, 3, 7])
def test_rows_and_labels_do_not_hang_on_where_a_draw_begins(n_features):
    parameters = MixtureParameters.from_covariances(
        "diag", np.array([0.3, 0.7]), np.array([np.zeros(n_features), np.full(n_features, 9.0)]),
        np.ones((2, n_features)),
    )  # fmt: skip
    x, labels = draw_rows(parameters, 0, 4000, seed=1)
    for start, n in ((1, 10), (1023, 3), (2500, 1500)):
        part, of_part = draw_rows(parameters, start, n, seed=1)
        np.testing.assert_array_equal(part, x[start : start + n])
        np.testing.assert_array_equal(of_part, labels[start : start + n])
        np.testing.assert_array_equal(draw_labels(parameters, start, n, seed=1), labels[start : start + n])
