"""search: the criteria's formulas, held-out rows, shared readings, losers, users' mistakes."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import zarr

import streamgmm
from streamgmm import GaussianMixture, search
from streamgmm.em.candidates import Candidate
from streamgmm.em.iteration import start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.estimators.settings import settings_of as make_settings
from streamgmm.exceptions import InputError
from streamgmm.fitting import starts
from streamgmm.fitting.held_out import HeldOut, SelectionFunction, Split
from streamgmm.fitting.selection import _chosen
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.initialization.search import find_starts
from streamgmm.sources.base import Block
from streamgmm.sources.open import open_rows
from tests.helpers import clusters, model_of


@pytest.fixture
def rows(rng):
    return clusters(rng, n_rows=4000, n_components=4, spread=6.0)


def row_of(found, n_components, covariance_type="full"):
    return next(c for c in found.candidates if (c.n_components, c.covariance_type) == (n_components, covariance_type))


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl", "held_out"])
def test_the_number_of_clusters_is_found(criterion, rows):
    found = search(rows, [2, 3, 4, 5], criterion=criterion, random_state=0, tol=1e-5)
    chosen = found.candidates[found.best_index]
    # AIC and held-out rows may take one more.
    assert chosen.n_components in ((4,) if criterion in ("bic", "icl") else (4, 5))
    assert found.best.n_components == chosen.n_components == len(found.best.weights_)
    assert found.criterion == criterion


def test_criteria_are_those_of_scikit_learn(rows):
    """Without held-out rows a candidate's figures are those of the same mixture under the textbook formulas."""
    found = search(rows, [3], held_out=0.0, random_state=0, tol=1e-9)
    one, model = found.candidates[0], found.best
    assert one.n_parameters == model._parameters().n_parameters
    assert one.log_likelihood == pytest.approx(model.score(rows), abs=1e-4)
    assert one.bic == pytest.approx(model.bic(rows), abs=1.0)
    assert one.aic == pytest.approx(model.aic(rows), abs=1.0)
    resp = model.predict_proba(rows)
    entropy = -(resp * np.log(np.maximum(resp, 1e-300))).sum()
    assert one.icl == pytest.approx(model.bic(rows) + 2 * entropy, abs=2.0)
    assert np.isnan(one.held_out)


def test_held_out_sums_are_those_of_numpy(covariance_type, x, rng):
    models = tuple(model_of(x, k, covariance_type, rng) for k in (2, 3))
    weight = rng.integers(0, 3, len(x)).astype(float)
    blocks = [Block(x[a : a + 800], weight[a : a + 800], a) for a in range(0, len(x), 800)]
    split = Split(0.3, 5)
    found = SelectionFunction(split)(blocks, tuple(model for model, _ in models))
    held = split.held_weight(x, np.ones(len(x)), 0) > 0.0
    assert abs(held.mean() - 0.3) < 0.05
    log_prob = np.array([evaluate(x[held], data, log_prob=True).log_prob for _, data in models])
    w = weight[held]
    means = log_prob @ w / w.sum()
    np.testing.assert_allclose(found.held_out.means, means, rtol=1e-9)
    difference = log_prob[0] - log_prob[1]
    error = np.sqrt((w * (difference - w @ difference / w.sum()) ** 2).sum()) / w.sum()
    assert found.held_out.standard_error(0, 1) == pytest.approx(error, rel=1e-6)
    single = np.sqrt((w * (log_prob[1] - means[1]) ** 2).sum()) / w.sum()
    assert found.held_out.standard_error(1) == pytest.approx(single, rel=1e-6)
    assert found.statistics[0].sum_weight == pytest.approx(weight[~held].sum())


def test_equal_rows_are_held_out_together(x):
    twice = np.concatenate([x, x[::-1]])
    held = Split(0.2, 0).held_weight(twice, np.ones(len(twice)), 0)
    np.testing.assert_array_equal(held[: len(x)], held[len(x) :][::-1])


def test_no_rows_no_numbers():
    nothing = HeldOut(0.0, np.zeros(2), np.zeros((2, 2)))
    assert np.isnan(nothing.means).all()
    assert np.isnan(nothing.standard_error(0, 1))


def test_candidates_share_the_readings(rows, tmp_path):
    path = str(tmp_path / "x.zarr")
    zarr.create_array(path, data=rows, chunks=(500, 3))
    limit = 8 * 1200 * 8 * 5
    found = search(path, range(1, 6), random_state=0, memory_limit=limit)
    single = GaussianMixture(5, random_state=0, memory_limit=limit).fit(path)
    assert not found.best.fit_report_.in_memory
    assert found.best.fit_report_.n_passes <= 2 * single.fit_report_.n_passes
    assert found.best.fit_report_.n_passes >= max(c.n_passes for c in found.candidates)
    assert row_of(found, 1).dropped
    # The best goes on to all rows, held out or not, and to the tolerance of a fit.
    alone = GaussianMixture(4, random_state=0, memory_limit=limit).fit(path)
    assert found.best.lower_bound_ == pytest.approx(alone.lower_bound_, abs=1e-5)


def test_families_are_compared(rng):
    x = np.concatenate([rng.normal(c, 1.0, (1500, 3)) for c in (0.0, 9.0)])
    found = search(x, [1, 2, 3], covariance_type=["full", "tied", "diag", "spherical"], random_state=0, tol=1e-5)
    chosen = found.candidates[found.best_index]
    assert (chosen.n_components, chosen.covariance_type) == (2, "spherical")
    assert len(found.candidates) == 12


def test_it_prints_and_tabulates(rows):
    found = search(pd.DataFrame(rows, columns=["a", "b", "c"]), [2, 4], random_state=0)
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["components", "covariance", "parameters"]
    assert lines[2].split()[:2] == ["best", "4"]
    assert max(map(len, lines)) <= 110
    frame = pd.DataFrame(found.table())
    assert list(frame["n_components"]) == [2, 4]
    assert frame["behind"][1] == 0.0
    assert list(found.best.feature_names_in_) == ["a", "b", "c"]
    assert found.best.means_.shape == (4, 3)


def test_weights_count_rows(rows, rng):
    weight = rng.integers(1, 3, len(rows))
    one = search(rows, [2, 3], sample_weight=weight, random_state=0, tol=1e-8)
    other = search(np.repeat(rows, weight, axis=0), [2, 3], random_state=0, tol=1e-8)
    for a, b in zip(one.candidates, other.candidates, strict=True):
        assert a.bic == pytest.approx(b.bic, rel=1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"n_components": []}, "n_components is empty"),
        ({"n_components": [2, 0]}, "n_components must be an integer of at least 1, got 0"),
        ({"criterion": "best"}, "'bic', 'aic', 'icl', 'held_out'; got 'best'"),
        ({"covariance_type": "round"}, "'full', 'tied', 'diag', 'spherical'; got 'round'"),
        ({"held_out": 0.9}, "between 0 and 0.5, got 0.9"),
        ({"held_out": 0.0, "criterion": "held_out"}, "needs rows that are held out"),
        ({"tolerance": 1}, "no parameter 'tolerance'"),
        ({"means_init": [[0.0]]}, "can't use means_init"),
        ({"verbose_interval": 2}, "can't use verbose_interval"),
        ({"checkpoint": "folder"}, "can't use checkpoint"),
        ({"resume": "must"}, "can't use resume"),
        ({"n_components": [5000]}, "n_samples = 4000"),
    ],
)
def test_mistakes_are_named(keywords, message, rows):
    with pytest.raises(InputError, match=message):
        search(rows, **{"n_components": [2], **keywords})


def test_it_is_public():
    assert streamgmm.search is search
    assert "SearchResult" in streamgmm.__all__


def test_what_is_reported_is_what_was_fitted(rng):
    """Five components for three values: some are lost, and the mixture is then one of those that are left."""
    x = np.repeat([[0.0], [12.0], [30.0]], 20, axis=0) + 1e-3 * np.round(rng.normal(size=(60, 1)), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = search(x, [3, 8], held_out=0.0, random_state=0)
    for one, asked in zip(found.candidates, (3, 8), strict=True):
        assert one.n_asked == asked
        assert one.n_components <= asked
        assert one.n_parameters == 3 * one.n_components - 1
    chosen = found.candidates[found.best_index]
    assert found.best.n_components == len(found.best.weights_) == chosen.n_components
    assert all(c.n_asked >= chosen.n_asked for c in found.candidates if c.n_components == chosen.n_components)


def candidate(n_components, score):
    parameters = MixtureParameters.from_covariances(
        "spherical", np.full(n_components, 1 / n_components), np.zeros((n_components, 1)), np.ones(n_components)
    )
    return Candidate.begin(None, None, replace(start_state(parameters), lower_bounds=(score,)))


def test_the_fewest_components_win_ties():
    settings = [settings_of(k) for k in (8, 3, 4)]
    assert _chosen([candidate(3, 1.0), candidate(3, 1.0 - 1e-9), candidate(4, 1.0)], settings, 1e-6) == 1
    # Among mixtures of different sizes only the same score is a tie.
    assert _chosen([candidate(8, 1.0), candidate(3, 1.0 - 1e-9), candidate(4, 1.0)], settings, 1e-6) == 2


def settings_of(n_components):
    return make_settings(GaussianMixture(n_components), open_rows(np.zeros((10, 1))))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_who_leaves_would_not_have_won_alone(seed):
    """And whoever stays ends where it ends alone, where nothing is held out."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(c, s, (100, 2)) for c, s in ((0, 1), (4, 0.5), (3, 2))])
    found = search(x, [1, 2, 3], held_out=0.0, random_state=0)
    alone = [GaussianMixture(k, random_state=0).fit(x) for k in (1, 2, 3)]
    bics = [model.bic(x) for model in alone]
    assert min(bics) == pytest.approx(found.best.bic(x), abs=0.01)
    for one, model, bic in zip(found.candidates, alone, bics, strict=True):
        if one.dropped:
            assert bic > min(bics)
        else:
            assert one.log_likelihood == pytest.approx(model.score(x), abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_start_of_a_candidate_takes_part(seed, monkeypatch):
    """A candidate is what its best start becomes, as where it is fitted alone."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(c, 1, (100, 1)) for c in (0, 6, 12)])
    good = find_starts
    monkeypatch.setattr(starts, "find_starts", lambda one: [poor(one, good), *good(one)])
    found = search(x, [3], held_out=0.0, random_state=0)
    alone = GaussianMixture(3, random_state=0).fit(x)
    assert found.candidates[0].log_likelihood == pytest.approx(alone.score(x), abs=1e-4)


def poor(one, starts):
    """Return a start at a stationary point: all components are the same one."""
    start = starts(one)[0]
    return replace(start, means=np.zeros_like(start.means), weights=np.full(3, 1 / 3))


@pytest.mark.parametrize("merged", [False, True])
def test_of_few_values_a_share_of_each_is_held_out(merged):
    counts = np.array([3000, 500, 1500])
    x = np.arange(3.0)[:, np.newaxis]
    weight = counts.astype(float)
    sample = RowsInMemory(x, weight)
    split = Split.chosen(0.1, 7, sample, complete=merged)
    assert not split.by_value
    if merged:
        held = split.held_weight(x, weight, 0)
        fitted = split.rest_of(sample)
        np.testing.assert_array_equal(fitted.weight, weight - held)
    else:
        rows = np.repeat(x, counts, axis=0)
        whole = split.held_weight(rows, np.ones(len(rows)), 0)
        parts = [split.held_weight(rows[a : a + 700], np.ones(len(rows[a : a + 700])), a) for a in range(0, 5000, 700)]
        np.testing.assert_array_equal(whole, np.concatenate(parts))
        held = np.bincount(rows[:, 0].astype(int), whole)
    assert (np.abs(held - 0.1 * counts) < 4.0 * np.sqrt(0.09 * counts)).all()
    np.testing.assert_array_equal(held, np.round(held))


def test_a_fraction_of_a_row_is_held_out_whole():
    sample = RowsInMemory(np.arange(2.0)[:, np.newaxis], np.array([2000.5, 3000.25]))
    split = Split.chosen(0.5, 0, sample, complete=True)
    held = split.held_weight(sample.x, sample.weight, 0)
    assert (np.abs(held / sample.weight - 0.5) < 0.05).all()
    assert set(held % 1.0) <= {0.0, 0.5, 0.25}


@pytest.mark.parametrize("values", [2, 5, 60])
def test_held_out_rows_of_few_values_choose(values, rng):
    x = rng.integers(0, values, (2000, 1)).astype(float)
    found = search(x, [1], criterion="held_out", random_state=0)
    one = found.candidates[0]
    log_prob = found.best.score_samples(x)
    # What is held out is like the rest, and the standard error is that of so many independent rows.
    assert abs(one.held_out - log_prob.mean()) < 4.0 * one.held_out_error + 1e-3
    assert one.held_out_error == pytest.approx(log_prob.std() / np.sqrt(200), rel=0.3, abs=1e-4)


def test_too_few_rows_to_hold_out_are_refused(rng):
    with pytest.raises(InputError, match=r"2\.7 of the 27 rows .* hold out more"):
        search(rng.normal(size=(27, 1)), [1, 2], criterion="held_out")
