"""Scores and curvature are derivatives of the log-density; the errors that follow are those of a bootstrap."""

import numpy as np
import pytest

from streamgmm import GaussianMixture, load, save
from streamgmm.exceptions import InputError
from streamgmm.gaussian.curvature import sum_scores
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.fisher import FisherScores
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.information import MOST_PARAMETERS, rows_affordable
from tests.helpers import FAMILY_NAMES


def mixture(kind, rng, n_components=3, n_features=3):
    """Some mixture whose components overlap."""
    roots = rng.normal(size=(n_components, n_features, n_features))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(n_features)
    of_kind = {
        "full": covariances,
        "tied": covariances[0],
        "diag": np.stack([np.diag(one) for one in covariances]),
        "spherical": np.trace(covariances, axis1=1, axis2=2) / n_features,
    }[kind]
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = 2.0 * rng.normal(size=(n_components, n_features))
    return MixtureParameters.from_covariances(kind, weights, means, of_kind)


def moved(parameters, step):
    """The mixture a step further, in the coordinates of the scores: the definition."""
    scores = FisherScores(parameters)
    n_components, n_features = parameters.means.shape
    others = [k for k in range(n_components) if k != scores.reference]
    alpha = np.log(parameters.weights)
    alpha[others] += step[scores.groups["weights"]]
    weights = np.exp(alpha) / np.exp(alpha).sum()
    lower = np.linalg.cholesky(parameters.full_covariances())
    of_means = step[scores.groups["means"]].reshape(n_components, n_features)
    means = parameters.means + np.einsum("kij,kj->ki", lower, of_means)
    shared = parameters.family.shared
    of_covariances = step[scores.groups["covariances"]].reshape(1 if shared else n_components, -1)

    def covariance(k):
        if parameters.covariance_type in ("diag", "spherical"):
            return parameters.covariances[k] * (1.0 + np.squeeze(of_covariances[k]))
        b = np.eye(n_features)
        rows, columns = np.triu_indices(n_features)
        np.add.at(b, (rows, columns), of_covariances[k])
        off = rows != columns
        b[columns[off], rows[off]] = of_covariances[k][off]
        return lower[k] @ b @ lower[k].T

    covariances = covariance(0) if shared else np.stack([covariance(k) for k in range(n_components)])
    return MixtureParameters.from_covariances(parameters.covariance_type, weights, means, covariances)


@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_scores_and_curvature_are_derivatives(kind, rng):
    parameters = mixture(kind, rng)
    scores = FisherScores(parameters)
    x, weight = 3.0 * rng.normal(size=(9, 3)), rng.uniform(0.5, 2.0, 9)
    n = scores.n_parameters
    assert n == parameters.n_parameters

    def log_prob(step):
        return evaluate(x, moved(parameters, step), log_prob=True).log_prob

    steps = 1e-5 * np.eye(n)
    numerical = np.stack([(log_prob(step) - log_prob(-step)) / 2e-5 for step in steps], axis=1)
    np.testing.assert_allclose(scores.of(x), numerical, atol=1e-7)
    sums = sum_scores(scores, x, weight)
    np.testing.assert_allclose(sums.scores, weight @ numerical, atol=1e-6)
    np.testing.assert_allclose(sums.products, (numerical.T * weight) @ numerical, atol=1e-4)
    steps = 2e-4 * np.eye(n)
    curvature = np.array(
        [
            [
                -weight @ (log_prob(a + b) - log_prob(a - b) - log_prob(b - a) + log_prob(-a - b)) / (4 * 2e-4**2)
                for b in steps
            ]
            for a in steps
        ]
    )
    np.testing.assert_allclose(sums.curvature, curvature, atol=1e-5 * np.abs(curvature).max())


@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_jacobians_lead_to_the_parameters(kind, rng):
    parameters = mixture(kind, rng)
    scores = FisherScores(parameters)
    for group, k, jacobian in scores.jacobians():
        place = scores.places(group, k)
        for column, at in enumerate(range(place.start, place.stop)):
            step = np.zeros(scores.n_parameters)
            step[at] = 1e-5
            one, other = moved(parameters, step), moved(parameters, -step)
            change = (getattr(one, group) - getattr(other, group)) / 2e-5
            if group != "weights" and not (group == "covariances" and parameters.family.shared):
                change = change[k]
            if group == "covariances" and kind in ("full", "tied"):
                change = change[np.triu_indices(3)]
            np.testing.assert_allclose(jacobian[:, column], np.atleast_1d(change), atol=1e-8)


def rows_of(separation, n, rng):
    kind = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    means = np.array([[0.0, 0.0], [separation, 0.0], [0.0, separation]])
    roots = np.array([np.linalg.cholesky(s * np.eye(2) + 0.3) for s in (1.0, 0.5, 2.0)])
    return means[kind] + np.einsum("nij,nj->ni", roots[kind], rng.normal(size=(n, 2)))


SLOW = pytest.mark.slow
BOOTSTRAPPED = [
    pytest.param(kind, separation, marks=() if (kind, separation) in (("full", 3.0), ("tied", 8.0)) else SLOW)
    for kind in FAMILY_NAMES
    for separation in (3.0, 8.0)
]


@pytest.mark.parametrize(("kind", "separation"), BOOTSTRAPPED)
def test_standard_errors_are_those_of_a_bootstrap(kind, separation, rng):
    """Of a family that holds the rows' own, and of families that don't.

    200 fits tell a deviation to 5 %, and those of several parameters are wrong together.
    """
    x = rows_of(separation, 5000, rng)
    options = {"covariance_type": kind, "random_state": 0, "tol": 1e-8, "max_iter": 500}
    model = GaussianMixture(3, init_params="kmeans", **options).fit(x)
    start = {"weights_init": model.weights_, "means_init": model.means_, "precisions_init": model.precisions_}
    again = [GaussianMixture(3, **options, **start).fit(x[rng.integers(0, len(x), len(x))]) for _ in range(200)]
    found = model.standard_errors_
    logarithms = []
    for name in ("weights", "means", "covariances"):
        expected = np.std([getattr(one, f"{name}_") for one in again], axis=0, ddof=1)
        assert getattr(found, name).shape == expected.shape
        logarithms.append(np.log(getattr(found, name) / expected).ravel())
    ratios = np.concatenate(logarithms)
    assert np.abs(ratios).max() < 0.25
    assert np.sqrt((ratios**2).mean()) < 0.1


def test_they_follow_the_units_the_order_and_the_weights(rng):
    x = rows_of(4.0, 3000, rng)
    options = {"n_components": 3, "random_state": 0, "init_params": "kmeans", "tol": 1e-8}
    model = GaussianMixture(**options).fit(x)
    scale = np.array([1e6, 1e-3])
    other = GaussianMixture(**options).fit(x * scale)
    one, two = model.standard_errors_, other.standard_errors_
    np.testing.assert_allclose(two.weights, one.weights, rtol=1e-3)
    np.testing.assert_allclose(two.means, one.means * scale, rtol=1e-3)
    np.testing.assert_allclose(two.covariances, one.covariances * np.outer(scale, scale), rtol=1e-3)
    # The same rows four times: half of the error.
    twice = GaussianMixture(**options).fit(x, sample_weight=np.full(len(x), 4.0)).standard_errors_
    np.testing.assert_allclose(twice.means, one.means / 2.0, rtol=1e-3)
    assert twice.n_rows == 4 * len(x)
    turned = model.reorder([2, 0, 1]).standard_errors_
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(turned, name), getattr(one, name)[[2, 0, 1]], rtol=1e-9)


@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_model_files_keep_them(kind, rng, tmp_path):
    model = GaussianMixture(3, covariance_type=kind, random_state=0, init_params="kmeans").fit(rows_of(4.0, 2000, rng))
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(
            getattr(loaded.standard_errors_, name), getattr(model.standard_errors_, name), err_msg=name
        )
    assert loaded.standard_errors_.n_rows == 2000
    save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_what_a_file_says_of_it_is_checked(rng, tmp_path):
    from streamgmm.export.information import pack_information, unpack_information

    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(rows_of(4.0, 500, rng))
    n = model._parameters().n_parameters
    header, arrays = pack_information(model.information_)
    assert unpack_information(header, arrays, n, 2).n_rows == 500
    assert unpack_information({}, {}, n, 2) is None
    of = header["information"]
    for said, found, match in (
        ([], arrays, "expected an object"),
        (of, arrays | {"ranges": arrays["ranges"][:1]}, "ranges is not of shape"),
        (of, arrays | {"score_mean": arrays["score_mean"] * np.nan}, "score_mean is not"),
        (of, arrays | {"score_curvature": arrays["score_curvature"] * 2.0}, "checksum"),
        (of | {"n_rows": -1}, arrays, "numbers above 0"),
        (of | {"n_sampled": 1.5}, arrays, "numbers above 0"),
    ):
        with pytest.raises(InputError, match=match):
            unpack_information({"information": said}, found, n, 2)


def test_what_the_rows_do_not_tell_has_no_finite_error(rng):
    x = rows_of(5.0, 3000, rng)
    x = np.column_stack([np.ones(len(x)), x])
    found = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x).standard_errors_
    assert np.isinf(found.covariances[:, 0, 0]).all()
    assert np.isfinite(found.covariances[:, 1:, 1:]).all()
    assert np.isfinite(found.means).all()
    assert np.isfinite(found.weights).all()


def test_models_without_rows_say_what_to_do(rng):
    x = rows_of(5.0, 2000, rng)
    made = GaussianMixture.from_parameters([1.0], [[0.0, 0.0]], [1.0], covariance_type="spherical")
    with pytest.raises(AttributeError, match="estimate_standard_errors"):
        _ = made.standard_errors_
    assert made.estimate_standard_errors(x).standard_errors_.means.shape == (1, 2)
    with pytest.raises(InputError, match="n_samples must be 1 or more"):
        made.estimate_standard_errors(x, n_samples=0)
    wide = GaussianMixture.from_parameters([1.0], [np.zeros(100)], [np.eye(100)])
    assert wide._parameters().n_parameters > MOST_PARAMETERS
    with pytest.raises(InputError, match="5150 parameters"):
        wide.estimate_standard_errors(np.zeros((10, 100)))


def test_a_fit_spends_little_on_them():
    assert rows_affordable(17, 100) == 100
    assert rows_affordable(17, 10**6) == 20_000
    assert rows_affordable(300, 10**6) == 11_111
    assert rows_affordable(2000, 10**6) == 0
