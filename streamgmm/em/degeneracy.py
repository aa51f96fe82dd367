"""Components that starve or collapse: seeded again, and dropped where that does not help."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.e_step import evaluate
from streamgmm.gaussian.m_step import Moments, MStep
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Floats, Integers

#: A covariance of few rows whose smallest eigenvalue, next to the data's own, is under this has collapsed onto them.
SMALLEST_EIGENVALUE_OF_FEW = 1e-8
#: A component has few rows if it has less than this many times those that its covariance needs.
_FEW = 10
#: A covariance of any number of rows that is smaller than this has collapsed onto a point, a line, a plane. (A cluster
#: of many rows may well be a million times tighter than the data with its outliers: it is left alone.)
SMALLEST_EIGENVALUE = 1e-18
#: Rows under which a component that the user has given is empty.
_FEWEST_ROWS_OF_GIVEN = 0.5
#: A component is seeded again so many times, and then dropped.
MAX_RESEEDS = 2
#: The share of the sample that the mixture explains worst; new seeds come from there.
_LOW_DENSITY_SHARE = 0.5
#: How much wider than the component that it splits off from a new seed is.
_SEED_WIDTH = 2.0


@dataclass(frozen=True)
class Reseeded:
    """What became of an M-step's components.

    Attributes
    ----------
    parameters : MixtureParameters
    kept : ndarray of shape (K',)
        Which of the components are still there.
    n_reseeds : ndarray of shape (K',)
        How often each was seeded again so far.
    """

    parameters: MixtureParameters
    kept: Integers
    n_reseeds: Integers


def find_degenerate(
    family: CovarianceFamily,
    moments: Moments,
    component_weights: Floats,
    m_step: MStep,
    *,
    given: bool = False,
) -> Integers:
    """Return the components that starve (too few rows for their covariance) or have collapsed.

    Where the data has too few rows for every component, half an even share is enough not to starve. What `reg_covar`
    keeps regular has not collapsed, however small it is; and components that the user has given are only lost with
    all their rows.
    """
    n_components, n_features = moments.means.shape
    enough = min(family.min_rows(n_features), component_weights.sum() / (2 * n_components))
    starved = component_weights < (min(enough, _FEWEST_ROWS_OF_GIVEN) if given else enough)
    if not family.shared and n_components > 1 and not m_step.keeps_regular:
        few = (component_weights < _FEW * family.min_rows(n_features)) & (not given)
        smallest = np.where(few, SMALLEST_EIGENVALUE_OF_FEW, SMALLEST_EIGENVALUE)
        starved |= ~(family.smallest_eigenvalues(moments.covariances) >= smallest)
    return np.flatnonzero(starved)


def widen_to_resolution(family: CovarianceFamily, moments: Moments, resolution: float) -> Moments:
    """Widen the covariances whose smallest eigenvalue is under what the pass's arithmetic can resolve.

    The fast kernels take second moments about the data's mean, and rounding leaves an error of `resolution` in them.
    A component that one step made tighter than that is widened to it; the next pass, by the centered kernel, finds
    what it is.
    """
    smallest = family.smallest_eigenvalues(moments.covariances)
    missing = np.maximum(resolution - smallest, 0.0)
    if not missing.any():
        return moments
    identity = family.identity(moments.means.shape[1])
    added = missing[0] * identity if family.shared else missing.reshape((-1,) + (1,) * identity.ndim) * identity
    return replace(moments, covariances=moments.covariances + added)


def reseed(
    family: CovarianceFamily,
    moments: Moments,
    bad: Integers,
    n_reseeds: Integers,
    sample: Floats,
    seed: int,
) -> Reseeded:
    """Seed the bad components again among rows of low density, or drop those for which that was tried.

    Parameters
    ----------
    family : CovarianceFamily
    moments : Moments
        The M-step's result, in whitened coordinates.
    bad : ndarray of int
        The components to repair.
    n_reseeds : ndarray of shape (K,)
        How often each was seeded again so far.
    sample : ndarray of shape (n, n_features)
        Rows to draw seeds from, in whitened coordinates.
    seed : int
        Of the random choice.
    """
    n_components = len(moments.weights)
    good = np.setdiff1d(np.arange(n_components), bad)
    if not len(good):
        raise SingularCovarianceError(
            "every component has collapsed onto a few rows: use reg_covar='auto', a larger reg_covar, fewer "
            "components, or another covariance_type"
        )
    healthy = MixtureParameters.from_covariances(
        family.name,
        moments.weights[good] / moments.weights[good].sum(),
        moments.means[good],
        family.select(moments.covariances, good),
    )
    again = bad[n_reseeds[bad] < MAX_RESEEDS]
    dropped = np.setdiff1d(bad, again)
    kept = np.setdiff1d(np.arange(n_components), dropped)
    weights, means = moments.weights.copy(), moments.means.copy()
    covariances = moments.covariances.copy()
    if len(again):
        _seed(family, weights, means, covariances, again, good, healthy, sample, np.random.default_rng(seed))
    weights = weights[kept] / weights[kept].sum()
    parameters = MixtureParameters.from_covariances(family.name, weights, means[kept], family.select(covariances, kept))
    counts = n_reseeds.copy()
    counts[again] += 1
    return Reseeded(parameters, kept, counts[kept])


def _seed(
    family: CovarianceFamily,
    weights: Floats,
    means: Floats,
    covariances: Floats,
    again: Integers,
    good: Integers,
    healthy: MixtureParameters,
    sample: Floats,
    rng: np.random.Generator,
) -> None:
    """Write new seeds over the components `again`: each splits off from one of the good.

    The components that answer for most of the badly explained rows are split first: the new one takes half the weight,
    the mean of those rows and a wider covariance. (A single row would do as a mean in few dimensions only: in many, all
    other rows are nearer to the old means than to it, and the seed starves again.)
    """
    found = evaluate(sample, healthy, log_prob=True, labels=True)
    low = np.argsort(found.log_prob, kind="stable")[: max(1, int(_LOW_DENSITY_SHARE * len(sample)))]
    owners = found.labels[low]
    order = np.argsort(-np.bincount(owners, minlength=len(good)), kind="stable")
    for number, component in enumerate(again):
        place = order[number % len(good)]
        rows = low[owners == place]
        if number >= len(good) or not len(rows):
            rows = rng.choice(low, size=1)
        owner = good[place]
        weights[component] = weights[owner] = weights[owner] / 2.0
        means[component] = sample[rows].mean(axis=0)
        if not family.shared:
            covariances[component] = _SEED_WIDTH * covariances[owner]
