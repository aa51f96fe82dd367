"""Surrogate steps: the full data's statistics where they begin, a bound that rises, the full data's optimum."""

import warnings
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest

from streamgmm import GaussianMixture
from streamgmm.em.anderson import Anderson
from streamgmm.em.iteration import PlainEM, iterate, request_pass, run_em, start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.em.surrogate import Memory, Surrogate, _corrected
from streamgmm.fitting import prepare as preparation
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.regularization import PenalizedMStep
from tests.helpers import clusters


@pytest.fixture
def setting(covariance_type, rng):
    """All rows, a sample of them, a problem, and a start."""
    x = clusters(rng, n_rows=12_000, n_components=4, spread=1.5)
    family = FAMILIES[covariance_type]
    whitening = family.whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    problem = Problem(
        whitening, PenalizedMStep.automatic(family, whitening, len(x)), np.full(3, 5.0), False, x[:100], 0
    )
    everything = RowsInMemory(x, np.ones(len(x)))
    model = GaussianMixture(4, covariance_type=covariance_type, random_state=0, tol=1e-3).fit(x[:500])
    return everything, everything.first(2000), problem, model._parameters().whiten(whitening)


def one_step(problem, rows, parameters):
    state = start_state(parameters)
    return iterate(problem, state, rows.read, PlainEM(), tol=0.0, max_iter=2).best


@pytest.fixture(params=[0.0, 0.3], ids=["undamped", "damped"])
def damping(request):
    return request.param


def test_at_its_own_parameters_it_has_the_full_datas_statistics(setting, damping):
    everything, sample, problem, parameters = setting
    step = one_step(problem, everything, parameters)
    read = _corrected(problem, step, sample, damping)
    found = read(request_pass(problem, start_state(parameters, step.statistics.scatter), last=False))
    np.testing.assert_allclose(found.sums, step.statistics.sums, rtol=1e-9, atol=1e-6)
    assert found.log_likelihood == pytest.approx(step.statistics.log_likelihood, rel=1e-12)
    assert found.sum_weight == len(everything)


def test_em_never_lowers_the_surrogate(setting, damping):
    everything, sample, problem, parameters = setting
    step = one_step(problem, everything, parameters)
    state = start_state(parameters, step.statistics.scatter)
    state = run_em(problem, state, _corrected(problem, step, sample, damping), PlainEM(), tol=0.0, max_iter=30)
    assert (np.diff(state.lower_bounds) >= -1e-11).all()
    assert state.lower_bounds[0] == pytest.approx(step.lower_bound, abs=1e-11)


def test_much_damping_gives_an_em_step(setting):
    everything, sample, problem, parameters = setting
    step = one_step(problem, everything, parameters)
    state = start_state(parameters, step.statistics.scatter)
    state = run_em(problem, state, _corrected(problem, step, sample, 1e6), PlainEM(), tol=0.0, max_iter=10)
    np.testing.assert_allclose(state.safe.means, step.updated.means, atol=1e-5)
    np.testing.assert_allclose(state.safe.covariances, step.updated.covariances, atol=1e-5)


def test_a_component_that_the_sample_hardly_has_takes_an_em_step(setting):
    """Its statistics are the full data's wherever the others go."""
    everything, sample, problem, parameters = setting
    step = one_step(problem, everything, parameters)
    few = sample.first(60)
    state = start_state(step.updated, step.statistics.scatter)
    found = _corrected(problem, step, few)(request_pass(problem, state, last=False))
    n_k = few.read(
        request_pass(problem, start_state(parameters, step.statistics.scatter), last=False)
    ).component_weights
    unknown = n_k < 4.0 * step.statistics.sums.shape[1]
    assert unknown.any()
    np.testing.assert_array_equal(found.sums[unknown], step.statistics.sums[unknown])
    assert (np.abs(found.sums[~unknown] - step.statistics.sums[~unknown]).max(axis=1, initial=0.0) > 0.0).all()


def test_the_full_datas_optimum_is_its_fixed_point(setting):
    everything, sample, problem, parameters = setting
    state = run_em(problem, start_state(parameters), everything.read, Anderson(), tol=1e-12, max_iter=500)
    step = one_step(problem, everything, state.safe)
    proposal = Surrogate(sample, len(sample), 12_000, 1e-6).propose(problem, start_state(state.safe), step)
    np.testing.assert_allclose(proposal.parameters.means, state.safe.means, atol=1e-5)
    assert proposal.gap < 1e-8


def test_its_gain_is_what_is_left_to_gain(setting):
    everything, sample, problem, parameters = setting
    best = run_em(problem, start_state(parameters), everything.read, Anderson(), tol=1e-12, max_iter=500).lower_bound
    step = one_step(problem, everything, parameters)
    proposal = Surrogate(sample, len(sample), 12_000, 1e-6).propose(problem, start_state(parameters), step)
    assert proposal.gap == pytest.approx(best - step.lower_bound, rel=0.5)


def test_a_gain_beyond_what_was_predicted_raises_the_estimate_of_what_is_left(setting):
    """By the ratio of the two, from then on; a gain that was less than predicted changes nothing."""
    everything, sample, problem, parameters = setting
    first = one_step(problem, everything, parameters)
    second = one_step(problem, everything, first.updated)
    gained = second.lower_bound - first.lower_bound
    surrogate = Surrogate(sample, len(sample), 12_000, 1e-6)
    plain = surrogate.propose(problem, start_state(first.updated), second)
    for predicted, factor in ((gained / 3.0, 3.0), (2.0 * gained, 1.0)):
        memory = Memory(n_rows=len(sample), predicted=predicted)
        state = replace(start_state(first.updated), best=first, memory=memory)
        proposal = surrogate.propose(problem, state, second)
        assert proposal.memory.optimism == pytest.approx(factor, rel=1e-3)
        assert proposal.gap == pytest.approx(factor * plain.gap, rel=0.2)


def test_where_it_has_no_maximum_it_is_damped(rng):
    """Clusters that overlap so much that a few rows have even the curvature's sign wrong."""
    x = rng.normal(size=(20_000, 2))
    x[:, 0] += 1.5 * (np.arange(20_000) % 3)
    whitening = FAMILIES["full"].whitening(x.mean(axis=0), np.cov(x.T, bias=True))
    problem = Problem(
        whitening, PenalizedMStep.automatic(FAMILIES["full"], whitening, len(x)), np.full(2, 5.0), False, x[:100], 0
    )
    everything = RowsInMemory(x, np.ones(len(x)))
    model = GaussianMixture(3, random_state=0, tol=1e-4).fit(x[:2000])
    step = one_step(problem, everything, model._parameters().whiten(whitening))
    surrogate = Surrogate(everything.first(500), 500, 20_000, 1e-6)
    proposal = surrogate.propose(problem, start_state(step.parameters), step)
    assert proposal.label == "surrogate"
    assert surrogate._solved(problem, step, Memory(n_rows=500)) is None
    reached, by_em = (one_step(problem, everything, one).lower_bound for one in (proposal.parameters, step.updated))
    assert reached > by_em


def test_after_a_rejection_more_rows_then_more_damping(setting):
    _, sample, _, _ = setting
    surrogate = Surrogate(sample, len(sample) // 4, 12_000, 1e-6)
    first = surrogate.rejected(Memory(n_rows=len(sample) // 4, predicted=1.0))
    assert (first.n_rows, first.damping) == (len(sample), 0.0)
    second = surrogate.rejected(replace(first, predicted=1.0))
    third = surrogate.rejected(replace(second, predicted=1.0, used=0.3))
    assert 0.0 < second.damping < 0.3 < third.damping


def out_of_core(x, n_components, **keywords):
    """A fit that can't hold all rows in its sample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(n_components, memory_limit=8 * 5000 * 8 * (x.shape[1] + 2), **keywords).fit(x)


def test_it_saves_readings(covariance_type, rng):
    """Five clusters on a line, each overlapping with the next."""
    x = rng.normal(size=(40_000, 3))
    x[:, 0] += 4.0 * (np.arange(40_000) % 5)
    keywords = {"covariance_type": covariance_type, "random_state": 0, "tol": 1e-7}
    fast = out_of_core(x, 5, **keywords)
    with mock.patch.object(preparation, "_FEWEST_FOR_SURROGATE", 10**9):
        anderson = out_of_core(x, 5, **keywords)
    assert any(one.label == "surrogate" for one in fast.fit_report_.iterations)
    assert not any(one.label == "surrogate" for one in anderson.fit_report_.iterations)
    assert fast.lower_bound_ == pytest.approx(anderson.lower_bound_, abs=1e-6)
    assert fast.n_iter_ <= anderson.n_iter_
    assert fast.fit_report_.n_passes <= 12


def test_a_useless_sample_does_no_harm(rng):
    """With a surrogate that points anywhere its steps are taken back, and the fit ends where plain EM does."""
    x = clusters(rng, n_rows=20_000, n_components=4, spread=1.5)
    wrong = RowsInMemory(rng.normal(size=(3000, 3)) * 7.0, np.ones(3000))
    keywords = {"init_params": "k-means++", "random_state": 1, "tol": 1e-7, "max_iter": 1000}
    with mock.patch.object(
        preparation.Preparation,
        "accelerator",
        lambda self, settings, sample: Surrogate(wrong, 3000, 20_000, settings.tol),
    ):
        misled = out_of_core(x, 4, **keywords)
    plain = out_of_core(x, 4, accelerate=False, **keywords)
    assert misled.converged_
    assert (np.diff(misled.lower_bounds_) >= -1e-12).all()
    assert misled.lower_bound_ >= plain.lower_bound_ - 1e-6
