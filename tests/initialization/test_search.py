"""The start on a sample: growth, relocation, the same optimum from any random state and for any order of the rows."""

import warnings

import dask.array as da
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Reference

from streamgmm import GaussianMixture
from streamgmm.components import relocate as relocation
from streamgmm.components.grow import grow, regrow
from streamgmm.components.merge import rank_merges
from streamgmm.components.relocate import relocate
from streamgmm.em.iteration import start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.estimators.settings import settings_of
from streamgmm.fitting import fit as fitting
from streamgmm.fitting.prepare import prepare
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.initialization import search as search_module
from streamgmm.initialization.search import find_starts
from streamgmm.initialization.survey import survey_rows
from streamgmm.sources.open import open_rows
from tests.benchmarks.datasets import falling_weights, mixture_rows
from tests.helpers import a_bad_optimum, clusters, fitted, limit, problem_of, quiet_fit


def hard(n_rows=20_000, **keywords):
    """Clusters of very different sizes, where most seeds end in a bad optimum."""
    return mixture_rows(n_rows, 6, 8, distance=1.5, seed=3, weights=falling_weights(8, 0.6), **keywords)


@pytest.mark.parametrize("improve", ["relocated", "regrown"])
def test_a_bad_optimum_is_left(improve, covariance_type, three_clusters):
    problem, state, rows = a_bad_optimum(three_clusters, covariance_type)
    better = state
    for seed in range(4):
        if improve == "relocated":
            better, _ = relocate(problem, better, rows, tol=1e-5, seed=seed, n_steps=1000)
        else:
            better = regrow(problem, better, rows, rows, tol=1e-5, seed=seed)
    assert better.lower_bound > state.lower_bound + 0.1
    np.testing.assert_allclose(better.safe.weights, 1 / 3, atol=0.02)


def test_a_good_optimum_is_kept(covariance_type, three_clusters):
    problem, state, rows = a_bad_optimum(three_clusters, covariance_type)
    best, _ = relocate(problem, state, rows, tol=1e-5, seed=0, n_steps=1000)
    assert relocate(problem, best, rows, tol=1e-5, seed=1, n_steps=1000)[0] is best
    assert regrow(problem, best, rows, rows, tol=1e-5, seed=1) is best


def test_what_has_failed_is_not_tried_again(monkeypatch):
    x = hard(5000)
    problem, tried = problem_of(x, "full"), []
    z = problem.whitening.whiten(x)
    start = MixtureParameters.from_covariances("full", np.full(6, 1 / 6), z[:6], np.stack([np.eye(6)] * 6))
    state, rows = fitted(problem, x, start)
    monkeypatch.setattr(relocation, "_relocation", lambda _problem, step, *what: tried.append(what) or step.parameters)
    assert relocate(problem, state, rows, tol=1e-5, seed=0, n_steps=1000)[0] is state
    assert len(tried) > relocation._TRIES
    assert len({(merge, split.component) for merge, split in tried}) == len(tried)


def test_the_cheapest_merge_is_of_the_components_that_share_a_cluster(covariance_type, three_clusters):
    problem, state, _ = a_bad_optimum(three_clusters, covariance_type)
    cost, i, j = rank_merges(problem, state.best)[0]
    assert {i, j} == {0, 1}
    assert cost >= 0.0 or not FAMILIES[covariance_type].shared


def test_a_grown_mixture_has_all_components(covariance_type, three_clusters):
    problem = problem_of(three_clusters, covariance_type)
    family = FAMILIES[covariance_type]
    one = family.identity(2)
    single = MixtureParameters.from_covariances(
        covariance_type, np.ones(1), np.zeros((1, 2)), one if family.shared else one[np.newaxis]
    )
    rows = RowsInMemory(three_clusters, np.ones(len(three_clusters)))
    state = grow(problem, start_state(single), rows, 3, seed=0)
    np.testing.assert_allclose(state.safe.weights, 1 / 3, atol=0.02)


@pytest.fixture(scope="session")  # that of a module ends with the module's first test in a row
def scikit_learns_best():
    """scikit-learn's best of ten on the hard rows, and a fit from the true centres."""
    x = hard(4000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = Reference(8, n_init=10, random_state=0, tol=1e-5, max_iter=200).fit(x)
    centers = np.random.default_rng(3).normal(size=(8, 6)) * 1.5
    true = GaussianMixture(8, means_init=centers, random_state=0, max_iter=1000).fit(x)
    return x, max(reference.score(x), true.score(x))


@pytest.mark.slow
@pytest.mark.xdist_group("scikit_learns_best")  # which takes long, and is made once for each process
@pytest.mark.parametrize("seed", range(3))
def test_any_random_state_reaches_the_optimum(seed, scikit_learns_best):
    x, score = scikit_learns_best
    assert GaussianMixture(8, random_state=seed).fit(x).score(x) >= score - 1e-3


@pytest.mark.parametrize("in_memory", [False, True])
def test_sorted_rows_give_the_same_fit_as_shuffled(in_memory):
    x = hard(6000)[:, :4]
    keywords = {"random_state": 4, "memory_limit": None if in_memory else limit(3000, 4)}
    one = GaussianMixture(5, **keywords).fit(x)
    for feature in (0, 3):
        other = GaussianMixture(5, **keywords).fit(x[np.argsort(x[:, feature])])
        assert other.fit_report_.in_memory is in_memory
        assert other.lower_bound_ == pytest.approx(one.lower_bound_, abs=1e-6)
        assert other.score(x) == pytest.approx(one.score(x), abs=1e-6)


def test_the_start_does_not_depend_on_chunks(x):
    """Chunks change sums in their last bits only: not the sample, not the path."""
    keywords = {"random_state": 0, "memory_limit": limit(1000, 3)}
    fits = [GaussianMixture(3, **keywords).fit(da.from_array(x, chunks=(n, 3))) for n in (300, 700)]
    unknown = da.from_array(x, chunks=(500, 3))[da.ones(len(x), chunks=500, dtype=bool)]
    fits.append(GaussianMixture(3, **keywords).fit(unknown))
    for other in fits[1:]:
        np.testing.assert_allclose(other.means_, fits[0].means_, atol=1e-6)


def test_rows_that_fit_in_the_sample_are_read_once(x):
    model = GaussianMixture(3, random_state=0).fit(x)
    assert model.fit_report_.n_passes == 1
    assert model.fit_report_.n_rows == len(x)
    assert "all rows in memory" in str(model.fit_report_)
    few = GaussianMixture(3, random_state=0, memory_limit=limit(1000, 3)).fit(x)
    assert few.fit_report_.n_passes == few.n_iter_ + 1
    assert few.fit_report_.n_rows == len(x) * few.fit_report_.n_passes
    assert few.lower_bound_ == pytest.approx(model.lower_bound_, abs=1e-5)


def test_starts_that_the_sample_cannot_tell_apart_share_the_passes(rng, monkeypatch):
    """More components than clusters: several optima are about as good; all are tried, with one pass each time."""
    x = rng.normal(size=(6000, 2))
    model = GaussianMixture(3, n_init=3, init_params="random_from_data", random_state=0, memory_limit=limit(1500, 2))
    n_models = []
    together = fitting.read_models
    monkeypatch.setattr(
        fitting,
        "read_models",
        lambda rows, models, parts: (n_models.append(len(models)), together(rows, models, parts))[1],
    )
    quiet_fit(model, x)
    assert n_models[0] > 1
    # One pass for all of them, and one for the survey.
    assert model.fit_report_.n_passes == 1 + len(n_models)


def test_where_few_values_stand_for_many_rows_the_sample_has_their_share(rng):
    """A third of the rows are one of nine values; a sample by value has few of them, or with all their rows."""
    x = rng.normal(size=(60_000, 2))
    x[::3] = 30.0 + rng.integers(-1, 2, size=(20_000, 2))
    found = survey_rows(open_rows(x), sample_size=6000, seed=0, full_scatter=True, missing="raise")[0].choose_sample()
    assert found.weight[found.x[:, 0] > 20].sum() / found.weight.sum() == pytest.approx(1 / 3, abs=0.03)
    model = GaussianMixture(2, random_state=0, memory_limit=limit(6000, 2)).fit(x)
    np.testing.assert_allclose(np.sort(model.weights_), [1 / 3, 2 / 3], atol=1e-3)
    assert model.fit_report_.n_passes <= 8


def test_heavy_rows_are_not_missed(rng):
    x = rng.normal(size=(20_000, 2))
    weight = np.ones(len(x))
    x[7], weight[7] = (40.0, 40.0), 8000.0
    model = GaussianMixture(2, random_state=0, memory_limit=limit(2000, 2)).fit(x, sample_weight=weight)
    np.testing.assert_allclose(np.sort(model.weights_), [8000 / 27_999, 19_999 / 27_999], atol=0.01)


@pytest.mark.parametrize(
    ("init_params", "seed"),
    [
        pytest.param("sample", 0, marks=pytest.mark.slow),
        *((name, seed) for name in ("k-means++", "random", "random_from_data") for seed in (0, 1, 2, 3)),
    ],
)
def test_more_restarts_never_end_lower(init_params, seed):
    """Whatever the sample says of the start that one restart alone would have: it goes on with the others."""
    x = clusters(np.random.default_rng(seed), n_rows=150, n_components=6, spread=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, many = (
            GaussianMixture(4, init_params=init_params, n_init=n, random_state=seed, max_iter=500).fit(x)
            for n in (1, 3 if init_params == "sample" else 5)
        )
    assert many.lower_bound_ >= one.lower_bound_ - 1e-6


def test_restarts_find_better_optima():
    """Of rows with many optima a single random start finds the best by chance only."""
    gains = []
    for seed in range(4):
        x = clusters(np.random.default_rng(seed), n_rows=150, n_components=6, spread=1.5)
        one, many = (
            quiet_fit(GaussianMixture(4, init_params="random_from_data", n_init=n, random_state=seed, max_iter=500), x)
            for n in (1, 5)
        )
        gains.append(many.lower_bound_ - one.lower_bound_)
    assert max(gains) > 0.05
    assert sum(gain > 1e-3 for gain in gains) >= 3


@pytest.mark.parametrize("init_params", ["sample", "random"])
@pytest.mark.parametrize("n_init", [1, 3])
def test_each_restart_makes_a_start_of_its_own(init_params, n_init, x, monkeypatch):
    seeds = []
    made = search_module.start_from_seed

    def counted(*arguments, seed, **keywords):
        seeds.append(seed)
        return made(*arguments, seed=seed, **keywords)

    monkeypatch.setattr(search_module, "start_from_seed", counted)
    quiet_fit(GaussianMixture(3, init_params=init_params, n_init=n_init, random_state=4), x)
    if init_params == "random":
        assert len({*seeds}) == n_init
    else:
        # Each searches with eight seeds of its own.
        assert len({*seeds}) >= 8 * n_init


@pytest.mark.parametrize("init_params", ["sample", "random"])
def test_the_start_of_one_restart_is_among_those_of_many(init_params, x):
    def starts(n_init):
        model = GaussianMixture(3, init_params=init_params, n_init=n_init, random_state=4)
        rows = open_rows(x)
        settings = settings_of(model, rows)
        prepared = prepare(rows, [settings], len(x))
        return find_starts(prepared.search(prepared.problem(settings), settings, prepared.sample))

    (one,), many = starts(1), starts(3)
    assert any(np.abs(one.means - other.means).max() < 1e-3 for other in many)


def test_components_come_largest_first(x):
    weights = GaussianMixture(3, random_state=0).fit(x).weights_
    assert (np.diff(weights) < 1e-3).all()


def test_small_data_with_many_components(rng):
    x = clusters(rng, n_rows=60, n_features=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(15, random_state=0).fit(x)
    assert np.isfinite(model.score(x))


def test_k_means_of_few_different_rows_says_nothing():
    x = np.repeat([[0.0, 0.0], [-0.0, 0.0], [5.0, 1.0], [9.0, 9.0]], 50, axis=0)
    model = GaussianMixture(4, init_params="kmeans", reg_covar=1e-6, random_state=0).fit(x)
    assert len(model.weights_) == 4
