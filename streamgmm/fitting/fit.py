"""A whole fit: survey, frame, start, EM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from streamgmm.blas import one_blas_thread
from streamgmm.exceptions import InputError, MemoryLimitError, SingularCovarianceError
from streamgmm.fitting import em
from streamgmm.fitting.initialization import GivenStart, start
from streamgmm.fitting.survey import Survey, survey
from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.e_step import PassModel, e_step, kernel_dtype
from streamgmm.mixture.families import FAMILIES, CovarianceFamily
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.m_step import Regularization
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.statistics import SufficientStatistics
from streamgmm.passes import run_pass
from streamgmm.rows.base import Block, Rows

#: Rows of the sample for each free parameter; about 11 were seen to lead to spurious optima.
_ROWS_PER_PARAMETER = 100
_SMALLEST_SAMPLE = 10_000
#: Bytes that the sample may take, where no memory limit is given.
_SAMPLE_BYTES = 32 * 2**20
#: The quantile of |z_j| that counts as the reach of the rows.
_REACH_QUANTILE = 0.999


@dataclass(frozen=True)
class Settings:
    """What to fit and how; see `streamgmm.GaussianMixture` for their meaning."""

    n_components: int
    covariance_type: str
    tol: float
    reg_covar: float | str
    max_iter: int
    n_init: int
    init_params: str
    given: GivenStart
    missing: str
    memory_limit: int | None
    seed: int


@dataclass(frozen=True)
class FitResult:
    """A fitted mixture and how it came about.

    Attributes
    ----------
    parameters : MixtureParameters
        In the data's coordinates.
    state : State
        The last of EM, in the frame's coordinates.
    survey : Survey
    """

    parameters: MixtureParameters
    state: em.State
    survey: Survey


def fit(rows: Rows, settings: Settings, callback: Callable[[em.State], None] | None = None) -> FitResult:
    """Fit a mixture to rows.

    Raises
    ------
    InputError, MissingValuesError, SingularCovarianceError, MemoryLimitError
        See the message.
    """
    # The same number of threads for the driver's small products everywhere: the same bits.
    with one_blas_thread():
        return _fit(rows, settings, callback)


def _fit(rows: Rows, settings: Settings, callback: Callable[[em.State], None] | None) -> FitResult:
    family = FAMILIES[settings.covariance_type]
    surveyed = survey(
        rows,
        sample_size=_sample_size(family, rows.n_features, settings),
        seed=settings.seed,
        full_scatter=family.name in ("full", "tied"),
        missing=settings.missing,
    )
    if surveyed.n_used < settings.n_components:
        raise InputError(
            f"Expected n_samples >= n_components but got n_components = {settings.n_components}, n_samples = "
            f"{surveyed.n_used}"
        )
    if surveyed.sum_weight < settings.n_components:
        raise InputError(
            f"sample_weight sums to {surveyed.sum_weight:g}, less than n_components = {settings.n_components}: a "
            "weight says how many rows a row stands for; scale the weights so that their mean is about 1"
        )
    frame = family.frame(surveyed.mean, surveyed.covariance)
    regularization = _regularization(family, frame, surveyed, settings.reg_covar, rows)
    problem = _problem(rows, settings, surveyed, frame, regularization)
    beginning = _best_start(problem, surveyed, family, settings)
    state = em.run(problem, em.init(beginning), tol=settings.tol, max_iter=settings.max_iter, callback=callback)
    return FitResult(state.parameters.to_data(frame), state, surveyed)


def _sample_size(family: CovarianceFamily, n_features: int, settings: Settings) -> int:
    n_components = settings.n_components
    n_parameters = family.n_covariance_parameters(n_components, n_features) + n_components * (n_features + 1)
    wanted = max(_SMALLEST_SAMPLE, _ROWS_PER_PARAMETER * n_parameters)
    budget = _SAMPLE_BYTES if settings.memory_limit is None else min(_SAMPLE_BYTES, settings.memory_limit // 16)
    affordable = budget // (8 * n_features)
    if affordable < n_components:
        raise MemoryLimitError(
            f"memory_limit leaves room for a sample of {affordable} rows, fewer than n_components = {n_components}: "
            "raise the limit"
        )
    return min(wanted, affordable)


def _regularization(
    family: CovarianceFamily, frame: Frame, surveyed: Survey, reg_covar: float | str, rows: Rows
) -> Regularization:
    if isinstance(reg_covar, str):
        return Regularization.automatic(frame, surveyed.sum_weight)
    if reg_covar == 0.0 and frame.singular:
        names = rows.feature_names or tuple(str(j) for j in range(rows.n_features))
        if frame.constant_features:
            what = f"feature(s) {', '.join(names[j] for j in frame.constant_features)} never vary"
        else:
            what = "some features are linear combinations of others"
        raise SingularCovarianceError(
            f"the covariance of {rows.description} is singular: {what}. Drop such features, or use reg_covar='auto'"
        )
    return Regularization.additive(family, frame, reg_covar)


@dataclass(frozen=True)
class _EStepLeaf:
    """The leaf of an EM pass: the statistics of a task's blocks."""

    def __call__(self, blocks: Iterable[Block], model: PassModel) -> SufficientStatistics:
        total: SufficientStatistics | None = None
        for block in blocks:
            statistics = e_step(block.x, block.sample_weight, model)
            if statistics.first_missing >= 0:
                statistics = replace(statistics, first_missing=block.start + statistics.first_missing)
            total = statistics if total is None else total + statistics
        if total is None:
            raise RuntimeError("a task had no rows")
        return total


def _problem(
    rows: Rows, settings: Settings, surveyed: Survey, frame: Frame, regularization: Regularization
) -> em.Problem:
    def read(model: PassModel) -> SufficientStatistics:
        statistics = cast(SufficientStatistics, run_pass(rows, _EStepLeaf(), model))
        if statistics.n_missing and settings.missing == "raise":
            # The survey found none: the data has changed since.
            raise rows.provenance.missing_values_error(statistics.first_missing, None, statistics.n_missing)
        return statistics

    z = frame.points_to_frame(surveyed.sample.x)
    reach = np.quantile(np.abs(z), _REACH_QUANTILE, axis=0)
    float32_rows = kernel_dtype(rows.dtype) == np.float32
    return em.Problem(frame, regularization, reach, float32_rows, z, settings.seed, read)


def _best_start(
    problem: em.Problem, surveyed: Survey, family: CovarianceFamily, settings: Settings
) -> MixtureParameters:
    """Make `n_init` starts; where that is more than one, run each on the sample and take the best."""
    sample = surveyed.sample
    # Distances are measured in standard deviations of each feature, and in the data's own units for spherical
    # covariances, whose components are balls in those.
    center, covariance = surveyed.mean, surveyed.covariance
    measure = problem.frame if family.name == "spherical" else FAMILIES["diag"].frame(center, covariance)
    coordinates = measure.points_to_frame(sample.x)

    def one(seed: int) -> MixtureParameters:
        return start(
            family,
            settings.n_components,
            settings.init_params,
            settings.given,
            z=problem.sample,
            coordinates=coordinates,
            sample_weight=sample.weight,
            frame=problem.frame,
            regularization=problem.regularization,
            seed=seed,
        )

    if settings.n_init == 1 or settings.given.complete:
        return one(settings.seed)

    def read(model: PassModel) -> SufficientStatistics:
        return e_step(sample.x, _weights_or_none(sample.weight), model)

    on_sample = replace(problem, read=read)
    seeds = np.random.RandomState(settings.seed).randint(2**31 - 1, size=settings.n_init)
    states = (
        em.run(on_sample, em.init(one(int(seed))), tol=max(settings.tol, 1e-6), max_iter=settings.max_iter)
        for seed in seeds
    )
    best = max(states, key=lambda state: state.lower_bounds[-1])
    return best.parameters


def _weights_or_none(weight: Floats) -> Floats | None:
    return None if (weight == 1.0).all() else weight
