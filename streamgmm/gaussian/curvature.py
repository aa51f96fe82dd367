"""The observed information: the curvature of the log-likelihood, in the coordinates of the Fisher scores.

For a mixture, Louis (J. R. Statist. Soc. B 44, 1982) gives it by what a row would say if its component were known. With
s_k the score, and H_k the second derivative, of log pi_k + log N(x | mu_k, Sigma_k), and s = sum_k r_k s_k,

    - d2 log p(x) = s s' - sum_k r_k s_k s_k' - sum_k r_k H_k

In the coordinates a (means) and B (covariances), in which each component is a standard Gaussian,

    log N = const - log|I + B| / 2 - (u - a)' (I + B)^-1 (u - a) / 2

so that H_k needs no more than the moments of u. With E_p the symmetric matrix that the coordinate p of B stands for:

    d2/da da'  = -I      d2/da dp = -E_p u      d2/dp dq = tr(E_p E_q) / 2 - u' (E_p E_q + E_q E_p) u / 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from streamgmm.gaussian.covariances.base import upper_triangle
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.fisher import FisherScores
from streamgmm.typing import Floats, Rows


@dataclass(frozen=True)
class ScoreSums:
    """Weighted sums over rows; they add up with `+`.

    Attributes
    ----------
    scores : ndarray of shape (P,), float64
    products : ndarray of shape (P, P), float64
        Outer products of the scores.
    curvature : ndarray of shape (P, P), float64
        -d2 log p(x).
    sum_weight : float
    n_rows : int
    """

    scores: Floats
    products: Floats
    curvature: Floats
    sum_weight: float
    n_rows: int

    def __add__(self, other: ScoreSums) -> ScoreSums:
        return ScoreSums(
            self.scores + other.scores,
            self.products + other.products,
            self.curvature + other.curvature,
            self.sum_weight + other.sum_weight,
            self.n_rows + other.n_rows,
        )


def sum_scores(scores: FisherScores, x: Rows, weight: Floats) -> ScoreSums:
    """Sum up the scores of rows, their products and the curvature."""
    n_parameters = scores.n_parameters
    total = np.zeros(n_parameters)
    products, curvature = np.zeros((n_parameters, n_parameters)), np.zeros((n_parameters, n_parameters))
    for start, stop in scores.cuts(len(x)):
        of_rows = np.ascontiguousarray(x[start:stop], dtype=np.float64)
        resp = evaluate(of_rows, scores.parameters, resp=True).resp
        mixed = scores.of(of_rows, resp)
        total += weight[start:stop] @ mixed
        # The upper triangle alone, which is half of the work.
        products += blas.dsyrk(1.0, mixed.T * np.sqrt(weight[start:stop]))
        _subtract_known(curvature, scores, of_rows, resp * weight[start:stop, np.newaxis])
    products = products + np.triu(products, 1).T
    curvature += products
    # Sums of products of the same two numbers, in another order.
    curvature = 0.5 * (curvature + curvature.T)
    return ScoreSums(total, products, curvature, float(weight.sum()), len(x))


def _subtract_known(curvature: Floats, scores: FisherScores, x: Floats, resp: Floats) -> None:
    """Subtract what a row would say if its component were known; `resp` has the weights in it."""
    parameters = scores.parameters
    n_components, n_features = parameters.means.shape
    others = np.delete(np.arange(n_components), scores.reference)
    pi, n_k = parameters.weights[others], resp.sum(axis=0)
    places = scores.groups["weights"]
    of_weights = curvature[places, places]
    of_weights += n_k.sum() * (np.diag(pi) - np.outer(pi, pi))
    basis = _basis(parameters.covariance_type, n_features)
    for k in range(n_components):
        u = scores.standardize(x, k)
        one = np.hstack([u, scores.of_covariance(u)])
        where = np.r_[scores.places("means", k), scores.places("covariances", k)]
        # Its score, and how that changes.
        known = (others == k).astype(np.float64) - pi
        of_weights -= n_k[k] * np.outer(known, known)
        cross = np.outer(known, resp[:, k] @ one)
        curvature[places, where] -= cross
        curvature[where, places] -= cross.T
        block = (one.T * resp[:, k]) @ one
        mean, second = resp[:, k] @ u, (u.T * resp[:, k]) @ u
        block += _second_derivatives(basis, float(n_k[k]), mean, second)
        curvature[np.ix_(where, where)] -= block


def _second_derivatives(basis: Floats, n_k: float, mean: Floats, second: Floats) -> Floats:
    """Return the sum over rows of r H of one component, in the coordinates of its mean and its covariance."""
    n_features, n_coordinates = len(mean), len(basis)
    found = np.zeros((n_features + n_coordinates,) * 2)
    found[:n_features, :n_features] = -n_k * np.eye(n_features)
    cross = -(basis @ mean).T
    found[:n_features, n_features:], found[n_features:, :n_features] = cross, cross.T
    flat = basis.reshape(n_coordinates, -1)
    # tr(E_p E_q M) of symmetric matrices is the inner product of E_p and E_q M.
    moved = (basis @ second).reshape(n_coordinates, -1)
    products = flat @ moved.T
    found[n_features:, n_features:] = 0.5 * n_k * (flat @ flat.T) - 0.5 * (products + products.T)
    return found


def _basis(covariance_type: str, n_features: int) -> Floats:
    """Return E_p for each coordinate of a covariance, shape (C, D, D)."""
    if covariance_type == "spherical":
        return np.eye(n_features)[np.newaxis]
    if covariance_type == "diag":
        return np.eye(n_features)[:, :, np.newaxis] * np.eye(n_features)[:, np.newaxis, :]
    rows, columns = upper_triangle(n_features)
    basis = np.zeros((len(rows), n_features, n_features))
    number = np.arange(len(rows))
    basis[number, rows, columns] = basis[number, columns, rows] = 1.0
    return basis
