"""Drift: whether new rows come from the mixture that a model was fitted to, and what has changed if they don't.

One reading of the new rows gives the mean of their scores, the gradient of their log-likelihood at the model. Where
they come from the same distribution as the rows of the fit, whatever that is, its difference d to the mean score of
the n_s rows by which the fit's information was estimated is nearly normal, with covariance J (1 / n + 1 / n_s), J being
the covariance of one row's scores. So

    d' J^-1 d / (1 / n + 1 / n_s)

has Hotelling's distribution, for all parameters and for any group of them: the score test (Rao, Proc. Camb. Phil. Soc.
44, 1948), which takes the fit's own uncertainty into account and needs no mixture to be true. A Newton step, H^-1 d
with the curvature H, is by how much a fit to the new rows would differ, and d' H^-1 d / 2 what it would gain, nats per
row. With many rows the least change is significant: a gain says whether it matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, stats

from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.fisher import FisherScores
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.calibration import Calibration
from streamgmm.predict.information import Information, invert_curvature
from streamgmm.sources.base import Block, Provenance, Rows
from streamgmm.typing import Floats, Integers

#: Rows that are evaluated at once.
_PIECE_ROWS = 16_384
#: Directions in which scores vary less than this share of the others say nothing.
_NO_VARIANCE = 1e-10


@dataclass(frozen=True)
class DriftTest:
    """A test of one group of parameters.

    Attributes
    ----------
    group : str
        "weights", "means" or "covariances"; or a feature.
    statistic : float
        Hotelling's, nearly a chi-square with as many degrees of freedom as parameters.
    n_parameters : int
    p_value : float
        Of this test alone.
    p_adjusted : float
        With regard to the others of its kind (Holm 1979).
    """

    group: str
    statistic: float
    n_parameters: int
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class DriftReport:
    """How new rows differ from those that a model was fitted to.

    Attributes
    ----------
    drifted : bool
        Whether `p_value` is under `level`, and `gain` at least `min_gain`.
    p_value : float
        Of the three groups of parameters together (Sidak's): under it only by chance where nothing has changed.
    gain : float
        What a fit to the new rows would gain on them, beyond what chance alone gives, nats per row; at least 0.
    level, min_gain : float
    tests : tuple of DriftTest
        Of the weights, the means and the covariances.
    features : tuple of DriftTest
        Of each feature: its means and variances in all components.
    n_rows : float
        Sum of the weights of the new rows.
    n_missing : int
        Rows among them with a missing value; they are in no test.
    n_outside : int
        Rows with a value outside of the range that its feature had in the fit.
    outside : ndarray of shape (n_features,), int64
        The same for each feature.
    weights : ndarray of shape (n_components,), float64
        Shares of the components in the new rows, by the responsibilities under the model.
    weight_errors : ndarray of shape (n_components,), float64
        Standard errors of their differences to the model's weights.
    mean_shifts : ndarray of shape (n_components, n_features), float64
        By how much the means of a fit to the new rows would differ, in the data's units.
    mean_shift_errors : ndarray of shape (n_components, n_features), float64
        Standard errors of these.
    levels : ndarray of shape (n,), float64
        Shares of the rows of the fit that had a log-density of at most `log_densities`.
    log_densities : ndarray of shape (n,), float64
        Nats.
    shares : ndarray of shape (n,), float64
        Shares of the new rows that have.
    """

    drifted: bool
    p_value: float
    gain: float
    level: float
    min_gain: float
    tests: tuple[DriftTest, ...]
    features: tuple[DriftTest, ...]
    n_rows: float
    n_missing: int
    n_outside: int
    outside: Integers
    weights: Floats
    weight_errors: Floats
    mean_shifts: Floats
    mean_shift_errors: Floats
    levels: Floats
    log_densities: Floats
    shares: Floats


@dataclass(frozen=True)
class _Examined:
    """Sums over new rows; adds up with `+`."""

    scores: Floats
    resp: Floats
    weight: float
    n_missing: int
    n_outside: int
    outside: Integers
    below: Floats

    def __add__(self, other: _Examined) -> _Examined:
        return _Examined(
            self.scores + other.scores,
            self.resp + other.resp,
            self.weight + other.weight,
            self.n_missing + other.n_missing,
            self.n_outside + other.n_outside,
            self.outside + other.outside,
            self.below + other.below,
        )


@dataclass(frozen=True)
class _Examine:
    """A block function that sums up what the tests need."""

    missing: str
    provenance: Provenance
    ranges: Floats
    log_densities: Floats

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> _Examined:
        scores = FisherScores(parameters)
        n_features = parameters.n_features
        total = _Examined(
            np.zeros(scores.n_parameters), np.zeros(parameters.n_components), 0.0, 0, 0,
            np.zeros(n_features, dtype=np.int64), np.zeros(len(self.log_densities)),
        )  # fmt: skip
        for block in blocks:
            for piece in block.pieces(_PIECE_ROWS):
                total += self._examine(piece, parameters, scores)
        return total

    def _examine(self, piece: Block, parameters: MixtureParameters, scores: FisherScores) -> _Examined:
        x = np.asarray(piece.x, dtype=np.float64)
        weight = np.ones(len(x)) if piece.sample_weight is None else np.asarray(piece.sample_weight, dtype=np.float64)
        present = weight > 0.0
        known = np.isfinite(x).all(axis=1)
        n_missing = int((present & ~known).sum())
        if n_missing and self.missing == "raise":
            row = piece.start + int(np.argmax(present & ~known))
            raise self.provenance.missing_values_error(row, None, n_missing, of_all=False)
        x, weight = np.ascontiguousarray(x[known & present]), weight[known & present]
        found = evaluate(x, parameters, resp=True, log_prob=True)
        resp = found.resp * weight[:, np.newaxis]
        outside = (x < self.ranges[0]) | (x > self.ranges[1])
        order = np.argsort(found.log_prob)
        until = np.concatenate([[0.0], np.cumsum(weight[order])])
        places = np.searchsorted(found.log_prob[order], self.log_densities, side="right")
        return _Examined(
            scores.total(x, resp), resp.sum(axis=0), float(weight.sum()), n_missing, int(outside.any(axis=1).sum()),
            outside.sum(axis=0), until[places],
        )  # fmt: skip


def find_drift(
    rows: Rows,
    parameters: MixtureParameters,
    information: Information,
    calibration: Calibration,
    names: Sequence[str],
    *,
    missing: str,
    level: float,
    min_gain: float,
) -> DriftReport:
    """Read new rows once, and compare them with those that a mixture was fitted to."""
    examine = _Examine(missing, rows.provenance, information.ranges, calibration.log_densities)
    found: _Examined = run_pass(rows, examine, parameters)
    scores = FisherScores(parameters)
    difference = found.scores / found.weight - information.mean
    noise = 1.0 / found.weight + 1.0 / information.n_sampled
    tests = _adjusted(
        [
            _test(group, difference[place], information.products[place, place], noise, information.n_sampled)
            for group, place in scores.groups.items()
            if place.stop > place.start
        ]
    )
    smallest = min(test.p_value for test in tests)
    p_value = -float(np.expm1(len(tests) * np.log1p(-smallest))) if smallest < 1.0 else 1.0
    _, inverse = invert_curvature(information.curvature)
    step = inverse @ difference
    # What chance alone would gain is taken off.
    chance = float((inverse * information.products.T).sum()) * noise
    gain = max(0.0, 0.5 * float(difference @ step) - 0.5 * chance)
    covariance = inverse @ information.products @ inverse * noise
    means, errors = _shifts(scores, step, covariance)
    features = _adjusted(
        [
            _test(name, shift, of_shift, 1.0, information.n_sampled)
            for name, (shift, of_shift) in zip(names, _by_feature(scores, step, covariance), strict=True)
        ]
    )
    shares = found.resp / found.weight
    spread = _responsibility_variances(scores, information)
    return DriftReport(
        bool(p_value < level and gain >= min_gain), p_value, gain, level, min_gain, tests, features, found.weight,
        found.n_missing, found.n_outside, found.outside, shares, np.sqrt(spread * noise), means, errors,
        calibration.levels, calibration.log_densities, found.below / found.weight,
    )  # fmt: skip


def _test(group: str, difference: Floats, covariance: Floats, noise: float, n_sampled: int) -> DriftTest:
    """Test whether a difference is more than chance, by Hotelling's distribution."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    varies = scale > 0.0
    part = np.ix_(varies, varies)
    values, vectors = linalg.eigh(covariance[part] / np.outer(scale[varies], scale[varies])) if varies.any() else (
        np.empty(0), np.empty((0, 0)),
    )  # fmt: skip
    known = values > _NO_VARIANCE * max(float(values[-1]) if len(values) else 0.0, 0.0)
    along = vectors[:, known].T @ (difference[varies] / scale[varies])
    statistic = float((along**2 / values[known]).sum() / noise)
    n = int(known.sum())
    if n == 0:
        return DriftTest(group, 0.0, 0, 1.0, 1.0)
    if n_sampled > n + 1:
        p_value = float(stats.f.sf(statistic * (n_sampled - n) / (n * (n_sampled - 1)), n, n_sampled - n))
    else:
        p_value = 1.0
    return DriftTest(group, statistic, n, p_value, p_value)


def _adjusted(tests: list[DriftTest]) -> tuple[DriftTest, ...]:
    """Adjust p-values for the number of tests, by Holm's method (Scand. J. Statist. 6, 1979)."""
    order = np.argsort([test.p_value for test in tests], kind="stable")
    adjusted, highest = [1.0] * len(tests), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(tests) - place) * tests[number].p_value))
        adjusted[number] = highest
    return tuple(replace(test, p_adjusted=p) for test, p in zip(tests, adjusted, strict=True))


def _shifts(scores: FisherScores, step: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Return by how much a step moves the means, and the standard errors, in the data's units."""
    shape = scores.parameters.means.shape
    means, errors = np.empty(shape), np.empty(shape)
    for group, k, jacobian in scores.jacobians():
        if group == "means":
            place = scores.places(group, k)
            means[k] = jacobian @ step[place]
            errors[k] = np.sqrt(((jacobian @ covariance[place, place]) * jacobian).sum(axis=1))
    return means, errors


def _by_feature(scores: FisherScores, step: Floats, covariance: Floats) -> list[tuple[Floats, Floats]]:
    """Give, for each feature, by how much its means and variances move, and the covariance of that."""
    parameters = scores.parameters
    n_features = parameters.n_features
    rows: list[list[Floats]] = [[] for _ in range(n_features)]
    kind = parameters.covariance_type
    for group, k, jacobian in scores.jacobians():
        if group == "weights":
            continue
        whole = np.zeros((len(jacobian), scores.n_parameters))
        whole[:, scores.places(group, k)] = jacobian
        if group == "covariances" and kind in ("full", "tied"):
            upper = np.triu_indices(n_features)
            whole = whole[upper[0] == upper[1]]
        for j in range(n_features):
            rows[j].append(whole[0] if len(whole) == 1 else whole[j])
    found = []
    for of_feature in rows:
        matrix = np.stack(of_feature)
        found.append((matrix @ step, matrix @ covariance @ matrix.T))
    return found


def _responsibility_variances(scores: FisherScores, information: Information) -> Floats:
    """Return the variance of each component's responsibility over the rows of the fit."""
    place = scores.groups["weights"]
    n = scores.parameters.n_components
    others = np.delete(np.arange(n), scores.reference)
    variances = np.empty(n)
    of_others = information.products[place, place]
    variances[others] = np.diag(of_others)
    # Responsibilities sum to 1: that of the largest varies as the sum of the others does.
    variances[scores.reference] = of_others.sum()
    return np.maximum(variances, 0.0)
