"""Arrays whose shapes don't fit are refused before machine code reads or writes beyond their ends."""

import numpy as np
import pytest

from streamgmm.gaussian import kernels
from streamgmm.gaussian.centered import CenteredMixture
from streamgmm.gaussian.e_step import e_step, evaluate, scatter
from streamgmm.gaussian.precision import Kernel
from tests.helpers import model_of


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("shape", [(40, 2), (40, 4), (40, 1), (40,), (4, 3, 3)])
def test_an_e_step_of_rows_of_another_width(kernel, shape, covariance_type, rng):
    model, data = model_of(rng.normal(size=(100, 3)), 2, covariance_type, rng, kernel)
    x = rng.normal(size=shape)
    for call in (
        lambda: e_step(x, None, model),
        lambda: evaluate(x, data, labels=True),
        lambda: scatter(x, None, model.whitening),
    ):
        with pytest.raises(ValueError, match=r"x has shape \(4.*expected \(n, 3\)"):
            call()


@pytest.mark.parametrize("kernel", list(Kernel))
@pytest.mark.parametrize("n", [0, 1, 39, 41])
def test_an_e_step_with_weights_or_a_result_of_another_length(kernel, n, rng):
    x = rng.normal(size=(40, 3))
    model, _ = model_of(x, 2, "full", rng, kernel)
    with pytest.raises(ValueError, match=rf"sample_weight has shape \({n},\); expected \(40,\)"):
        e_step(x, np.ones(n), model)
    with pytest.raises(ValueError, match=rf"log_prob has shape \({n},\); expected \(40,\)"):
        e_step(x, None, model, np.ones(n))


def test_the_centered_kernel_looks_itself(rng):
    """A single column would be broadcast to all features."""
    model, _ = model_of(rng.normal(size=(100, 3)), 2, "full", rng)
    centered = CenteredMixture(model.parameters, model.whitening)
    with pytest.raises(ValueError, match=r"x has shape \(40, 1\)"):
        centered.weighted_log_prob(np.ones((40, 1)))
    with pytest.raises(ValueError, match="sample_weight has shape"):
        centered.e_step(np.ones((40, 3)), np.ones(39))


def arguments_of_accumulate(n_features):
    """Of one component with a diagonal covariance, with room for 4."""
    n_columns = 1 + 2 * n_features
    workspace = [
        np.zeros((n, 512)) for n in (1 + n_features, 0, n_columns, 4, 3)
    ]  # longer than any block: nothing is computed
    zeros = np.zeros(n_features)
    padded = -(-n_columns // 3) * 3
    pairs = np.zeros(padded, dtype=np.int64)
    return {
        "x": np.zeros((40, n_features)), "sample_weight": np.empty(0), "center": zeros, "scale": zeros,
        "whitening": np.empty(0), "theta": np.zeros(4 * n_columns), "n_components": 1, "n_left": 1, "squares": 1,
        "left": pairs, "right": pairs, "n_columns": n_columns,
        **dict(zip(("centred", "whitened", "z", "logits", "rows"), workspace, strict=True)),
        "sums": np.zeros((4, padded)), "out_log_prob": np.empty(0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape"),
    [("x", (40, 2)), ("x", (40,)), ("sample_weight", (39,)), ("out_log_prob", (41,)), ("scale", (2,)), ("center", (4,)),
     ("theta", (5,)), ("sums", (3, 9)), ("centred", (3, 512)), ("whitening", (4,))],
)  # fmt: skip
def test_the_compiled_functions_look_at_each_of_their_arrays(name, shape):
    arguments = arguments_of_accumulate(3) | {name: np.zeros(shape)}
    with pytest.raises(ValueError, match=r"has shape .*expected"):
        kernels.accumulate(**arguments)


@pytest.mark.parametrize("name", ["out_log_prob", "out_resp", "out_labels"])
def test_results_of_another_length(name):
    arguments = arguments_of_accumulate(3)
    for one in ("sample_weight", "left", "right", "sums"):
        del arguments[one]
    arguments |= {"out_resp": np.empty((0, 0)), "out_labels": np.empty(0, dtype=np.int64)}
    arguments[name] = np.zeros((39, 1) if name == "out_resp" else 39)
    with pytest.raises(ValueError, match=rf"{name} has shape \(39,"):
        kernels.evaluate(**arguments)


def test_hashes_of_another_length():
    for x, keys, finite in (((4,), 4, 4), ((4, 2), 3, 4), ((4, 2), 4, 5)):
        with pytest.raises(ValueError, match="has shape"):
            kernels.hash_rows(np.zeros(x), 0, np.empty(keys, dtype=np.int64), np.empty(finite, dtype=bool))
