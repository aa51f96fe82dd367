"""Entropy of a mixture and its distances to another, by Monte Carlo: neither has a closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.sampling import draw_rows
from streamgmm.typing import Floats

#: Rows that are drawn and evaluated at a time.
_PIECE = 65_536


@dataclass(frozen=True)
class Estimate:
    """What a sample says of a number.

    Attributes
    ----------
    value : float
    standard_error : float
        Of the value, by the spread over the rows of the sample.
    """

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.standard_error:.2g}"


def estimate_entropy(parameters: MixtureParameters, n_samples: int, seed: int) -> Estimate:
    """Estimate -E[log p], nats."""
    return _mean_over_draws(parameters, n_samples, seed, lambda x: -_log_prob(x, parameters))


def estimate_kl(parameters: MixtureParameters, other: MixtureParameters, n_samples: int, seed: int) -> Estimate:
    """Estimate E_p[log p - log q], nats."""
    return _mean_over_draws(parameters, n_samples, seed, lambda x: _log_prob(x, parameters) - _log_prob(x, other))


def estimate_js(parameters: MixtureParameters, other: MixtureParameters, n_samples: int, seed: int) -> Estimate:
    """Estimate the Jensen-Shannon divergence, nats: from 0 to log 2; from so many rows of each."""

    def to_middle(log_p: Floats, log_q: Floats) -> Floats:
        ratio: Floats = log_p - np.logaddexp(log_p, log_q) + np.log(2.0)
        return ratio

    one = _mean_over_draws(
        parameters, n_samples, seed, lambda x: to_middle(_log_prob(x, parameters), _log_prob(x, other))
    )
    two = _mean_over_draws(
        other, n_samples, seed + 1, lambda x: to_middle(_log_prob(x, other), _log_prob(x, parameters))
    )
    return Estimate(0.5 * (one.value + two.value), 0.5 * float(np.hypot(one.standard_error, two.standard_error)))


def _log_prob(x: Floats, parameters: MixtureParameters) -> Floats:
    return evaluate(x, parameters, log_prob=True).log_prob


def _mean_over_draws(
    parameters: MixtureParameters, n_samples: int, seed: int, function: Callable[[Floats], Floats]
) -> Estimate:
    """Return the mean of a function over rows drawn from a mixture."""
    values = np.concatenate(
        [
            function(draw_rows(parameters, start, min(_PIECE, n_samples - start), seed)[0])
            for start in range(0, n_samples, _PIECE)
        ]
    )
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n_samples)))
