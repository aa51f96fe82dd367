"""Fisher scores: the gradient of each row's log-density in the parameters; their mean product is the information.

Each component moves in coordinates of its own, in which it is a standard Gaussian, so that nothing here knows units.
With Sigma_k = L_k L_k', u = L_k^-1 (x - mu_k) and r_k the responsibility of a row, the score of

    weights      pi_k ~ exp(alpha_k), alpha = 0 for the largest    r_k - pi_k
    means        mu_k + L_k a                                      r_k u
    covariances  L_k (I + B) L_k', B symmetric                     r_k (u_i^2 - 1) / 2 on the diagonal, else r_k u_i u_j

with the sum over the components where these share a covariance (tied), and over the features where there is one
variance (spherical). At the maximum of the likelihood the scores of the rows sum to zero; the sum of their outer
products is the empirical information, whose inverse is the covariance of the parameters.

Source: McLachlan & Basford, Mixture Models (1988), section 2.4; Louis, J. R. Statist. Soc. B 44 (1982).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from streamgmm.gaussian.covariances.base import upper_triangle
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Rows

#: Bytes of the scores of some rows, at most.
_PIECE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class FisherScores:
    """Scores of rows under a mixture.

    Attributes
    ----------
    parameters : MixtureParameters
        In the coordinates of the rows.
    """

    parameters: MixtureParameters

    @cached_property
    def reference(self) -> int:
        """The component whose alpha is zero: the largest."""
        return int(np.argmax(self.parameters.weights))

    @cached_property
    def n_parameters(self) -> int:
        """P, the length of a score."""
        return self.parameters.n_parameters

    @cached_property
    def groups(self) -> dict[str, slice]:
        """The places of the weights, the means and the covariances in a score."""
        n_components, n_features = self.parameters.means.shape
        ends = np.cumsum([n_components - 1, n_components * n_features])
        return {
            "weights": slice(0, int(ends[0])),
            "means": slice(int(ends[0]), int(ends[1])),
            "covariances": slice(int(ends[1]), self.n_parameters),
        }

    @cached_property
    def _factors(self) -> Floats:
        return self.parameters.full_precisions_cholesky()

    def of(self, x: Rows, resp: Floats | None = None) -> Floats:
        """Return the scores of some rows, shape (n, P), which must have no missing value.

        Parameters
        ----------
        x : ndarray of shape (n, n_features)
        resp : ndarray of shape (n, n_components), optional
            Their responsibilities, where these are known.
        """
        x = np.ascontiguousarray(x, dtype=np.float64)
        parameters = self.parameters
        n_components, n_features = parameters.means.shape
        if resp is None:
            resp = evaluate(x, parameters, resp=True).resp
        scores = np.empty((len(x), self.n_parameters))
        others = np.delete(np.arange(n_components), self.reference)
        scores[:, self.groups["weights"]] = resp[:, others] - parameters.weights[others]
        of_means = scores[:, self.groups["means"]].reshape(len(x), n_components, n_features)
        of_covariances = scores[:, self.groups["covariances"]]
        per_component = of_covariances.shape[1] if parameters.family.shared else of_covariances.shape[1] // n_components
        if parameters.family.shared:
            of_covariances[:] = 0.0
        for k in range(n_components):
            u = self.standardize(x, k)
            of_means[:, k] = resp[:, k, np.newaxis] * u
            one = resp[:, k, np.newaxis] * self.of_covariance(u)
            if parameters.family.shared:
                of_covariances += one
            else:
                of_covariances[:, k * per_component : (k + 1) * per_component] = one
        return scores

    def total(self, x: Floats, resp: Floats) -> Floats:
        """Return the sum of the scores of some rows, shape (P,), without making each.

        Parameters
        ----------
        x : ndarray of shape (n, n_features), float64
        resp : ndarray of shape (n, n_components)
            Their responsibilities, times their weights.
        """
        parameters = self.parameters
        total, n_k = np.zeros(self.n_parameters), resp.sum(axis=0)
        others = np.delete(np.arange(parameters.n_components), self.reference)
        total[self.groups["weights"]] = n_k[others] - n_k.sum() * parameters.weights[others]
        for k in range(parameters.n_components):
            u = self.standardize(x, k)
            total[self.places("means", k)] = resp[:, k] @ u
            total[self.places("covariances", k)] += self._of_second_moment((u.T * resp[:, k]) @ u, float(n_k[k]))
        return total

    def _of_second_moment(self, second: Floats, n_k: float) -> Floats:
        """Return the sum of `of_covariance`, times the responsibilities, from the second moment of u."""
        kind, n_features = self.parameters.covariance_type, len(second)
        if kind == "spherical":
            return np.atleast_1d(0.5 * (np.trace(second) - n_features * n_k))
        if kind == "diag":
            diagonal: Floats = 0.5 * (np.diag(second) - n_k)
            return diagonal
        rows, columns = upper_triangle(n_features)
        products: Floats = second[rows, columns]
        products[rows == columns] = 0.5 * (products[rows == columns] - n_k)
        return products

    def standardize(self, x: Floats, k: int) -> Floats:
        """Return u = L_k^-1 (x - mu_k) of some rows, shape (n, D)."""
        u: Floats = (x - self.parameters.means[k]) @ self._factors[k]
        return u

    def of_covariance(self, u: Floats) -> Floats:
        """Return the scores of one component's covariance, but for the responsibility, from its `standardize`."""
        kind, n_features = self.parameters.covariance_type, u.shape[1]
        if kind == "spherical":
            spherical: Floats = 0.5 * ((u * u).sum(axis=1, keepdims=True) - n_features)
            return spherical
        if kind == "diag":
            diagonal: Floats = 0.5 * (u * u - 1.0)
            return diagonal
        rows, columns = upper_triangle(n_features)
        products: Floats = u[:, rows] * u[:, columns]
        on_diagonal = rows == columns
        products[:, on_diagonal] = 0.5 * (products[:, on_diagonal] - 1.0)
        return products

    def cuts(self, n_rows: int) -> Iterator[tuple[int, int]]:
        """Cut rows into pieces whose scores take a bounded amount of memory."""
        n = max(1, _PIECE_BYTES // (8 * self.n_parameters))
        for start in range(0, n_rows, n):
            yield start, min(start + n, n_rows)

    def jacobians(self) -> Iterator[tuple[str, int, Floats]]:
        """Give what turns a change of the coordinates into one of the parameters in the data's units.

        Yields
        ------
        (str, int, ndarray of shape (n_values, P_group))
            "weights" once, for all of them; "means" for each component; "covariances" for each distinct one, its upper
            triangle row by row where it is a matrix. The columns are the coordinates of the weights, or those of this
            component.
        """
        parameters = self.parameters
        n_components, pi = parameters.n_components, parameters.weights
        others = np.delete(np.arange(n_components), self.reference)
        yield "weights", 0, (np.diag(pi) - np.outer(pi, pi))[:, others]
        lower = np.linalg.inv(np.swapaxes(self._factors, 1, 2))
        for k in range(n_components):
            yield "means", k, lower[k]
        for k in range(1 if parameters.family.shared else n_components):
            yield "covariances", k, self._of_covariance_coordinates(lower[k], k)

    def _of_covariance_coordinates(self, lower: Floats, k: int) -> Floats:
        parameters = self.parameters
        if parameters.covariance_type in ("spherical", "diag"):
            return np.diag(np.atleast_1d(parameters.covariances[k]))
        rows, columns = upper_triangle(len(lower))
        # L B L': the entry (i, j) of each product of a column of L with another, both ways round.
        one_way = lower[rows][:, rows] * lower[columns][:, columns]
        other_way = lower[rows][:, columns] * lower[columns][:, rows]
        jacobian: Floats = one_way + np.where(rows == columns, 0.0, 1.0) * other_way
        return jacobian

    def places(self, group: str, k: int) -> slice:
        """Return the places in a score of the coordinates that `jacobians` names by a group and a component."""
        whole = self.groups[group]
        if group == "weights" or (group == "covariances" and self.parameters.family.shared):
            return whole
        width = (whole.stop - whole.start) // self.parameters.n_components
        return slice(whole.start + k * width, whole.start + (k + 1) * width)
