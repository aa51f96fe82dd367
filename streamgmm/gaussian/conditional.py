"""Marginal and conditional distributions of a mixture: mixtures again, of the same family.

Of a Gaussian with the features split into (g, t), the factor L of the covariance, Sigma = L L', says everything::

    L = [[L_gg, 0], [L_tg, L_tt]]      E[t | g] = mu_t + L_tg L_gg^-1 (g - mu_g)      Cov[t | g] = L_tt L_tt'

and the weights of a mixture's components become their responsibilities for g (Bishop, "Pattern Recognition and Machine
Learning", 2.3.1 and 2.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers


def marginalize(parameters: MixtureParameters, features: Integers) -> MixtureParameters:
    """Return the distribution of some of the features, in the order in which they are named.

    Raises
    ------
    SingularCovarianceError
        If a covariance is so ill conditioned that rounding leaves it not positive definite.
    """
    covariances = parameters.covariances
    if parameters.covariance_type in ("full", "tied"):
        covariances = covariances[..., features[:, np.newaxis], features]
    elif parameters.covariance_type == "diag":
        covariances = covariances[:, features]
    return MixtureParameters.from_covariances(
        parameters.covariance_type, parameters.weights, parameters.means[:, features], covariances
    )


@dataclass(frozen=True)
class Regression:
    """The distribution of T targets given the values of G other features, for any number of rows.

    Attributes
    ----------
    given : MixtureParameters
        Of the features whose values are known.
    means : ndarray of shape (K, T)
        Of the targets, where the given features are at their means.
    coefficients : ndarray of shape (K, T, G), or None
        What a target's mean gains for each unit of a given feature; None where they are independent.
    covariances : ndarray
        Of the targets within a component, given the others; in the shape of the family.
    """

    given: MixtureParameters
    means: Floats
    coefficients: Floats | None
    covariances: Floats

    @property
    def n_targets(self) -> int:
        """Number of targets, T."""
        return int(self.means.shape[1])

    def component_means(self, x: Floats) -> Floats:
        """Return each component's mean of the targets, shape (n, K, T), for given values of shape (n, G)."""
        if self.coefficients is None:
            return np.broadcast_to(self.means, (len(x), *self.means.shape))
        offsets = x[:, np.newaxis, :] - self.given.means
        means: Floats = self.means + np.einsum("ktg,nkg->nkt", self.coefficients, offsets)
        return means

    def responsibilities(self, x: Floats) -> Floats:
        """Return each component's probability, shape (n, K); NaN where a value is missing."""
        return evaluate(np.ascontiguousarray(x), self.given, resp=True).resp

    def target_covariances(self) -> Floats:
        """Return each component's covariance of the targets, shape (K, T, T)."""
        n_components, n_targets = self.means.shape
        if self.covariances.ndim == 2 and self.given.covariance_type == "tied":
            return np.broadcast_to(self.covariances, (n_components, n_targets, n_targets))
        if self.covariances.ndim == 3:
            return self.covariances
        return self.covariances.reshape(n_components, -1)[:, :, np.newaxis] * np.eye(n_targets)

    def target_deviations(self) -> Floats:
        """Return each component's standard deviations of the targets, shape (K, T)."""
        deviations: Floats = np.sqrt(np.diagonal(self.target_covariances(), axis1=1, axis2=2))
        return deviations

    def mean(self, x: Floats) -> Floats:
        """Return E[t | g], shape (n, T)."""
        mean: Floats = np.einsum("nk,nkt->nt", self.responsibilities(x), self.component_means(x))
        return mean

    def covariance(self, x: Floats) -> Floats:
        """Return Cov[t | g], shape (n, T, T): within the components, and between their means."""
        resp, means = self.responsibilities(x), self.component_means(x)
        offsets = means - np.einsum("nk,nkt->nt", resp, means)[:, np.newaxis]
        within = np.einsum("nk,kts->nts", resp, self.target_covariances())
        covariance: Floats = within + np.einsum("nk,nkt,nks->nts", resp, offsets, offsets)
        return covariance

    def at(self, values: Floats) -> tuple[MixtureParameters, Integers]:
        """Return the mixture of the targets, for one set of given values of shape (G,), and which components it has."""
        x = values[np.newaxis]
        resp = self.responsibilities(x)[0]
        # Those whose probability underflows have no logarithm, and no share of any density.
        kept = np.flatnonzero(resp)
        family = self.given.family
        means = np.array(self.component_means(x)[0, kept])
        covariances = family.select(self.covariances, kept)
        weights = resp[kept] / resp[kept].sum()
        return MixtureParameters.from_covariances(family.name, weights, means, covariances), kept


def regress(parameters: MixtureParameters, targets: Integers, given: Integers) -> Regression:
    """Prepare the distribution of some features given others.

    Parameters
    ----------
    parameters : MixtureParameters
    targets, given : ndarray of int
        Features, none of them in both; those that are in neither are integrated out.

    Raises
    ------
    SingularCovarianceError
    """
    both = marginalize(parameters, np.concatenate([given, targets]))
    known = marginalize(parameters, given)
    n_given = len(given)
    means = both.means[:, n_given:]
    if parameters.covariance_type in ("diag", "spherical"):
        covariances = both.covariances[:, n_given:] if both.covariances.ndim == 2 else both.covariances
        return Regression(known, means, None, covariances)
    matrices = both.covariances.reshape(-1, *both.covariances.shape[-2:])
    coefficients, within = zip(*(_given_part(matrix, n_given) for matrix in matrices), strict=True)
    if parameters.family.shared:
        everywhere = np.broadcast_to(coefficients[0], (parameters.n_components, *coefficients[0].shape))
        return Regression(known, means, everywhere, within[0])
    return Regression(known, means, np.stack(coefficients), np.stack(within))


def _given_part(covariance: Floats, n_given: int) -> tuple[Floats, Floats]:
    """Return L_tg L_gg^-1 and L_tt L_tt' of one covariance, factored in units of its standard deviations."""
    scale = np.sqrt(np.diag(covariance))
    try:
        lower = linalg.cholesky(covariance / scale / scale[:, np.newaxis], lower=True)
    except linalg.LinAlgError as error:
        raise SingularCovarianceError(
            "a covariance is too ill conditioned to condition on some features: leave out features that are nearly "
            "combinations of others"
        ) from error
    known, cross, rest = lower[:n_given, :n_given], lower[n_given:, :n_given], lower[n_given:, n_given:]
    coefficients = linalg.solve_triangular(known, cross.T, lower=True, trans="T").T
    unit = scale[n_given:]
    return coefficients * unit[:, np.newaxis] / scale[:n_given], (rest @ rest.T) * np.outer(unit, unit)
