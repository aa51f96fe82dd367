"""Rows so far from a mixture that their distance, squared, is no number of float64 any more.

With t the largest value of a row and y = x / t, the logits are a t^2 + b t + c with a = -y' P y / 2, b = y' P mu and
c the rest: powers of t so far apart that the first one that differs decides. One component answers for the row, and the
log-density is minus infinity where it is under what float64 holds.
"""

import numpy as np
import numpy.typing as npt

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.whitening import Whitening
from streamgmm.typing import Floats, Integers, Rows

#: Distances, in standard deviations of the data and of the tightest component, up to which the kernels' sums of squares
#: hold.
_LARGEST_DISTANCE = 1e120


def find_far_rows(x: Rows, parameters: MixtureParameters, whitening: Whitening) -> npt.NDArray[np.bool_] | None:
    """Tell which rows are too far for the kernels from a mixture in the data's coordinates; None where none is."""
    if whitening.scale is not None:
        stretch = float(np.abs(whitening.scale).max())
    else:
        assert whitening.matrix is not None
        stretch = float(np.abs(whitening.matrix).sum(axis=1).max())
    stretch = max(stretch, whitening.n_features * float(np.abs(parameters.precisions_cholesky).max()))
    largest = _LARGEST_DISTANCE / stretch - float(np.abs(whitening.center).max())
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else None
    if limits is not None and float(limits.max) <= largest:
        return None
    if limits is None and (x.dtype.kind == "b" or float(np.iinfo(x.dtype).max) <= largest):
        return None
    far = np.asarray((np.abs(x) > largest).any(axis=1) & np.isfinite(x).all(axis=1))
    return far if far.any() else None


def evaluate_far(x: Rows, parameters: MixtureParameters) -> tuple[Floats, Integers]:
    """Return log-density (nats) and most probable component of far rows, in the data's coordinates."""
    x = np.asarray(x, dtype=np.float64)
    scale = np.abs(x).max(axis=1)
    y = x / scale[:, np.newaxis]
    n, n_components = len(x), parameters.n_components
    factors = parameters.full_precisions_cholesky()
    log_det = parameters.family.log_det_precisions_cholesky(parameters.precisions_cholesky, parameters.n_features)
    constant = np.log(parameters.weights) + log_det - 0.5 * parameters.n_features * np.log(2.0 * np.pi)
    squares, linear, rest = (np.empty((n, n_components)) for _ in range(3))
    for k, (mean, factor) in enumerate(zip(parameters.means, factors, strict=True)):
        of_row, of_mean = y @ factor, mean @ factor
        squares[:, k] = -0.5 * (of_row**2).sum(axis=1)
        linear[:, k] = of_row @ of_mean
        rest[:, k] = constant[k] - 0.5 * float(of_mean @ of_mean)
    labels = np.array([np.lexsort(one)[-1] for one in np.stack([rest, linear, squares], axis=1)], dtype=np.int64)
    a, b, c = (one[np.arange(n), labels] for one in (squares, linear, rest))
    with np.errstate(over="ignore", invalid="ignore"):
        log_prob = (a * scale + b) * scale + c
    return np.where(np.isnan(log_prob), -np.inf, log_prob), labels
