"""The M-step: from sufficient statistics to parameters, centrally, in whitened coordinates.

What an M-step is made of is a value, `MStep`: EM's iteration knows no more of it than the methods here. The one that
there is maximises a penalised likelihood (`gaussian.regularization`); a Bayesian one, or one of factor analysers, would
take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.typing import Floats

#: Smallest mixing proportion: the logarithm of a weight is always finite.
SMALLEST_WEIGHT = 1e-300


@dataclass(frozen=True)
class Moments:
    """Weights, means and covariances as an M-step gives them; the covariances may be singular still."""

    weights: Floats
    means: Floats
    covariances: Floats


class MStep(Protocol):
    """What EM maximises beside the expected log-likelihood, and how."""

    @property
    def keeps_regular(self) -> bool:
        """Whether no covariance can become singular."""

    def maximize(self, family: CovarianceFamily, statistics: SufficientStatistics) -> Moments:
        """Compute the maximiser of the expected (penalised) log-likelihood, without factoring its covariances."""

    def penalty(self, parameters: MixtureParameters) -> float:
        """Return by how much the objective is less than the log-likelihood, nats."""

    def cost_of_added(self, parameters: MixtureParameters, component_weights: Floats) -> float:
        """Return what else `maximize` takes off, for given N_k, nats; zero where it maximises the objective itself."""

    def expected_rise(self, component_weights: Floats, old: MixtureParameters, new: MixtureParameters) -> float:
        """Return DeltaQ: by how much `maximize` has raised the expected log-likelihood less the penalty, nats."""

    def scale(self, factor: float) -> Self:
        """Return what gives rows of `factor` times the weight the same fit."""

    def regularized_shares(self, parameters: MixtureParameters, sum_weight: float) -> Floats:
        """Return how much of each component's variance is not the data's, at most over directions: shape (K,)."""


def factor_moments(family: CovarianceFamily, found: Moments) -> MixtureParameters:
    """Turn an M-step's moments into parameters.

    Raises
    ------
    SingularCovarianceError
        If a covariance is not positive definite.
    """
    return MixtureParameters.from_covariances(family.name, found.weights, found.means, found.covariances)
