"""The empirical information of a fit: how well its rows tell the parameters, and the standard errors that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import linalg

from streamgmm.gaussian.covariances.base import upper_triangle
from streamgmm.gaussian.curvature import sum_scores
from streamgmm.gaussian.fisher import FisherScores
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers

#: Rows for each parameter that an information should come from. Its inverse is too large by about P / n: 2 %.
ROWS_PER_PARAMETER = 50
#: Rows that it comes from at least, where there are so many.
FEWEST_ROWS = 20_000
#: Parameters of which an information is computed, at most: two matrices of 128 MB.
MOST_PARAMETERS = 4_000
#: With fewer rows for each parameter an information says too little.
_FEWEST_PER_PARAMETER = 20
#: Multiplications that a fit spends on it without being asked, at most: a fraction of a second.
_MOST_WORK = 1e9
#: A direction of which the rows say less than this share of what they say of the others is not told by them.
_NOT_TOLD = 1e-10
#: What hangs less than this on something does not hang on it.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Information:
    """What rows tell of the parameters of a mixture, per row.

    Attributes
    ----------
    products : ndarray of shape (P, P), float64
        Mean over the rows of the outer product of their scores, in the coordinates of
        `streamgmm.gaussian.fisher.FisherScores`: how much the scores vary.
    curvature : ndarray of shape (P, P), float64
        Mean of -d2 log p(x). Where the rows come from a mixture of the family, it is the same but for sampling.
    mean : ndarray of shape (P,), float64
        Mean of the scores: zero at the maximum of the likelihood, but for what regularises.
    n_rows : float
        Rows that were fitted: the sum of their weights.
    n_sampled : int
        Rows that it was computed from.
    ranges : ndarray of shape (2, n_features), float64
        The lowest and the highest value of each feature among the rows that were fitted.
    """

    products: Floats
    curvature: Floats
    mean: Floats
    n_rows: float
    n_sampled: int
    ranges: Floats


def estimate_information(
    parameters: MixtureParameters, x: Floats, weight: Floats, n_rows: float, ranges: Floats
) -> Information:
    """Compute the information of a mixture from rows, or a sample of them.

    Parameters
    ----------
    parameters : MixtureParameters
    x : ndarray of shape (n, n_features), float64
    weight : ndarray of shape (n,), float64
        How many rows each stands for, but for a factor that is the same for all.
    n_rows : float
        How many rows they all stand for.
    ranges : ndarray of shape (2, n_features)
        The lowest and the highest value of each feature among those.
    """
    sums = sum_scores(FisherScores(parameters), x, weight)
    n = sums.sum_weight
    return Information(sums.products / n, sums.curvature / n, sums.scores / n, float(n_rows), sums.n_rows, ranges)


def reorder_information(information: Information, parameters: MixtureParameters, order: Integers) -> Information | None:
    """Return the information of the same mixture with its components in another order.

    None where another of several largest components would have no weight of its own.
    """
    before, after = FisherScores(parameters), FisherScores(parameters.select(order))
    if order[after.reference] != before.reference:
        return None
    every = np.arange(before.n_parameters)
    with_weight = [k for k in range(parameters.n_components) if k != before.reference]
    places = [with_weight.index(k) for k in order if k != before.reference]
    for group in ("means", "covariances"):
        distinct = [0] if group == "covariances" and parameters.family.shared else order.tolist()
        places += np.concatenate([every[before.places(group, k)] for k in distinct]).tolist()
    both = np.ix_(places, places)
    return replace(
        information,
        products=information.products[both],
        curvature=information.curvature[both],
        mean=information.mean[places],
    )


def rows_wanted(n_parameters: int) -> int:
    """Return from how many rows an information should be computed, where there are so many."""
    return max(FEWEST_ROWS, ROWS_PER_PARAMETER * n_parameters)


def rows_affordable(n_parameters: int, n_rows: int) -> int:
    """Return from how many rows a fit computes an information without being asked; 0 where it can't or need not."""
    n = min(n_rows, rows_wanted(n_parameters), int(_MOST_WORK / n_parameters**2))
    return 0 if n < min(n_rows, _FEWEST_PER_PARAMETER * n_parameters) else n


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of the parameters of a mixture, in the data's units.

    An estimate that is nearly normal lies within two of them of the parameter of the mixture that the rows come from,
    19 times out of 20. What the rows do not tell has the standard error infinity.

    Attributes
    ----------
    weights : ndarray of shape (n_components,), float64
    means : ndarray of shape (n_components, n_features), float64
    covariances : ndarray, float64
        In the shape of the model's covariances.
    n_rows : float
        Rows that were fitted.
    n_sampled : int
        Rows that the errors were estimated from.
    """

    weights: Floats
    means: Floats
    covariances: Floats
    n_rows: float
    n_sampled: int


def find_standard_errors(parameters: MixtureParameters, information: Information) -> StandardErrors:
    """Turn an information into standard errors.

    With J the products of the scores and H the curvature, the covariance of the parameters is H^-1 J H^-1 / N, carried
    over to weights, means and covariances by the derivatives of these. J and H are the same where the rows come from a
    mixture of the family, and 1 / (N J) would do; where they do not (tied covariances of components that differ, say)
    that was off by up to 70 % from the bootstrap, and this by no more than the bootstrap's own noise.

    Source: Huber, Proc. 5th Berkeley Symp. 1 (1967); White, Econometrica 50 (1982).
    """
    scores = FisherScores(parameters)
    told, inverse = invert_curvature(information.curvature)
    covariance = np.zeros_like(inverse)
    part = np.ix_(told, told)
    covariance[part] = inverse[part] @ information.products[part] @ inverse[part] / information.n_rows
    weights = np.empty(parameters.n_components)
    means = np.empty_like(parameters.means)
    covariances = np.empty_like(parameters.covariances)
    for group, k, jacobian in scores.jacobians():
        place = scores.places(group, k)
        variances = ((jacobian @ covariance[place, place]) * jacobian).sum(axis=1)
        hangs_on = np.abs(jacobian) > _NEGLIGIBLE * np.abs(jacobian).max(axis=1, keepdims=True, initial=0.0)
        untold = (hangs_on & ~told[place]).any(axis=1)
        errors = np.where(untold, np.inf, np.sqrt(np.maximum(variances, 0.0)))
        if group == "weights":
            weights[:] = errors
        elif group == "means":
            means[k] = errors
        elif parameters.covariance_type in ("full", "tied"):
            rows, columns = upper_triangle(parameters.n_features)
            matrix = covariances if parameters.family.shared else covariances[k]
            matrix[rows, columns] = matrix[columns, rows] = errors
        else:
            covariances[k] = errors if parameters.covariance_type == "diag" else errors[0]
    return StandardErrors(weights, means, covariances, information.n_rows, information.n_sampled)


def invert_curvature(curvature: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Return which coordinates a curvature tells, and its inverse for those."""
    told = np.diag(curvature) > _NOT_TOLD * np.diag(curvature).max(initial=0.0)
    inverse = np.zeros_like(curvature)
    if not told.any():
        return told, inverse
    part = np.ix_(told, told)
    scale = np.sqrt(np.diag(curvature)[told])
    values, vectors = linalg.eigh(curvature[part] / np.outer(scale, scale))
    known = values > _NOT_TOLD * float(values[-1])
    inverse[part] = (vectors[:, known] / values[known]) @ vectors[:, known].T / np.outer(scale, scale)
    told[told] = (vectors[:, ~known] ** 2).sum(axis=1) <= _NEGLIGIBLE
    return told, inverse
