"""Anderson acceleration of a fixed-point map on mixtures, EM's or another.

With u the unconstrained coordinates of a mixture, G the map and f = G(u) - u: keep the last differences dF of f and dG
of G(u), and go on from G(u) - dG gamma, where gamma minimises |W (f - dF gamma)|. W is the Fisher metric of
`mixture.coordinates`. Walker & Ni, SIAM J. Numer. Anal. 49 (2011).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import linalg

from streamgmm.em.convergence import estimate_rate
from streamgmm.em.state import Problem, Proposal, State, Step
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.unconstrained import fisher_metric, from_unconstrained, to_unconstrained
from streamgmm.serialization import serializable
from streamgmm.typing import Floats

#: Differences that are kept.
_MEMORY = 10
#: Singular values under this times the largest count as zero.
_RCOND = 1e-9
#: How many times EM's step one away from a saddle may be.
_LONGEST_LEAP = 20.0
#: Longest step, in the Fisher metric: beyond it the quadratic model of the likelihood means nothing.
_LONGEST_STEP = 1.0


@serializable
@dataclass(frozen=True)
class History:
    """The last points of a fixed-point iteration.

    Attributes
    ----------
    residuals : tuple of ndarray
        f = G(u) - u.
    images : tuple of ndarray
        G(u).
    """

    residuals: tuple[Floats, ...] = ()
    images: tuple[Floats, ...] = ()

    def push(self, residual: Floats, image: Floats) -> History:
        """Return the history with one more point, and without the oldest where it is full."""
        if self.images and len(self.images[-1]) != len(image):
            return History((residual,), (image,))
        return History((*self.residuals, residual)[-_MEMORY - 1 :], (*self.images, image)[-_MEMORY - 1 :])

    def extrapolated(self, weight: Floats) -> Floats:
        """Return the next point; G(u) itself where there is only one."""
        residual, image = self.residuals[-1], self.images[-1]
        if len(self.images) < 2:
            return image
        d_residual = np.diff(np.array(self.residuals), axis=0).T
        d_image = np.diff(np.array(self.images), axis=0).T
        columns = weight[:, np.newaxis] * d_residual
        norms = np.sqrt((columns**2).sum(axis=0))
        used = norms > 0.0
        if not used.any():
            return image
        columns, norms, d_image = columns[:, used] / norms[used], norms[used], d_image[:, used]
        gamma = linalg.lstsq(columns, weight * residual, cond=_RCOND)[0] / norms
        extrapolated: Floats = image - d_image @ gamma
        return extrapolated


def extrapolate(
    history: History, parameters: MixtureParameters, image: MixtureParameters
) -> tuple[Any, History, float]:
    """Do one step of Anderson acceleration.

    Parameters
    ----------
    history : History
        Of the points before.
    parameters, image : MixtureParameters
        u and G(u).

    Returns
    -------
    next : MixtureParameters
        G(u) where the extrapolation leads nowhere.
    history : History
        With this point.
    stretch : float
        <W f, W s> / <W f, W f> for the step s: how many times further than G(u) the fixed point seems to be.
    """
    u, g = to_unconstrained(parameters), to_unconstrained(image)
    weight = fisher_metric(parameters)
    history = history.push(g - u, g)
    target = history.extrapolated(weight)
    f, s = weight * (g - u), weight * (target - u)
    squared = float(f @ f)
    stretch = float(f @ s) / squared if squared > 0.0 else 1.0
    if stretch < 0.0:
        # The fixed point lies behind: a saddle that the iteration leaves. Go as far ahead.
        target = g + min(-stretch, _LONGEST_LEAP) * (g - u)
        s = weight * (target - u)
        history, stretch = History((g - u,), (g,)), float("inf")
    length = float(np.sqrt(s @ s))
    if not np.isfinite(length) or length > max(_LONGEST_STEP, 2.0 * np.sqrt(squared)):
        return image, History((g - u,), (g,)), float("inf")
    try:
        following = from_unconstrained(
            target, parameters.covariance_type, parameters.n_components, parameters.n_features
        )
    except SingularCovarianceError:
        return image, History((g - u,), (g,)), float("inf")
    return following, history, stretch


@dataclass(frozen=True)
class Anderson:
    """EM with Anderson acceleration: one pass per iteration."""

    guarded: bool = field(default=True, init=False)

    def propose(self, problem: Problem, state: State, step: Step) -> Proposal:
        """Extrapolate from the steps so far.

        The gap is estimated from the extrapolation itself (DeltaQ = |W f|^2 / 2 and the gap <W f, W s> / 2, with s the
        step to where it sees the fixed point) and from the rate at which DeltaQ shrank; the larger counts.
        """
        history = state.memory if state.memory is not None else History()
        if step.updated.n_components != step.parameters.n_components:
            return Proposal(step.updated, float("inf"), None, "EM")
        following, history, stretch = extrapolate(history, step.parameters, step.updated)
        rate = estimate_rate((*state.gains, step.gain))
        gap = step.gain * max(stretch, 1.0 / (1.0 - rate) if rate < 1.0 else float("inf"))
        if step.gain <= 0.0:
            gap = 0.0 if len(state.gains) > 0 else float("inf")
        label = "Anderson" if len(history.images) > 1 else "EM"
        return Proposal(following, gap, history, label)

    def rejected(self, memory: Any) -> Any:
        """Forget all steps."""
        return None
