"""The rule that picks a kernel, against exact arithmetic: what it lets through is within its tolerance."""

import mpmath
import numpy as np
import pytest

from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.e_step import PassModel, e_step, evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import FLOAT32_TOLERANCE, FLOAT64_TOLERANCE, Kernel, amplification, bound_rounding


def exact_log_density(x, parameters):
    """log p(x) of one row with 60 digits, from the means and precision factors as they are."""
    with mpmath.workdps(60):
        terms = []
        factors = parameters.full_precisions_cholesky()
        for k in range(parameters.n_components):
            u = mpmath.matrix(factors[k].tolist())
            d = mpmath.matrix(
                [mpmath.mpf(float(a)) - mpmath.mpf(float(b)) for a, b in zip(x, parameters.means[k], strict=True)]
            )
            y = u.T * d
            log_det = sum(mpmath.log(u[i, i]) for i in range(len(x)))
            quadratic = sum(v * v for v in y)
            terms.append(
                mpmath.log(mpmath.mpf(float(parameters.weights[k])))
                + log_det
                - (len(x) * mpmath.log(2 * mpmath.pi) + quadratic) / 2
            )
        top = max(terms)
        return float(top + mpmath.log(sum(mpmath.exp(t - top) for t in terms)))


def case(name, rng):
    """Whitened parameters, and rows near them: tight, flat, far and collinear components."""
    n_features = 4
    means = rng.normal(size=(3, n_features))
    covariances = np.tile(np.eye(n_features), (3, 1, 1))
    if name == "tight":
        covariances[0] *= 1e-6
    elif name == "very tight":
        covariances[0] *= 1e-14
    elif name == "flat":
        root = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
        covariances[0] = root @ np.diag([1.0, 1.0, 1.0, 1e-7]) @ root.T
    elif name == "far":
        means[0] = 300.0
        covariances[0] *= 1e-2
    elif name == "collinear":
        direction = np.ones(n_features) / 2.0
        covariances[:] = 1e-4 * np.eye(n_features) + np.outer(direction, direction)
    parameters = MixtureParameters.from_covariances("full", np.array([0.2, 0.3, 0.5]), means, covariances)
    rows = np.concatenate(
        [
            m + rng.normal(size=(8, n_features)) @ np.linalg.cholesky(c).T
            for m, c in zip(means, covariances, strict=True)
        ]
    )
    return parameters, rows


IDENTITY = FAMILIES["full"].whitening(np.zeros(4), np.eye(4))


@pytest.mark.parametrize("name", ["round", "tight", "very tight", "flat", "far", "collinear"])
@pytest.mark.parametrize("float32_rows", [False, True])
def test_the_chosen_kernel_is_within_its_tolerance(name, float32_rows, rng):
    parameters, rows = case(name, rng)
    if float32_rows:
        rows = rows.astype(np.float32).astype(np.float64)
    reach = np.abs(rows).max(axis=0)
    kernel = bound_rounding(parameters, reach).choose_kernel(float32_rows=float32_rows)
    for row in rows:
        x = row[np.newaxis].astype(np.float32 if float32_rows else np.float64)
        found = e_step(x, None, PassModel(parameters, IDENTITY, kernel)).log_likelihood
        exact = exact_log_density(row, parameters)
        # The conversion of a row to whitened coordinates is exact here, so all error is the kernel's.
        tolerance = {Kernel.FLOAT32: FLOAT32_TOLERANCE, Kernel.FLOAT64: FLOAT64_TOLERANCE, Kernel.CENTERED: 1e-8}[
            kernel
        ]
        assert abs(found - exact) <= tolerance * max(1.0, abs(exact) * 1e-3)


def test_the_rule_takes_each_kernel_where_it_should(rng):
    round_one, rows = case("round", rng)
    reach = np.abs(rows).max(axis=0)
    assert bound_rounding(round_one, reach).choose_kernel(float32_rows=True) is Kernel.FLOAT32
    assert bound_rounding(round_one, reach).choose_kernel(float32_rows=False) is Kernel.FLOAT64
    tight, rows = case("tight", rng)
    assert bound_rounding(tight, np.abs(rows).max(axis=0)).choose_kernel(float32_rows=True) is Kernel.FLOAT64
    very_tight, rows = case("very tight", rng)
    assert bound_rounding(very_tight, np.abs(rows).max(axis=0)).choose_kernel(float32_rows=True) is Kernel.CENTERED


def test_amplification_grows_with_tightness(covariance_type):
    family = FAMILIES[covariance_type]
    reach = np.full(2, 50.0)
    factors = []
    for variance in (1.0, 1e-2, 1e-4):
        one = variance * family.identity(2)
        covariances = one if family.shared else np.stack([one, one])
        parameters = MixtureParameters.from_covariances(
            covariance_type, np.full(2, 0.5), np.array([[0.0, 40.0], [40.0, 0.0]]), covariances
        )
        factors.append(amplification(parameters, reach))
    assert factors[0] * 50 < factors[1]
    assert factors[1] * 50 < factors[2]


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4])
def test_nearly_collinear_features_cost_no_digits(spread, rng):
    """Eight features around one line: the error of a log-density stays far under what unwhitened products give."""
    n_features = 8
    x = rng.normal(size=(400, 1)) + spread * rng.normal(size=(400, n_features)) + 5.0
    covariance = np.cov(x.T, bias=True)
    parameters = MixtureParameters.from_covariances(
        "full", np.array([0.5, 0.5]), x[:2].copy(), np.stack([covariance, 0.5 * covariance])
    )
    found = evaluate(x[:10], parameters, log_prob=True).log_prob
    exact = np.array([exact_log_density(row, parameters) for row in x[:10]])
    assert np.abs(found - exact).max() < 1e-12 / spread**2 * 10


def test_densities_of_ill_conditioned_mixtures_are_right_to_1e_10():
    """Whitened by the whole mixture its components are not round: products would cancel."""
    rng = np.random.default_rng(0)
    factors = np.eye(20) + 0.25 * rng.normal(size=(30, 20, 20))
    parameters = MixtureParameters.from_covariances(
        "full", rng.dirichlet(np.ones(30)), rng.normal(size=(30, 20)), factors @ factors.transpose(0, 2, 1)
    )
    assert np.linalg.cond(parameters.covariances).max() > 1e5
    x = parameters.means[rng.integers(30, size=500)] + rng.normal(size=(500, 20))
    # In extended precision, of the same factors.
    u, weights = parameters.precisions_cholesky.astype(np.longdouble), parameters.weights.astype(np.longdouble)
    z = np.einsum("nkd,kde->nke", x[:, None].astype(np.longdouble) - parameters.means, u)
    log_det = np.log(np.diagonal(u, axis1=1, axis2=2)).sum(axis=1)
    logits = np.log(weights) + log_det - 10 * np.log(2 * np.longdouble(np.pi)) - 0.5 * (z**2).sum(axis=2)
    largest = logits.max(axis=1)
    expected = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    found = evaluate(x, parameters, log_prob=True).log_prob
    assert np.abs((found - expected) / expected).max() < 1e-12
