"""What a fit needs before it starts: the survey, the sample, the coordinates, the problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgmm.checkpoint.progress import Start
from streamgmm.em.anderson import Anderson
from streamgmm.em.iteration import PlainEM
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Accelerator, Problem
from streamgmm.em.surrogate import Surrogate
from streamgmm.exceptions import DataChangedError, InputError, SingularCovarianceError
from streamgmm.execution.passes import PassCost
from streamgmm.fitting.settings import Settings
from streamgmm.gaussian.covariances import FAMILIES, CovarianceFamily
from streamgmm.gaussian.e_step import kernel_dtype
from streamgmm.gaussian.m_step import MStep
from streamgmm.gaussian.parameters import count_free_parameters
from streamgmm.gaussian.precision import FLOAT64_TOLERANCE, SEARCH_TOLERANCE
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.initialization.search import SampleSearch
from streamgmm.initialization.survey import PartsOf, Survey, survey_rows
from streamgmm.sources.base import Rows
from streamgmm.typing import Floats

#: Surrogate steps begin with so many rows for each parameter, or with this share of all, which is cheap next to a pass.
_SURROGATE_ROWS_PER_PARAMETER, _SURROGATE_SHARE = 25, 1 / 16
#: Rows of the sample that a component is seeded again from.
_SEED_ROWS = 10_000
#: The quantile of |z_j| that counts as the reach of the rows.
_REACH_QUANTILE = 0.999
#: A sample with fewer rows for each free parameter knows the likelihood's curvature too badly for surrogate steps.
_FEWEST_FOR_SURROGATE = 10


@dataclass(frozen=True)
class Preparation:
    """Rows that have been read once.

    Attributes
    ----------
    rows : Rows
    surveyed : Survey
        Without the rows that it drew.
    sample : RowsInMemory
    complete : bool
        Whether the sample holds every row that counts.
    cost : PassCost
        Of the pass.
    missing : str
        What to do with rows that have missing values.
    version : str or None
        What changes when the store of the rows does, as it was before the pass.
    """

    rows: Rows
    surveyed: Survey
    sample: RowsInMemory
    complete: bool
    cost: PassCost
    missing: str
    version: str | None

    @classmethod
    def from_start(cls, start: Start, rows: Rows, missing: str) -> Preparation:
        """Return what was prepared before; the checkpoint was made of rows of the version that there is now."""
        return cls(rows, start.surveyed, start.sample, start.complete, start.cost, missing, rows.stored_version())

    def as_start(self, seed: int) -> Start:
        """Return what a checkpoint keeps of it, and the seed with which the sample was drawn."""
        return Start(self.surveyed, self.sample, self.complete, self.cost, seed)

    @property
    def source(self) -> Rows:
        """Where passes read: the sample, where that holds all rows."""
        return self.sample.as_rows() if self.complete else self.rows

    def check(self, statistics: SufficientStatistics, costs: list[PassCost], cost: PassCost) -> None:
        """Check what a pass over `source` gave, and append its cost where that read the source.

        Raises
        ------
        MissingValuesError
            If a value is missing now.
        DataChangedError
            If the store is not what it was when it was surveyed.
        """
        if not self.complete:
            costs.append(cost)
            check_version(self.rows, self.version)
        if statistics.n_missing and self.missing == "raise":
            raise self.rows.provenance.missing_values_error(statistics.first_missing, None, statistics.n_missing)

    def problem(self, settings: Settings, m_step: MStep | None = None) -> Problem:
        """Choose coordinates, and say what regularises.

        Parameters
        ----------
        settings : Settings
        m_step : MStep, optional
            The one that a search has ended with; that of the settings where not given.
        """
        family = FAMILIES[settings.covariance_type]
        whitening = family.whitening(self.surveyed.mean, self._covariance(settings))
        m_step = self._m_step(settings, whitening) if m_step is None else m_step
        z = self.sample.first(_SEED_ROWS).whiten(whitening)
        reach = np.quantile(np.abs(z), _REACH_QUANTILE, axis=0)
        float32_rows = kernel_dtype(self.rows.dtype) == np.float32
        # Rounding must stay well under the tolerance, and need not be smaller than that.
        tolerance = min(max(FLOAT64_TOLERANCE, 0.1 * settings.tol), SEARCH_TOLERANCE)
        given = not settings.given.empty
        return Problem(whitening, m_step, reach, float32_rows, z, settings.seed, tolerance, given=given)

    def _covariance(self, settings: Settings) -> Floats:
        """Return the data's covariance; with ``reg_covar="auto"`` drawn to its diagonal where it rests on few rows."""
        covariance = self.surveyed.covariance
        n_rows = min(self.surveyed.sum_weight, self.surveyed.n_used)
        shortage = _shortage(FAMILIES[settings.covariance_type], self.rows.n_features, n_rows)
        if settings.reg_covar != "auto" or shortage == 0.0:
            return covariance
        share = shortage / (n_rows + shortage)
        return (1.0 - share) * covariance + share * np.diag(np.diag(covariance))

    def _m_step(self, settings: Settings, whitening: Whitening) -> MStep:
        family = FAMILIES[settings.covariance_type]
        if isinstance(settings.reg_covar, str):
            n_rows = min(self.surveyed.sum_weight, self.surveyed.n_used)
            # Of all components together the covariance is shared, or each has a part of the rows.
            n_covariances = 1 if family.shared else settings.n_components
            shortage = _shortage(family, self.rows.n_features, n_rows / n_covariances)
            if family.shared:
                shortage /= settings.n_components
            return PenalizedMStep.automatic(family, whitening, self.surveyed.sum_weight, shortage=shortage)
        if settings.reg_covar == 0.0 and whitening.singular:
            names = self.rows.feature_names or tuple(str(j) for j in range(self.rows.n_features))
            if whitening.constant_features:
                what = f"feature(s) {', '.join(str(names[j]) for j in whitening.constant_features)} never vary"
            else:
                what = "some features are linear combinations of others"
            raise SingularCovarianceError(
                f"the covariance of {self.rows.description} is singular: {what}. Drop such features, or use "
                "reg_covar='auto'"
            )
        return PenalizedMStep.additive(family, whitening, settings.reg_covar)

    def search(self, problem: Problem, settings: Settings, sample: RowsInMemory) -> SampleSearch:
        """Say what is to be started from a sample."""
        # Distances are measured in standard deviations of each feature, and in the data's own units for spherical
        # covariances, whose components are balls in those.
        spherical = settings.covariance_type == "spherical"
        diag = FAMILIES["diag"]
        measure = problem.whitening if spherical else diag.whitening(self.surveyed.mean, self.surveyed.covariance)
        return SampleSearch(
            problem,
            settings.covariance_type,
            settings.n_components,
            settings.init_params,
            sample,
            measure,
            settings.given,
            settings.n_init,
            settings.seed,
            self.surveyed.n_used,
            self.surveyed.sum_weight,
        )

    def accelerator(self, settings: Settings, sample: RowsInMemory) -> Accelerator:
        """Choose how to get from one pass to the next."""
        if not settings.accelerate:
            return PlainEM()
        n_parameters = count_free_parameters(*settings.n_parameters_for, self.rows.n_features)
        if self.complete or len(sample) < _FEWEST_FOR_SURROGATE * n_parameters:
            return Anderson()
        n_rows = max(_SURROGATE_ROWS_PER_PARAMETER * n_parameters, int(_SURROGATE_SHARE * self.surveyed.n_used))
        return Surrogate(sample, min(n_rows, len(sample)), self.surveyed.n_used, settings.tol)


def check_version(rows: Rows, version: str | None) -> None:
    """Raise DataChangedError where the store of some rows is not what it was."""
    if rows.stored_version() != version:
        raise DataChangedError(
            f"{rows.description} has changed since the fit began: files were written, replaced or removed while it was "
            "read, so there is nothing that the fit could be of. Fit again when the store is complete"
        )


def prepare(
    rows: Rows, candidates: Sequence[Settings], sample_rows: int, parts_of: PartsOf | None = None
) -> Preparation:
    """Read all rows once, for one fit or for several; draw a sample of so many.

    Raises
    ------
    InputError, MissingValuesError, MemoryLimitError
        See the message.
    """
    one = candidates[0]
    version = rows.stored_version()
    n_components = max(candidate.n_components for candidate in candidates)
    surveyed, cost = survey_rows(
        rows,
        sample_size=sample_rows,
        seed=one.seed,
        full_scatter=any(candidate.covariance_type in ("full", "tied") for candidate in candidates),
        missing=one.missing,
        parts_of=parts_of,
    )
    check_version(rows, version)
    if surveyed.n_used < n_components:
        raise InputError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {surveyed.n_used}"
        )
    if surveyed.sum_weight < n_components:
        raise InputError(
            f"sample_weight sums to {surveyed.sum_weight:g}, less than n_components = {n_components}: a weight says "
            "how many rows a row stands for; scale the weights so that their mean is about 1"
        )
    sample, complete = _rows_of(surveyed, n_components), surveyed.complete
    return Preparation(rows, surveyed.without_draws(), sample, complete, cost, one.missing, version)


def _rows_of(surveyed: Survey, n_components: int) -> RowsInMemory:
    """Return the sample's rows; where fewer of them differ than there are components, each several times."""
    sample = surveyed.choose_sample()
    times = -(-n_components // len(sample))
    if times == 1:
        return RowsInMemory(sample.x, sample.weight)
    return RowsInMemory(np.tile(sample.x, (times, 1)), np.tile(sample.weight / times, times))


def _shortage(family: CovarianceFamily, n_features: int, n_rows: float) -> float:
    """Return how many rows a covariance lacks of half those that would make it well known: twice its rank.

    A covariance of as many rows as features is singular, or nearly so, and its density off those rows is nothing.
    """
    return max(0.0, family.rank(n_features) - n_rows / 2.0)
