"""The loop over blocks of rows: load and whiten, logits, softmax, statistics.

A block is `BLOCK_ROWS` rows, stored with features along the first axis and rows along the second, so that every inner
loop runs along rows. Sums over a block are formed in the products' precision and added to float64 totals.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.gaussian.kernels import tiles
from streamgmm.gaussian.kernels.compilation import compiled, inlined
from streamgmm.gaussian.kernels.elementwise import exp, log
from streamgmm.gaussian.kernels.tiles import (
    BLOCK_ROWS,
    LANES_FLOAT32,
    LANES_FLOAT64,
    LARGE_GROUP,
    SMALL_GROUP,
    STRIDE_FLOAT32,
    STRIDE_FLOAT64,
    TILE_FEATURES,
    TILE_VECTORS,
)

_product_large, _product_small = tiles.product_tile_large, tiles.product_tile_small
_statistics_large, _statistics_small = tiles.statistics_tile_large, tiles.statistics_tile_small

#: Parameters above this size (values, about half of a core's second-level cache) are read once per block; below it,
#: once per tile of rows, which leaves the first-level cache to the rows.
_THETA_IN_CACHE = 65_536

#: Responsibilities up to this are zero: their products would be denormal numbers, which processors take a hundred times
#: longer for.
SMALLEST_RESP_FLOAT64, SMALLEST_RESP_FLOAT32 = 1e-290, 1e-30

#: Which factors follow 1 and z in a block: none, the square of each feature, or the sum of the squares.
NO_SQUARES, EACH_SQUARE, SUM_OF_SQUARES = 0, 1, 2


def aligned(n_rows: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Allocate a block matrix of zeros, its rows one stride long, each beginning on a 64-byte boundary."""
    stride = STRIDE_FLOAT64 if np.dtype(dtype) == np.float64 else STRIDE_FLOAT32
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(n_rows * stride * itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_rows * stride * itemsize].view(dtype).reshape(n_rows, stride)


def packed(matrix: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Lay out the K x F parameters as the product tiles read them: group by group, in each feature by feature.

    Rows beyond K, up to a multiple of `SMALL_GROUP`, are zero.
    """
    n_rows, _ = matrix.shape
    padded = np.zeros((padded_size(n_rows), matrix.shape[1]), dtype=dtype)
    padded[:n_rows] = matrix
    groups = []
    start = 0
    while start < len(padded):
        size = LARGE_GROUP if len(padded) - start >= LARGE_GROUP else SMALL_GROUP
        groups.append(padded[start : start + size].T.ravel())
        start += size
    return np.concatenate(groups)


def padded_size(n_components: int) -> int:
    """Round a number of components up to a multiple of `SMALL_GROUP`."""
    return -(-n_components // SMALL_GROUP) * SMALL_GROUP


@compiled
def _product(
    z: Any, theta: Any, out: Any, n_left: int, n_factors: int, n_features: int, n_out: int, lanes: int
) -> None:
    """Out = theta @ phi for a block, tile by tile; the order of the tiles changes speed, never a bit."""
    n_large = n_out // LARGE_GROUP * LARGE_GROUP
    tile_rows = TILE_VECTORS * lanes
    if n_out * n_features <= _THETA_IN_CACHE:
        for row in range(0, BLOCK_ROWS, tile_rows):
            for k in range(0, n_large, LARGE_GROUP):
                _product_large(z, theta[k * n_features :], out, row, k, n_left, n_factors)
            for k in range(n_large, n_out, SMALL_GROUP):
                _product_small(z, theta[k * n_features :], out, row, k, n_left, n_factors)
    else:
        for k in range(0, n_large, LARGE_GROUP):
            for row in range(0, BLOCK_ROWS, tile_rows):
                _product_large(z, theta[k * n_features :], out, row, k, n_left, n_factors)
        for k in range(n_large, n_out, SMALL_GROUP):
            for row in range(0, BLOCK_ROWS, tile_rows):
                _product_small(z, theta[k * n_features :], out, row, k, n_left, n_factors)


@compiled
def _add_statistics(z: Any, resp: Any, left: Any, right: Any, sums: Any) -> None:
    """Add resp @ phi.T of a block to `sums`; the additions to `sums` are in float64."""
    n_out, n_features = sums.shape
    n_large = n_out // LARGE_GROUP * LARGE_GROUP
    tile = np.empty(LARGE_GROUP * TILE_FEATURES, dtype=z.dtype)
    for k in range(0, n_large, LARGE_GROUP):
        for f in range(0, n_features, TILE_FEATURES):
            _statistics_large(
                z, resp, tile, k, (left[f], left[f + 1], left[f + 2]), (right[f], right[f + 1], right[f + 2])
            )
            for m in range(LARGE_GROUP):
                for g in range(TILE_FEATURES):
                    sums[k + m, f + g] += tile[m * TILE_FEATURES + g]
    for k in range(n_large, n_out, SMALL_GROUP):
        for f in range(0, n_features, TILE_FEATURES):
            _statistics_small(
                z, resp, tile, k, (left[f], left[f + 1], left[f + 2]), (right[f], right[f + 1], right[f + 2])
            )
            for m in range(SMALL_GROUP):
                for g in range(TILE_FEATURES):
                    sums[k + m, f + g] += tile[m * TILE_FEATURES + g]


@compiled
def _load(
    x: Any,
    sample_weight: Any,
    start: int,
    n_rows: int,
    center: Any,
    scale: Any,
    whitening: Any,
    squares: int,
    centred: Any,
    whitened: Any,
    z: Any,
    weight: Any,
) -> tuple[int, int]:
    """Fill a block's factors z and its row weights; return the count of rows with a missing value, and the first.

    A row with weight 0, and one with a value that is NaN or infinite, gets weight 0 and the data's mean as its values,
    so that it adds nothing to any sum. Centring and whitening are done in float64.
    """
    n_features = x.shape[1]
    flag = centred[0]  # x * 0 is NaN where x is not finite; the row of ones is written over it below
    for r in range(BLOCK_ROWS):
        flag[r] = 0.0
    for j in range(n_features):
        c = center[j]
        for r in range(n_rows):
            value = np.float64(x[start + r, j])
            flag[r] += value * 0.0
            centred[1 + j, r] = value - c
        for r in range(n_rows, BLOCK_ROWS):
            centred[1 + j, r] = 0.0
    for r in range(n_rows):
        weight[r] = 1.0
    for r in range(n_rows, BLOCK_ROWS):
        weight[r] = 0.0
    if sample_weight.size:
        for r in range(n_rows):
            weight[r] = sample_weight[start + r]
    total = 0.0
    smallest = 1.0
    for r in range(n_rows):
        total += flag[r]
        smallest = min(smallest, weight[r])
    n_missing, first_missing = 0, -1
    if total != 0.0 or smallest <= 0.0:
        for r in range(n_rows):
            if weight[r] > 0.0 and flag[r] != 0.0:
                if n_missing == 0:
                    first_missing = start + r
                n_missing += 1
            if weight[r] <= 0.0 or flag[r] != 0.0:
                weight[r] = 0.0
                for j in range(n_features):
                    centred[1 + j, r] = 0.0
    for r in range(BLOCK_ROWS):
        centred[0, r] = 1.0
    if whitening.size:
        _product(
            centred,
            whitening,
            whitened,
            1,
            n_features + 1,
            n_features + 1,
            whitened.shape[0],
            LANES_FLOAT64,
        )
        for j in range(n_features):
            for r in range(BLOCK_ROWS):
                z[1 + j, r] = whitened[j, r]
    else:
        for j in range(n_features):
            s = scale[j]
            for r in range(BLOCK_ROWS):
                z[1 + j, r] = centred[1 + j, r] * s
    for r in range(BLOCK_ROWS):
        z[0, r] = 1.0
    if squares == EACH_SQUARE:
        for j in range(n_features):
            for r in range(BLOCK_ROWS):
                z[1 + n_features + j, r] = z[1 + j, r] * z[1 + j, r]
    elif squares == SUM_OF_SQUARES:
        for r in range(BLOCK_ROWS):
            z[1 + n_features, r] = 0.0
        for j in range(n_features):
            for r in range(BLOCK_ROWS):
                z[1 + n_features, r] += z[1 + j, r] * z[1 + j, r]
    return n_missing, first_missing


@inlined
def _softmax(logits: Any, n_components: int, log_prob: Any, total: Any) -> None:
    """Turn logits into exp(logit - max); leave their sum in `total`, and log sum exp(logit) in `log_prob`."""
    for r in range(BLOCK_ROWS):
        log_prob[r] = logits[0, r]
    for k in range(1, n_components):
        for r in range(BLOCK_ROWS):
            log_prob[r] = max(log_prob[r], np.float64(logits[k, r]))
    for r in range(BLOCK_ROWS):
        total[r] = 0.0
    for k in range(n_components):
        for r in range(BLOCK_ROWS):
            e = exp(logits[k, r] - log_prob[r])
            logits[k, r] = e
            total[r] += e
    for r in range(BLOCK_ROWS):
        log_prob[r] += log(total[r])


@compiled
def accumulate(
    x: Any,
    sample_weight: Any,
    center: Any,
    scale: Any,
    whitening: Any,
    theta: Any,
    n_components: int,
    n_left: int,
    squares: int,
    left: Any,
    right: Any,
    n_features: int,
    centred: Any,
    whitened: Any,
    z: Any,
    logits: Any,
    rows: Any,
    sums: Any,
    out_log_prob: Any,
) -> tuple[float, float, int, int]:
    """Add the statistics of all rows of x to `sums`; return log-likelihood, weight, missing rows, first missing row.

    Each row's log-density is written to `out_log_prob` where that is not empty; infinity for rows that do not count.
    """
    lanes = LANES_FLOAT64 if z.itemsize == 8 else LANES_FLOAT32
    smallest = SMALLEST_RESP_FLOAT64 if z.itemsize == 8 else SMALLEST_RESP_FLOAT32
    weight, log_prob, total = rows[0], rows[1], rows[2]
    n_padded = logits.shape[0]
    log_likelihood, sum_weight, n_missing, first_missing = 0.0, 0.0, 0, -1
    for start in range(0, x.shape[0], BLOCK_ROWS):
        n_rows = min(BLOCK_ROWS, x.shape[0] - start)
        n_bad, first_bad = _load(
            x, sample_weight, start, n_rows, center, scale, whitening, squares, centred, whitened, z, weight
        )
        if n_bad and n_missing == 0:
            first_missing = first_bad
        n_missing += n_bad
        _product(z, theta, logits, n_left, z.shape[0], n_features, n_padded, lanes)
        _softmax(logits, n_components, log_prob, total)
        for r in range(BLOCK_ROWS):
            log_likelihood += weight[r] * log_prob[r]
            sum_weight += weight[r]
        if out_log_prob.size:
            for r in range(n_rows):
                out_log_prob[start + r] = log_prob[r] if weight[r] > 0.0 else np.inf
        for r in range(BLOCK_ROWS):
            total[r] = weight[r] / total[r]
        for k in range(n_components):
            for r in range(BLOCK_ROWS):
                resp = logits[k, r] * total[r]
                logits[k, r] = resp if resp > smallest else 0.0
        for k in range(n_components, n_padded):
            for r in range(BLOCK_ROWS):
                logits[k, r] = 0.0
        _add_statistics(z, logits, left, right, sums)
    return log_likelihood, sum_weight, n_missing, first_missing


@compiled
def evaluate(
    x: Any,
    center: Any,
    scale: Any,
    whitening: Any,
    theta: Any,
    n_components: int,
    n_left: int,
    squares: int,
    n_features: int,
    centred: Any,
    whitened: Any,
    z: Any,
    logits: Any,
    rows: Any,
    out_log_prob: Any,
    out_resp: Any,
    out_labels: Any,
) -> tuple[int, int]:
    """Write each row's log-density, responsibilities and label where the array for it is not empty.

    Rows with a missing value get NaN and the label -1. Returns their count and the first.
    """
    weight, log_prob, total = rows[0], rows[1], rows[2]
    n_missing, first_missing = 0, -1
    no_weight = np.empty(0)
    for start in range(0, x.shape[0], BLOCK_ROWS):
        n_rows = min(BLOCK_ROWS, x.shape[0] - start)
        n_bad, first_bad = _load(
            x, no_weight, start, n_rows, center, scale, whitening, squares, centred, whitened, z, weight
        )
        if n_bad and n_missing == 0:
            first_missing = first_bad
        n_missing += n_bad
        _product(z, theta, logits, n_left, z.shape[0], n_features, logits.shape[0], LANES_FLOAT64)
        if out_labels.size:
            for r in range(n_rows):
                best = 0
                for k in range(1, n_components):
                    if logits[k, r] > logits[best, r]:
                        best = k
                out_labels[start + r] = best if weight[r] > 0.0 else -1
        if out_log_prob.size or out_resp.size:
            _softmax(logits, n_components, log_prob, total)
        if out_log_prob.size:
            for r in range(n_rows):
                out_log_prob[start + r] = log_prob[r] if weight[r] > 0.0 else np.nan
        if out_resp.size:
            for k in range(n_components):
                for r in range(n_rows):
                    out_resp[start + r, k] = logits[k, r] / total[r] if weight[r] > 0.0 else np.nan
    return n_missing, first_missing
