"""Float32 rows: a fit that is at its optimum stops there, as that of the same rows in float64 does."""

from dataclasses import replace

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import PlainEM, iterate, start_state
from streamgmm.estimators.settings import settings_of
from streamgmm.fitting.prepare import prepare
from streamgmm.gaussian.precision import Kernel
from streamgmm.sources.open import open_rows

#: Iterations that a fit of float32 rows may take more: one without float32 products, and a few for the rate.
_MORE = 3


def two_clusters(seed, n_rows=1500, distance=6.0, at=0.0):
    rng = np.random.default_rng(seed)
    apart = [rng.normal(size=(n_rows * 2 // 3, 2)), rng.normal(size=(n_rows // 3, 2)) + distance]
    return np.concatenate(apart) + np.array([at, 0.0])


def assert_same_end(x, n_components=2, dtype=np.float64, **keywords):
    """The rows are those of float32 in both fits."""
    exact = GaussianMixture(n_components, random_state=0, **keywords).fit(x.astype(np.float64))
    found = GaussianMixture(n_components, random_state=0, **keywords).fit(x)
    assert found.converged_
    assert found.n_iter_ <= exact.n_iter_ + _MORE
    assert found.score(x) == pytest.approx(exact.score(x), abs=1e-6)


def a_problem(x, **changed):
    """The problem of fitting float32 rows, EM's state at their optimum, and how a pass over them is made."""
    x = x.astype(np.float32)
    model = GaussianMixture(2, random_state=0).fit(x)
    rows = open_rows(x)
    prepared = prepare(rows, [settings_of(model, rows)], len(x))
    problem = replace(prepared.problem(settings_of(model, rows)), **changed)
    return problem, start_state(model._parameters().whiten(problem.whitening)), prepared.sample.read


@pytest.mark.parametrize("accelerate", ["auto", False])
@pytest.mark.parametrize("seed", [0, 4, 6])
def test_a_fit_at_its_optimum_stops(seed, accelerate):
    assert_same_end(two_clusters(seed).astype(np.float32), accelerate=accelerate)


def test_every_family_stops(covariance_type):
    assert_same_end(two_clusters(0).astype(np.float32), covariance_type=covariance_type)


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.uint8])
def test_rows_that_are_read_as_float32_stop(dtype):
    assert_same_end((10.0 * two_clusters(1) + 60.0).clip(0, 255).astype(dtype))


def test_a_feature_far_from_zero():
    assert_same_end(two_clusters(3, at=1000.0).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("accelerate", ["auto", False])
def test_out_of_core_too(accelerate, tmp_path):
    x = two_clusters(1, n_rows=90_000)
    np.random.default_rng(0).shuffle(x)
    found = []
    for dtype in (np.float32, np.float64):
        np.save(tmp_path / "x.npy", x.astype(np.float32).astype(dtype))
        model = GaussianMixture(2, random_state=0, memory_limit="2MB", accelerate=accelerate)
        found.append(model.fit(str(tmp_path / "x.npy")))
    assert not found[0].fit_report_.in_memory
    assert found[0].converged_
    assert found[0].n_iter_ <= found[1].n_iter_ + _MORE
    assert found[0].lower_bound_ == pytest.approx(found[1].lower_bound_, abs=1e-6)


@pytest.mark.parametrize("rough", [False, True])
def test_steps_of_rounding_end_the_float32_products_or_a_rough_fit(rough):
    """Gains of rounding have no rate: with none known the gap is infinite, and only their size can tell."""
    problem, state, read = a_problem(two_clusters(0), rough=rough)
    state = iterate(problem, state, read, PlainEM(), tol=1e-6, max_iter=99)
    while state.stop_reason is None and not state.exact and state.n_iter < 50:
        state = iterate(problem, state, read, PlainEM(), tol=1e-6, max_iter=99)
        state = replace(state, gap=float("inf"))
    assert state.n_iter < 50
    assert state.kernels == (Kernel.FLOAT32,) * state.n_iter
    assert (state.stop_reason is StopReason.NOISE_FLOOR) == rough
    assert state.exact != rough


def test_a_fall_of_ems_own_step_is_not_turned_down_for_ever():
    """A bound that was found too high would turn down the same step again and again."""
    problem, state, read = a_problem(two_clusters(2))
    accelerator = PlainEM(guarded=True)
    state = iterate(problem, state, read, accelerator, tol=0.0, max_iter=99)
    assert state.best is not None
    too_high = replace(state.best, lower_bound=state.best.lower_bound + 1.0)
    state = replace(state, best=too_high, parameters=too_high.updated)
    assert iterate(problem, state, read, accelerator, tol=0.0, max_iter=99).accepted[-1]


def test_what_may_be_rounding_was_not_gained(tmp_path):
    """The first exact bound after one of float32 products is off by far more than a surrogate step predicts."""
    x = two_clusters(2, n_rows=90_000)
    np.random.default_rng(0).shuffle(x)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    seen = []
    GaussianMixture(2, random_state=0, memory_limit="2MB", callback=seen.append).fit(str(tmp_path / "x.npy"))
    assert set(seen[-1].kernels) == {Kernel.FLOAT32, Kernel.FLOAT64}
    assert seen[-1].memory.optimism < 2.0
