"""Block functions of conditional distributions: targets regressed on other features, missing entries filled in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from streamgmm.gaussian.conditional import Regression, regress
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.sampling import choose, draw_rows, uniforms
from streamgmm.gaussian.univariate import cumulative, quantile
from streamgmm.sources.base import Block, Provenance
from streamgmm.typing import Floats, Integers

#: Numbers that are at work for some rows at a time: 32 MB.
_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class Regress:
    """Evaluate the distribution of targets given other features, for rows of these or of all features.

    Attributes
    ----------
    what : str
        "mean", "covariance" or "quantiles".
    probabilities : tuple of float
        Of the quantiles.
    given : ndarray of int
        The given features, where a row has all.
    missing : str
        "raise", or "drop": NaN for a row whose given features have a missing value.
    provenance : Provenance
    """

    what: str
    probabilities: tuple[float, ...]
    given: Integers
    missing: str
    provenance: Provenance

    def n_columns(self, n_targets: int) -> int:
        """Return how many numbers there are for a row."""
        return n_targets * {"mean": 1, "covariance": n_targets, "quantiles": len(self.probabilities)}[self.what]

    def __call__(self, blocks: Iterable[Block], regression: Regression) -> Floats:
        n_numbers = regression.means.size * max(1, self.n_columns(regression.n_targets))
        pieces = (piece for block in blocks for piece in block.pieces(max(1, _AT_A_TIME // n_numbers)))
        return np.concatenate([self._piece(piece, regression) for piece in pieces])

    def _piece(self, block: Block, regression: Regression) -> Floats:
        n_given = regression.given.n_features
        x = np.asarray(block.x if block.x.shape[1] == n_given else block.x[:, self.given], dtype=np.float64)
        missing = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(missing) and self.missing == "raise":
            raise self.provenance.missing_values_error(block.start + int(missing[0]), None, len(missing), of_all=False)
        if self.what == "mean":
            return regression.mean(x)
        if self.what == "covariance":
            return regression.covariance(x).reshape(len(x), -1)
        return self._quantiles(x, regression).reshape(len(x), -1)

    def _quantiles(self, x: Floats, regression: Regression) -> Floats:
        """Return the quantiles of each target, shape (n, T, Q)."""
        resp, means, deviations = (
            regression.responsibilities(x),
            regression.component_means(x),
            regression.target_deviations(),
        )
        found = np.empty((len(x), regression.n_targets, len(self.probabilities)))
        for t in range(regression.n_targets):
            for q, probability in enumerate(self.probabilities):
                found[:, t, q] = quantile(
                    np.full(len(x), probability), resp, means[:, :, t], np.broadcast_to(deviations[:, t], resp.shape)
                )
        return found


@dataclass(frozen=True)
class Impute:
    """Fill in missing entries of rows from those that are there.

    Attributes
    ----------
    draw : bool
        Whether to draw from the conditional distribution; else its mean is taken.
    seed : int
        Of the draws: each row has its own, however the rows are cut into blocks.
    """

    draw: bool
    seed: int

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> Floats:
        n_rows = max(1, _AT_A_TIME // parameters.means.size)
        pieces = (piece for block in blocks for piece in block.pieces(n_rows))
        return np.concatenate([self._piece(piece, parameters) for piece in pieces])

    def _piece(self, block: Block, parameters: MixtureParameters) -> Floats:
        x = np.array(block.x, dtype=np.float64)
        missing = ~np.isfinite(x)
        incomplete = np.flatnonzero(missing.any(axis=1))
        if not len(incomplete):
            return x
        u = uniforms(block.start, len(x), 1 + x.shape[1], self.seed) if self.draw else None
        patterns, of_row = np.unique(missing[incomplete], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = incomplete[of_row == number]
            targets, given = np.flatnonzero(pattern), np.flatnonzero(~pattern)
            if len(given):
                regression = regress(parameters, targets, given)
                known = x[np.ix_(rows, given)]
                filled = regression.mean(known) if u is None else _draw(regression, known, u[rows])
            elif u is None:
                filled = np.broadcast_to(parameters.weights @ parameters.means, (len(rows), len(targets)))
            else:
                first, last = int(rows[0]), int(rows[-1])
                drawn = draw_rows(parameters, block.start + first, last + 1 - first, self.seed)[0]
                filled = drawn[rows - first]
            x[np.ix_(rows, targets)] = filled
        return x


def _draw(regression: Regression, known: Floats, u: Floats) -> Floats:
    """Draw a row's targets: a component first, by its first number, and then from that."""
    components = choose(u[:, 0], regression.responsibilities(known))
    means = regression.component_means(known)[np.arange(len(known)), components]
    lower = np.linalg.cholesky(regression.target_covariances())
    z = ndtri(u[:, 1 : 1 + regression.n_targets])
    drawn: Floats = means + np.einsum("nts,ns->nt", lower[components], z)
    return drawn


@dataclass(frozen=True)
class Cumulative:
    """The probability of a value of at most that of a row, under a mixture of one feature."""

    missing: str
    provenance: Provenance

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> npt.NDArray[Any]:
        return np.concatenate([self._block(block, parameters) for block in blocks])

    def _block(self, block: Block, parameters: MixtureParameters) -> Floats:
        y = np.asarray(block.x[:, 0], dtype=np.float64)
        # Infinity has a probability, as any other value.
        missing = np.flatnonzero(np.isnan(y))
        if len(missing) and self.missing == "raise":
            raise self.provenance.missing_values_error(block.start + int(missing[0]), 0, len(missing), of_all=False)
        return cumulative(y, parameters.weights, parameters.means[:, 0], np.sqrt(parameters.variances()[:, 0]))
