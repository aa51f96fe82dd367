"""Where a fit starts on all rows, and what keeps it regular: the search on the sample, and the target that it finds."""

from __future__ import annotations

from dataclasses import replace

from scipy import linalg

from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.fitting.prepare import Preparation
from streamgmm.fitting.settings import Settings
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.regularization import PenalizedMStep
from streamgmm.initialization.search import SampleSearch, converge_on_sample, find_starts, grow_on_sample
from streamgmm.initialization.target import estimate_target
from streamgmm.typing import Floats

#: Targets that are tried at most: each is found with the one before it, beginning with the data's covariance.
_MOST_TARGETS = 8
#: The share of a variance that regularisation may make up: under it, a smaller target would change nothing.
_UNNOTICED = 0.002
#: A target that differs from the one before it by less than this factor has settled.
_SETTLED = 2.0
#: The share above which a component is blurred: what a search found with it says too little.
_BLURRED = 0.25


def start_fit(
    prepared: Preparation, settings: Settings, sample: RowsInMemory
) -> tuple[Problem, list[MixtureParameters]]:
    """Search the sample; return the problem with its regularisation, and where to start, the best first.

    Parameters
    ----------
    prepared : Preparation
    settings : Settings
    sample : RowsInMemory
        The sample, or some of its rows.
    """
    search = prepared.search(prepared.problem(settings), settings, sample)
    automatic = settings.reg_covar == "auto" and settings.n_components > 1
    if automatic and search.looks_for_the_start:
        # What a mixture that is grown says of the target is there before the rest of the search needs it.
        search = replace(search, grown=grow_on_sample(search))
        if search.grown is not None:
            search = _with_settled_target(search, search.grown)
    starts = find_starts(search)
    if not automatic:
        return search.problem, starts
    settled = _with_settled_target(search, starts[0])
    blurred = settled is not search and _most_regularized(search, starts[0]) > _BLURRED
    if blurred and search.looks_for_the_start:
        search = replace(settled, grown=None)
        starts = find_starts(search)
        settled = _with_settled_target(search, starts[0])
    return settled.problem, starts


def _with_settled_target(search: SampleSearch, beginning: MixtureParameters) -> SampleSearch:
    """Return a search with the target of the mixture that is found with it; itself where its own will do."""
    target = _settle_target(search, beginning)
    return search if target is None else _with_target(search, target)


def _settle_target(search: SampleSearch, beginning: MixtureParameters) -> Floats | None:
    """Return a target that is that of the mixture found with it; None where the one of the search will do."""
    target: Floats | None = None
    if _most_regularized(search, beginning) <= _UNNOTICED:
        return None
    for _ in range(_MOST_TARGETS):
        try:
            state, rows = converge_on_sample(search, beginning)
        except SingularCovarianceError:
            break
        if _most_regularized(search, state.safe) <= _UNNOTICED:
            break
        found = estimate_target(search.problem, state.safe, rows)
        smallest, largest = _ratios(found, _penalized(search).target)
        if smallest > 1.0 / _SETTLED and largest < _SETTLED:
            break
        target, beginning = found, state.safe
        search = _with_target(search, found)
        if largest >= _SETTLED:
            # The evidence for the target before was gone with that target: it came from what it made of a component.
            break
    return target


def _penalized(search: SampleSearch) -> PenalizedMStep:
    """Return the M-step of ``reg_covar="auto"``."""
    m_step = search.problem.m_step
    assert isinstance(m_step, PenalizedMStep)
    return m_step


def _with_target(search: SampleSearch, target: Floats) -> SampleSearch:
    m_step = replace(_penalized(search), target=target)
    return replace(search, problem=replace(search.problem, m_step=m_step))


def _ratios(target: Floats, before: Floats) -> tuple[float, float]:
    """Return the smallest and the largest ratio of two targets' variances in any direction."""
    ratios = linalg.eigh(target, before, eigvals_only=True) if target.ndim == 2 else target / before
    return float(ratios.min()), float(ratios.max())


def _most_regularized(search: SampleSearch, parameters: MixtureParameters) -> float:
    return float(search.problem.m_step.regularized_shares(parameters, search.sum_weight).max())
