"""What EM works on and what it gives: the problem, a step, a proposal for the next, and where a fit stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from streamgmm.em.convergence import StopReason
from streamgmm.gaussian.m_step import MStep
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import FLOAT64_TOLERANCE, Kernel
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.gaussian.whitening import Whitening
from streamgmm.serialization import serializable
from streamgmm.typing import Floats, Integers


@dataclass(frozen=True)
class Problem:
    """What stays the same from iteration to iteration.

    Attributes
    ----------
    whitening : Whitening
        The coordinates of everything below.
    m_step : MStep
    reach : ndarray of shape (n_features,)
        A high quantile of |z_j|: what the choice of a kernel goes by.
    float32_rows : bool
        Whether the rows are held in float32 (or less), so that float32 products lose nothing of them.
    sample : ndarray of shape (n, n_features)
        Rows to seed a degenerate component at.
    seed : int
        Of the choices made when a component is seeded again.
    tolerance : float
        Largest error of a row's log-density that float64 products may make, nats.
    repairs : bool
        Whether degenerate components are repaired; else the first ends the fit.
    rough : bool
        Whether float32 products are good enough to the end, since another fit goes on from there.
    given : bool
        Whether the user has given the start: its components are not seeded elsewhere because they have few rows.
    """

    whitening: Whitening
    m_step: MStep
    reach: Floats
    float32_rows: bool
    sample: Floats
    seed: int
    tolerance: float = FLOAT64_TOLERANCE
    repairs: bool = True
    rough: bool = False
    given: bool = False


@serializable
@dataclass(frozen=True)
class Step:
    """One step of EM: what a pass at some parameters has given.

    Attributes
    ----------
    parameters : MixtureParameters
        theta, at which the pass was made.
    statistics : SufficientStatistics
        Those of the E-step.
    kernel : Kernel
        The arithmetic of the pass.
    log_likelihood : float
        Mean per row at theta, in the data's coordinates, nats.
    lower_bound : float
        The same less the penalty of ``reg_covar="auto"``.
    updated : MixtureParameters
        M(theta).
    gain : float
        DeltaQ per row: by how much the M-step raised the expected log-likelihood less the penalty, nats.
    degenerate : bool
        Whether M(theta) had components that starve or have collapsed; `updated` is then repaired, or theta itself.
    n_reseeds : ndarray of shape (n_components,)
        How often each of `updated`'s components was seeded again.
    """

    parameters: MixtureParameters
    statistics: SufficientStatistics
    kernel: Kernel
    log_likelihood: float
    lower_bound: float
    updated: MixtureParameters
    gain: float
    degenerate: bool
    n_reseeds: Integers


@dataclass(frozen=True)
class Proposal:
    """Where to go next.

    Attributes
    ----------
    parameters : MixtureParameters
        For the next pass.
    gap : float
        Estimate of what is left to gain at the step's own parameters, nats per row.
    memory : object
        What the accelerator keeps of the steps so far.
    label : str
        What made the proposal, as reports name it.
    """

    parameters: MixtureParameters
    gap: float
    memory: Any
    label: str


class Accelerator(Protocol):
    """Proposes parameters for the next pass; a value without state of its own."""

    @property
    def guarded(self) -> bool:
        """Whether a proposal may be worse than where it came from, so that a lower bound throws it away."""

    def propose(self, problem: Problem, state: State, step: Step) -> Proposal:
        """Propose from an accepted step. `state` is the one before it; its `memory` is of the steps until then."""

    def rejected(self, memory: Any) -> Any:
        """Return the memory to go on with after a proposal was thrown away."""


@serializable
@dataclass(frozen=True)
class State:
    """Where a fit stands.

    Attributes
    ----------
    parameters : MixtureParameters
        Where the next pass is made; in whitened coordinates.
    n_iter : int
        Iterations done, each of them a pass.
    lower_bounds : tuple of float
        After each iteration, the bound at the best parameters so far: mean log-likelihood per row in nats, less the
        penalty.
    gains : tuple of float
        DeltaQ per row in nats of each accepted step since the last new descent.
    kernels : tuple of Kernel
        The arithmetic of each pass.
    labels : tuple of str
        What proposed the parameters of each pass.
    accepted : tuple of bool
        Whether they were kept.
    gap : float
        Estimate of what is left to gain, nats per row.
    stop_reason : StopReason or None
        None while it goes on.
    best : Step or None
        The accepted step with the highest bound; None before the first, and after a repair.
    safe : MixtureParameters
        M(theta) of the best step, at least as good as the last of `lower_bounds`: the result of a fit that stops here.
    memory : object
        The accelerator's.
    label : str
        What proposed `parameters`.
    n_rejected : int
        Proposals that were thrown away.
    exact : bool
        Whether float32 products are ruled out from here on.
    scatter : ndarray or None
        sum w z z', once a pass has collected it (tied covariances).
    n_reseeds : ndarray of shape (n_components,)
        How often each component was seeded again.
    n_missing : int
        Rows with a missing value in the last pass.
    """

    parameters: MixtureParameters
    safe: MixtureParameters
    n_iter: int = 0
    lower_bounds: tuple[float, ...] = ()
    gains: tuple[float, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    labels: tuple[str, ...] = ()
    accepted: tuple[bool, ...] = ()
    gap: float = float("inf")
    stop_reason: StopReason | None = None
    best: Step | None = None
    memory: Any = None
    label: str = "start"
    n_rejected: int = 0
    exact: bool = False
    scatter: Floats | None = None
    n_reseeds: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_missing: int = 0

    @property
    def lower_bound(self) -> float:
        """The bound at the best parameters so far; minus infinity before the first pass."""
        return self.lower_bounds[-1] if self.lower_bounds else float("-inf")
