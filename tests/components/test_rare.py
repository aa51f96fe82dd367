"""Clusters that no sample has are found among the rows that a pass explains worst."""

import warnings

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.em.passes import EStepFunction, UnlikelyRows
from streamgmm.fitting import fit as fitting
from streamgmm.gaussian.e_step import PassModel, evaluate
from streamgmm.gaussian.precision import Kernel
from streamgmm.sources.base import Block
from tests.benchmarks.datasets import mixture_rows
from tests.helpers import limit, model_of


@pytest.mark.parametrize("kernel", [Kernel.FLOAT64, Kernel.CENTERED])
def test_a_pass_keeps_the_rows_of_lowest_density(kernel, covariance_type, x, rng):
    model, data = model_of(x, 3, covariance_type, rng)
    weight = np.ones(len(x))
    weight[:50] = 0.0
    x[60, 1] = np.nan
    request = PassModel(model.parameters, model.whitening, kernel, n_unlikely=20)
    blocks = [Block(x[a : a + 700], weight[a : a + 700], a) for a in range(0, len(x), 700)]
    if covariance_type == "tied":
        request = PassModel(
            model.parameters, model.whitening, kernel, collect_scatter=kernel is Kernel.FLOAT64, n_unlikely=20
        )
    found = EStepFunction()(blocks, (request,)).unlikely
    log_prob = evaluate(x, data, log_prob=True).log_prob
    log_prob[(weight == 0.0) | np.isnan(log_prob)] = np.inf
    expected = np.sort(log_prob)[:20]
    if not (kernel.is_centered and covariance_type == "tied"):
        np.testing.assert_allclose(found.log_prob, expected - model.whitening.log_det, rtol=1e-6)
    np.testing.assert_array_equal(np.sort(found.x[:, 0]), np.sort(x[np.argsort(log_prob)[:20], 0]))


def test_unlikely_rows_add_up_to_those_of_the_whole(rng):
    x, log_prob = rng.normal(size=(300, 2)), rng.normal(size=300)
    whole = UnlikelyRows.of_block(Block(x, None, 0), log_prob, 30)
    parts = [UnlikelyRows.of_block(Block(x[a : a + 100], None, a), log_prob[a : a + 100], 30) for a in (0, 100, 200)]
    added = parts[0] + parts[1] + parts[2]
    np.testing.assert_array_equal(added.x, whole.x)
    assert len(added.x) == 30


@pytest.fixture
def with_rare(rng):
    """Forty rows in eighty thousand are a cluster of their own; a sample of 4,000 has about two."""
    x = mixture_rows(80_000, 4, 4, distance=3.0, seed=2)
    x[rng.choice(len(x), 40, replace=False)] = np.array([60.0, 60.0, -60.0, 60.0]) + 0.5 * rng.normal(size=(40, 4))
    return x


def rare_fit(x, covariance_type):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(
            5, covariance_type=covariance_type, random_state=1, memory_limit=limit(4000, 4), max_iter=60
        ).fit(x)


def test_a_cluster_that_no_sample_has_is_found(covariance_type, with_rare, monkeypatch):
    found = rare_fit(with_rare, covariance_type)
    smallest = found.weights_.argmin()
    assert found.weights_[smallest] == pytest.approx(40 / 80_000, rel=0.01)
    np.testing.assert_allclose(found.means_[smallest], [60.0, 60.0, -60.0, 60.0], atol=0.5)
    monkeypatch.setattr(fitting, "challenger", lambda *_, **__: None)
    without = rare_fit(with_rare, covariance_type)
    assert found.lower_bound_ >= without.lower_bound_ - 1e-6


def test_outliers_apart_make_no_component(rng):
    x = mixture_rows(30_000, 3, 3, distance=3.0, seed=4)
    x[:30] = rng.normal(size=(30, 3)) * 200.0
    keywords = {"random_state": 0, "memory_limit": limit(3000, 3)}
    model = GaussianMixture(3, **keywords).fit(x)
    assert np.isfinite(model.score(x))
    assert (model.weights_ > 1e-4).all()
