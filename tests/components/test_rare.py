"""Clusters that no sample has are found among the rows that a pass explains worst."""

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.components.rare import find_challenger
from streamgmm.em.candidates import Candidate
from streamgmm.em.iteration import PlainEM, run_em, start_state
from streamgmm.em.passes import EStepFunction, RowsInMemory, UnlikelyRows
from streamgmm.fitting import fit as fitting
from streamgmm.gaussian.e_step import PassModel, evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import Kernel
from streamgmm.sources.base import Block
from tests.benchmarks.datasets import mixture_rows
from tests.helpers import limit, model_of, problem_of, quiet_fit


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


CLUSTER = np.array([60.0, 60.0, -60.0, 60.0])


@pytest.mark.parametrize(("covariance_type", "n_sample"), [("full", 4000), ("tied", 1000), ("spherical", 1000)])
def test_a_cluster_that_the_sample_does_not_tell_is_found_by_the_challenger_alone(
    covariance_type, n_sample, rng, monkeypatch
):
    """Forty rows in eighty thousand are a cluster of their own; the search on the sample puts no component there."""
    x = mixture_rows(80_000, 4, 4, distance=3.0, seed=2)
    x[rng.choice(len(x), 40, replace=False)] = CLUSTER + 0.5 * rng.normal(size=(40, 4))

    def fit():
        model = GaussianMixture(
            5, covariance_type=covariance_type, random_state=1, memory_limit=limit(n_sample, 4), max_iter=60
        )
        return quiet_fit(model, x)

    found = fit()
    smallest = found.weights_.argmin()
    assert found.weights_[smallest] == pytest.approx(40 / 80_000, rel=0.01)
    np.testing.assert_allclose(found.means_[smallest], CLUSTER, atol=0.5)
    monkeypatch.setattr(fitting, "find_challenger", lambda *_: None)
    without = fit()
    assert np.abs(without.means_ - CLUSTER).max(axis=1).min() > 10.0
    assert found.lower_bound_ > without.lower_bound_ + 0.1


@pytest.fixture
def candidate(three_clusters):
    """A fit with four components, one more than there are clusters, and its rows as the sample."""
    problem = problem_of(three_clusters, "full")
    z = problem.whitening.whiten(three_clusters)
    means = np.array([z[a : a + 350].mean(axis=0) for a in (0, 350, 700, 1400)])
    start = MixtureParameters.from_covariances("full", np.full(4, 0.25), means, np.stack([0.1 * np.eye(2)] * 4))
    sample = RowsInMemory(three_clusters, np.ones(len(three_clusters)))
    state = run_em(problem, start_state(start), sample.read, PlainEM(), tol=1e-6, max_iter=100)
    return Candidate.begin(problem, PlainEM(), state), sample


def unlikely_rows(x):
    return UnlikelyRows(x, np.ones(len(x)), np.full(len(x), -60.0), 512)


def test_rows_that_lie_together_challenge(candidate, rng):
    one, sample = candidate
    x = rng.normal([3.0, 0.0], 0.05, (30, 2))
    challenger = find_challenger(one, unlikely_rows(x), sample)
    means = one.problem.whitening.unwhiten(challenger.state.parameters.means)
    assert len(means) == 4
    assert np.abs(means - [3.0, 0.0]).max(axis=1).min() < 0.5
    assert challenger.state.n_iter == 0


def test_what_the_fit_finds_by_itself_needs_no_challenger(candidate, rng):
    """EM moves its spare component to rows that far out: a challenger would end at the same, but for rounding."""
    one, sample = candidate
    assert find_challenger(one, unlikely_rows(rng.normal([40.0, -40.0], 0.3, (60, 2))), sample) is None


def test_outliers_apart_do_not_challenge(candidate, rng):
    """There is no one place for a component: each of them would be a group of one."""
    one, sample = candidate
    angle = np.linspace(0.0, 2.0 * np.pi, 9)[:-1]
    x = np.column_stack([np.cos(angle), np.sin(angle)]) * 10.0 ** np.arange(2, 10)[:, np.newaxis]
    assert find_challenger(one, unlikely_rows(x), sample) is None


def test_a_mixture_that_needs_all_its_components_keeps_them(three_clusters, candidate):
    """A few rows that lie together are not worth a cluster of hundreds."""
    one, sample = candidate
    problem = one.problem
    z = problem.whitening.whiten(three_clusters)
    means = np.array([z[a : a + 700].mean(axis=0) for a in (0, 700, 1400)])
    start = MixtureParameters.from_covariances("full", np.full(3, 1 / 3), means, np.stack([0.1 * np.eye(2)] * 3))
    state = run_em(problem, start_state(start), sample.read, PlainEM(), tol=1e-6, max_iter=100)
    few = np.add(three_clusters[:12], [0.0, 4.0])
    log_prob = np.full(len(few), -6.0)
    unlikely = UnlikelyRows(few, np.ones(len(few)), log_prob, 512)
    assert find_challenger(Candidate.begin(problem, PlainEM(), state), unlikely, sample) is None
