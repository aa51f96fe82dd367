"""Rows drawn from a mixture: any stretch of a sequence without end, the same however it is cut."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers

#: Random numbers that one step of Philox's counter gives.
_PER_STEP = 4
#: Rows that are drawn together.
_BLOCK = 1024


def uniforms(start: int, n_rows: int, n_columns: int, seed: int) -> Floats:
    """Return random numbers in (0, 1) for the rows from `start` on: each row has its own place in one stream.

    By the counter of Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) a stretch of the
    stream is there without those before it.
    """
    steps = -(-n_columns // _PER_STEP)
    generator = np.random.Philox(key=seed)
    generator.advance(start * steps)
    drawn = np.random.Generator(generator).random((n_rows, steps * _PER_STEP))[:, :n_columns]
    # 0 has no normal quantile; halfway to the next number is as likely as any.
    return np.maximum(drawn, 2.0**-54)


def choose(u: Floats, probabilities: Floats) -> Integers:
    """Return which of K things uniform numbers choose, by probabilities of shape (K,) or (n, K)."""
    cumulative = np.cumsum(np.broadcast_to(probabilities, (len(u), probabilities.shape[-1])), axis=1)
    below = (u[:, np.newaxis] * cumulative[:, -1:] >= cumulative).sum(axis=1)
    chosen: Integers = np.minimum(below, probabilities.shape[-1] - 1)
    return chosen


def draw_rows(parameters: MixtureParameters, start: int, n_rows: int, seed: int) -> tuple[Floats, Integers]:
    """Return rows `start` to `start + n_rows` of the sequence of a seed, and the component of each."""
    lower = np.linalg.cholesky(parameters.full_covariances()).astype(np.float64)
    first = start // _BLOCK
    # Whole blocks: a product of other shapes may round otherwise.
    blocks = [_draw_block(parameters, lower, number, seed) for number in range(first, -(-(start + n_rows) // _BLOCK))]
    wanted = slice(start - first * _BLOCK, start - first * _BLOCK + n_rows)
    return np.concatenate([x for x, _ in blocks])[wanted], np.concatenate([labels for _, labels in blocks])[wanted]


def draw_labels(parameters: MixtureParameters, start: int, n_rows: int, seed: int) -> Integers:
    """Return the components alone of what `draw_rows` returns."""
    return choose(uniforms(start, n_rows, 1 + parameters.n_features, seed)[:, 0], parameters.weights)


def _draw_block(parameters: MixtureParameters, lower: Floats, number: int, seed: int) -> tuple[Floats, Integers]:
    u = uniforms(number * _BLOCK, _BLOCK, 1 + parameters.n_features, seed)
    labels = choose(u[:, 0], parameters.weights)
    z = ndtri(u[:, 1:])
    x = np.empty_like(z)
    for k in range(parameters.n_components):
        of_component = labels == k
        x[of_component] = parameters.means[k] + z[of_component] @ lower[k].T
    return x, labels
