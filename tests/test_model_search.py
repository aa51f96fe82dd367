"""search: the criteria's formulas, held-out rows, shared readings, losers, users' mistakes."""

import numpy as np
import pandas as pd
import pytest
import zarr

import streamgmm
from streamgmm import GaussianMixture, search
from streamgmm.exceptions import InputError
from streamgmm.fitting.held_out import HeldOut, SelectionLeaf, Split
from streamgmm.mixture.e_step import evaluate
from streamgmm.rows.base import Block
from tests.conftest import clusters
from tests.mixture.test_e_step import model_of


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
    assert one.n_parameters == model.parameters().n_parameters
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
    found = SelectionLeaf(split)(blocks, tuple(model for model, _ in models))
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
    assert found.best.fit_report_.n_passes >= max(c.n_readings for c in found.candidates)
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
    assert lines[2].startswith("*")
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
        ({"n_components": [5000]}, "n_samples = 4000"),
    ],
)
def test_mistakes_are_named(keywords, message, rows):
    with pytest.raises(InputError, match=message):
        search(rows, **{"n_components": [2], **keywords})


def test_it_is_public():
    assert streamgmm.search is search
    assert "SearchResult" in streamgmm.__all__
