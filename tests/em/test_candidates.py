"""Fits that share the passes: one pass for all, those that can't win any more leave, and no others."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from streamgmm.em.candidates import ByBound, Candidate, best_candidate, run_together
from streamgmm.em.convergence import StopReason
from streamgmm.em.iteration import PlainEM, run_em, start_state
from streamgmm.em.passes import EStepFunction, PassOutcome, RowsInMemory
from streamgmm.execution.passes import run_here
from streamgmm.gaussian.parameters import MixtureParameters
from tests.helpers import problem_of


@dataclass
class Passes:
    """Counts passes, and the models of each."""

    rows: RowsInMemory
    n_models: list

    def __call__(self, models):
        self.n_models.append(len(models))
        return run_here(self.rows.as_rows(), EStepFunction(), models)


@pytest.fixture
def setting(three_clusters):
    """A good start, one in which two components share a cluster, and a pass over the rows."""
    x = three_clusters
    problem = problem_of(x, "spherical")
    centers = x[[np.argmin(x.sum(axis=1)), np.argmax(x.sum(axis=1)), np.argmax(x[:, 0] - x[:, 1])]]
    z = problem.whitening.whiten(x)

    def begin(means):
        parameters = MixtureParameters.from_covariances("spherical", np.full(3, 1 / 3), means, np.full(3, 0.1))
        return Candidate.begin(problem, PlainEM(), start_state(parameters))

    good = begin(problem.whitening.whiten(centers))
    return problem, good, begin, z, Passes(RowsInMemory(x, np.ones(len(x))), [])


def test_a_candidate_alone_is_plain_em(setting):
    problem, good, _, _, passes = setting
    alone = run_em(problem, good.state, passes.rows.read, PlainEM(), tol=1e-8, max_iter=50)
    (together,) = run_together([good], passes, tol=1e-8, max_iter=50)
    assert together.state.lower_bounds == alone.lower_bounds
    assert together.score == alone.lower_bound


def test_each_pass_feeds_all_that_have_not_stopped(setting):
    _, good, begin, z, passes = setting
    others = [begin(z[seed : seed + 3]) for seed in (0, 10)]
    fits = run_together([good, *others], passes, tol=1e-6, max_iter=60, patient=True)
    assert len(passes.n_models) == max(fit.state.n_iter for fit in fits)
    assert sum(passes.n_models) == sum(fit.state.n_iter for fit in fits)
    assert not any(fit.dropped for fit in fits)


def test_one_that_cannot_win_leaves_and_the_best_never_does(setting):
    _, good, begin, _, passes = setting
    # All three components far outside: no rows are theirs but those of one.
    bad = replace(begin(np.full((3, 2), 40.0) + np.arange(3)[:, np.newaxis]), score=-np.inf)

    class Certain(ByBound):
        def standard_error(self, place, best, outcome):
            return 0.0

        def score(self, candidate, place, outcome):
            score = candidate.state.lower_bound - (1e6 if place == 1 else 0.0)
            return replace(candidate, score=score)

    fits = run_together([good, bad], passes, tol=1e-6, max_iter=40, comparison=Certain())
    assert [fit.dropped for fit in fits] == [False, True]
    assert best_candidate(fits) is fits[0]
    assert fits[1].state.n_iter < fits[0].state.n_iter or fits[0].state.n_iter == 1


def test_a_start_that_is_behind_another_of_its_group_leaves_where_that_one_is_not_the_best(setting):
    _, good, begin, z, passes = setting
    scores = {0: 0.0, 1: -1e3, 2: -1e6}

    class Given(ByBound):
        def standard_error(self, place, best, outcome):
            return 0.0

        def score(self, candidate, place, outcome):
            return replace(candidate, score=scores[candidate.record[0]], slack=2e3)

    fits = [
        replace(good, record=(0,), group=0),
        replace(begin(z[:3]), record=(1,), group=1),
        replace(begin(z[10:13]), record=(2,), group=1),
    ]
    ended = run_together(fits, passes, tol=1e-3, max_iter=3, comparison=Given())
    assert [fit.dropped for fit in ended] == [False, False, True]


def test_no_iterations_leave_the_starts(setting):
    _, good, _, _, passes = setting
    (fit,) = run_together([good], passes, tol=1e-6, max_iter=0)
    assert fit.state.parameters is good.state.parameters
    assert fit.state.stop_reason is StopReason.MAX_ITER
    assert passes.n_models == []


def test_a_challenger_is_asked_for_once_and_takes_part_from_then_on(setting):
    _, good, begin, z, passes = setting
    asked = []

    def challenge(candidate, unlikely):
        asked.append((candidate.state.n_iter, len(unlikely.x)))
        return begin(z[:3])

    fits = run_together([good], passes, tol=0.0, max_iter=4, challenge=challenge, patient=True)
    assert asked == [(1, 512)]
    # It has iterations of its own.
    assert passes.n_models == [1, 2, 2, 2, 1]
    assert len(fits) == 2


def test_the_standard_error_is_that_of_the_paired_difference_over_the_tasks():
    rng = np.random.default_rng(0)
    totals, weights = rng.normal(size=(40, 2)), np.full(40, 5.0)
    outcome = PassOutcome((), totals, weights, None)
    difference = totals[:, 0] - totals[:, 1]
    expected = difference.std(ddof=1) * np.sqrt(40) / 200.0
    assert ByBound().standard_error(0, 1, outcome) == pytest.approx(expected)
    assert ByBound().standard_error(0, 1, PassOutcome((), totals[:1], weights[:1], None)) == 0.0
