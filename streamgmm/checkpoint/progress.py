"""What a checkpoint keeps: what the first pass gave, and where a fit stands after the others."""

from __future__ import annotations

from dataclasses import dataclass

from streamgmm.em.convergence import StopReason
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import State
from streamgmm.execution.passes import PassCost
from streamgmm.gaussian.m_step import MStep
from streamgmm.initialization.survey import Survey
from streamgmm.serialization import serializable


@serializable
@dataclass(frozen=True)
class Start:
    """What the first pass has given.

    Attributes
    ----------
    surveyed : Survey
    sample : RowsInMemory
    complete : bool
        Whether the sample holds every row that counts.
    cost : PassCost
    seed : int
        With which the sample was drawn.
    """

    surveyed: Survey
    sample: RowsInMemory
    complete: bool
    cost: PassCost
    seed: int


@serializable
@dataclass(frozen=True)
class Progress:
    """Where a fit to all rows stands between two passes.

    Attributes
    ----------
    states : tuple of State
        Of the candidates that have not left.
    n_passes : int
        Passes that these have shared.
    costs : tuple of PassCost
        Of all passes, the survey among them.
    m_step : MStep
        With what the search on the sample found for it.
    """

    states: tuple[State, ...]
    n_passes: int
    costs: tuple[PassCost, ...]
    m_step: MStep

    @property
    def stopped(self) -> bool:
        """Whether every candidate has stopped."""
        return all(state.stop_reason is not None for state in self.states)

    @property
    def finished(self) -> bool:
        """Whether every candidate has stopped for good: more iterations may be asked for later."""
        return all(state.stop_reason not in (None, StopReason.MAX_ITER) for state in self.states)
