"""The E-step on a set of rows: which kernel, its parameters laid out for it, and the call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamgmm.gaussian.centered import CenteredMixture
from streamgmm.gaussian.covariances import FAMILIES, CovarianceFamily
from streamgmm.gaussian.far import evaluate_far, find_far_rows
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import EVALUATION_TOLERANCE, Kernel, bound_rounding
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.serialization import serializable
from streamgmm.typing import Floats, Integers, Rows

#: Rows that are converted at a time where the kernel can't read them as they are.
_CONVERTED_ROWS = 16_384


@serializable
@dataclass(frozen=True)
class PassModel:
    """A mixture as one pass needs it: all that is sent to the tasks.

    Attributes
    ----------
    parameters : MixtureParameters
        In whitened coordinates.
    whitening : Whitening
    kernel : Kernel
        The arithmetic of the pass.
    collect_scatter : bool
        Whether to collect sum w z z' too (tied covariances, first pass).
    n_unlikely : int
        How many of the rows with the lowest density to keep.
    """

    parameters: MixtureParameters
    whitening: Whitening
    kernel: Kernel
    collect_scatter: bool = False
    n_unlikely: int = 0


@dataclass(frozen=True)
class _Layout:
    """One kernel call's arguments: the whitening, the parameters packed for the tiles, the workspace."""

    whitening: tuple[Floats, Floats, Floats]
    theta: Rows
    n_components: int
    n_left: int
    squares: int
    left: Integers
    right: Integers
    workspace: tuple[Rows, Rows, Rows, Rows, Rows]


def _layout(family: CovarianceFamily, theta: Floats, whitening: Whitening, dtype: type) -> _Layout:
    from streamgmm.gaussian.kernels import block, tiles

    n_features = whitening.n_features
    n_left, n_factors = family.n_factors(n_features)
    left, right = family.factor_pairs(n_features)
    n_padding = -len(left) % tiles.TILE_FEATURES
    padding = np.zeros(n_padding, dtype=np.int64)
    if whitening.matrix is None:
        assert whitening.scale is not None
        matrix, scale = np.empty(0), whitening.scale
    else:
        # One more column, for the factor 1 that the tiles expect in front.
        matrix = block.packed(np.hstack([np.zeros((n_features, 1)), whitening.matrix]), np.float64)
        scale = np.empty(0)
    workspace = (
        block.aligned(1 + n_features, np.float64),
        block.aligned(block.padded_size(n_features) if whitening.matrix is not None else 0, np.float64),
        block.aligned(n_factors, dtype),
        block.aligned(block.padded_size(len(theta)), dtype),
        block.aligned(3, np.float64),
    )
    return _Layout(
        (whitening.center, scale, matrix),
        block.packed(theta, dtype),
        len(theta),
        n_left,
        family.squares,
        np.concatenate([left, padding]),
        np.concatenate([right, padding]),
        workspace,
    )


def _readable(x: Rows, sample_weight: Rows | None) -> Iterator[tuple[int, Rows, Floats]]:
    """Give the rows in pieces that the kernel can read: row-major float64 or float32, float64 weights."""
    as_they_are = x.dtype in (np.float64, np.float32) and x.flags.c_contiguous and x.dtype.isnative
    step = max(len(x), 1) if as_they_are else _CONVERTED_ROWS
    dtype = kernel_dtype(x.dtype)
    for start in range(0, len(x), step):
        piece: Rows = np.ascontiguousarray(x[start : start + step], dtype=dtype)
        if sample_weight is None:
            weight = np.empty(0)
        else:
            weight = np.ascontiguousarray(sample_weight[start : start + step], dtype=np.float64)
        yield start, piece, weight


def check_rows(x: Rows, n_features: int, *, sample_weight: Rows | None = None, log_prob: Floats | None = None) -> None:
    """Raise ValueError unless rows are (n, n_features), and weights and a result (n,)."""
    if x.ndim != 2 or x.shape[1] != n_features:
        raise ValueError(f"x has shape {x.shape}; the mixture has {n_features} features: expected (n, {n_features})")
    for name, one in (("sample_weight", sample_weight), ("log_prob", log_prob)):
        if one is not None and one.shape != (len(x),):
            raise ValueError(f"{name} has shape {one.shape}; expected ({len(x)},), one for each row")


def kernel_dtype(dtype: np.dtype[Any]) -> type:
    """Return the smallest of float32 and float64 that holds every value of a dtype."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


def e_step(
    x: Rows, sample_weight: Rows | None, model: PassModel, log_prob: Floats | None = None
) -> SufficientStatistics:
    """Compute the sufficient statistics of rows under a mixture.

    Parameters
    ----------
    x : ndarray of shape (n, n_features)
        Rows in the data's coordinates, of any real dtype and layout.
    sample_weight : ndarray of shape (n,), or None
        Weights of the rows; one of weight 0 is absent.
    model : PassModel
    log_prob : ndarray of shape (n,), float64, optional
        To write each row's log-density in whitened coordinates to, nats; infinity for rows that do not count.

    Returns
    -------
    SufficientStatistics
        In whitened coordinates. The log-likelihood is that of z; log |det A| per row is still to be added.
    """
    check_rows(x, model.whitening.n_features, sample_weight=sample_weight, log_prob=log_prob)
    if model.kernel.is_centered:
        return CenteredMixture(model.parameters, model.whitening).e_step(x, sample_weight, log_prob)
    parameters = model.parameters
    dtype = model.kernel.dtype
    statistics = _accumulate(
        x, sample_weight, parameters.family, parameters.natural_parameters(), model.whitening, dtype, log_prob
    )
    if log_prob is not None and parameters.family.shared:
        # The quadratic term that the logits of tied covariances leave out.
        z = model.whitening.whiten(np.where(np.isfinite(log_prob)[:, np.newaxis], x, model.whitening.center))
        log_prob -= 0.5 * ((z @ parameters.precisions_cholesky) ** 2).sum(axis=1)
    if model.collect_scatter:
        statistics = replace(statistics, scatter=scatter(x, sample_weight, model.whitening))
    return statistics


def scatter(x: Rows, sample_weight: Rows | None, whitening: Whitening) -> Floats:
    """Compute sum w z z' of rows, shape (n_features, n_features): the statistics of one component that has all rows."""
    full, n_features = FAMILIES["full"], whitening.n_features
    check_rows(x, n_features, sample_weight=sample_weight)
    theta = np.zeros((1, full.n_terms(n_features)))
    statistics = _accumulate(x, sample_weight, full, theta, whitening, np.float64)
    rows, columns = np.triu_indices(n_features)
    matrix = np.empty((n_features, n_features))
    matrix[rows, columns] = matrix[columns, rows] = statistics.sums[0, 1 + n_features :]
    return matrix


def _accumulate(
    x: Rows,
    sample_weight: Rows | None,
    family: CovarianceFamily,
    theta: Floats,
    whitening: Whitening,
    dtype: type,
    log_prob: Floats | None = None,
) -> SufficientStatistics:
    from streamgmm.gaussian import kernels

    layout = _layout(family, theta, whitening, dtype)
    n_components, n_columns = theta.shape
    sums = np.zeros((layout.workspace[3].shape[0], len(layout.left)))
    log_likelihood = sum_weight = 0.0
    n_missing, first_missing = 0, -1
    for start, piece, weight in _readable(x, sample_weight):
        piece_log_likelihood, piece_weight, piece_missing, piece_first = kernels.accumulate(
            piece,
            weight,
            *layout.whitening,
            layout.theta,
            layout.n_components,
            layout.n_left,
            layout.squares,
            layout.left,
            layout.right,
            n_columns,
            *layout.workspace,
            sums,
            np.empty(0) if log_prob is None else log_prob[start : start + len(piece)],
        )
        log_likelihood += piece_log_likelihood
        sum_weight += piece_weight
        if piece_missing and not n_missing:
            first_missing = start + piece_first
        n_missing += piece_missing
    return SufficientStatistics(
        np.ascontiguousarray(sums[:n_components, :n_columns]),
        np.zeros((n_components, whitening.n_features)),
        log_likelihood,
        sum_weight,
        n_missing,
        first_missing,
    )


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found for each row; parts that were not asked for are empty.

    Attributes
    ----------
    log_prob : ndarray of shape (n,), float64
        Log-density of each row in the data's coordinates, nats. NaN where a value is missing.
    resp : ndarray of shape (n, n_components), float64
        Responsibilities. NaN where a value is missing.
    labels : ndarray of shape (n,), int64
        The most probable component. -1 where a value is missing.
    n_missing, first_missing : int
        Count of the rows with a missing value, and the first of them (-1: none).
    """

    log_prob: Floats
    resp: Floats
    labels: Integers
    n_missing: int
    first_missing: int


def evaluate(
    x: Rows, parameters: MixtureParameters, *, log_prob: bool = False, resp: bool = False, labels: bool = False
) -> Evaluation:
    """Evaluate a mixture, given in the data's coordinates, at rows x of shape (n, n_features); always in float64."""
    check_rows(x, parameters.n_features)
    whitening = parameters.own_whitening()
    whitened = parameters.whiten(whitening)
    if log_prob and parameters.family.shared:
        # The quadratic term that tied logits leave out is part of the density.
        whitened = whitened.as_full()
    n, n_components = len(x), parameters.n_components
    out_log_prob = np.empty(n if log_prob else 0)
    out_resp = np.empty((n, n_components) if resp else (0, 0))
    out_labels = np.empty(n if labels else 0, dtype=np.int64)
    far = find_far_rows(x, parameters, whitening)
    if far is not None:
        beyond, x = x[far], np.where(far[:, np.newaxis], whitening.center, x)
    anywhere = np.full(whitening.n_features, np.inf)
    kernel = bound_rounding(whitened, anywhere).choose_kernel(float32_rows=False, tolerance=EVALUATION_TOLERANCE)
    if kernel.is_centered:
        n_missing, first = _evaluate_centered(x, whitened, whitening, out_log_prob, out_resp, out_labels)
    else:
        n_missing, first = _evaluate_fast(x, whitened, whitening, out_log_prob, out_resp, out_labels)
    out_log_prob += whitening.log_det
    if far is not None:
        far_log_prob, far_labels = evaluate_far(beyond, parameters)
        if log_prob:
            out_log_prob[far] = far_log_prob
        if resp:
            out_resp[far] = np.eye(n_components)[far_labels]
        if labels:
            out_labels[far] = far_labels
    return Evaluation(out_log_prob, out_resp, out_labels, n_missing, first)


def _evaluate_fast(
    x: Rows, parameters: MixtureParameters, whitening: Whitening, log_prob: Floats, resp: Floats, labels: Integers
) -> tuple[int, int]:
    from streamgmm.gaussian import kernels

    layout = _layout(parameters.family, parameters.natural_parameters(), whitening, np.float64)
    n_missing, first_missing = 0, -1
    for start, piece, _ in _readable(x, None):
        rows = slice(start, start + len(piece))
        piece_missing, piece_first = kernels.evaluate(
            piece,
            *layout.whitening,
            layout.theta,
            layout.n_components,
            layout.n_left,
            layout.squares,
            parameters.family.n_terms(whitening.n_features),
            *layout.workspace,
            log_prob[rows],
            resp[rows],
            labels[rows],
        )
        if piece_missing and not n_missing:
            first_missing = start + piece_first
        n_missing += piece_missing
    return n_missing, first_missing


def _evaluate_centered(
    x: Rows, parameters: MixtureParameters, whitening: Whitening, log_prob: Floats, resp: Floats, labels: Integers
) -> tuple[int, int]:
    mixture = CenteredMixture(parameters, whitening)
    finite = np.asarray(np.isfinite(x).all(axis=1))
    for start, piece, _ in _readable(x, None):
        for inner in range(0, len(piece), 2048):
            rows = slice(start + inner, start + min(inner + 2048, len(piece)))
            known = finite[rows]
            logits = mixture.weighted_log_prob(np.where(known[:, np.newaxis], piece[inner : inner + 2048], 0.0))
            total = np.logaddexp.reduce(logits, axis=1)
            if len(log_prob):
                log_prob[rows] = np.where(known, total, np.nan)
            if len(resp):
                resp[rows] = np.where(known[:, np.newaxis], np.exp(logits - total[:, np.newaxis]), np.nan)
            if len(labels):
                labels[rows] = np.where(known, logits.argmax(axis=1), -1)
    n_missing = int((~finite).sum())
    return n_missing, int(np.argmin(finite)) if n_missing else -1
