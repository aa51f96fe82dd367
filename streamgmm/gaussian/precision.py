"""Which kernel a pass may use: the error of the fast products, bounded before the pass.

The logits are Theta @ phi(z). Rounding gives a logit an error of about u |Theta| @ phi(|z|), with u the unit roundoff:
the terms of the quadratic form cancel where a component is much tighter than the data, or far from its centre. In
whitened coordinates they seldom do; where they would, the centered kernel subtracts each mean first.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.special import chdtri

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.serialization import serializable
from streamgmm.typing import Floats

#: Largest error of a log-density, in nats, that float32 products may make during a fit.
FLOAT32_TOLERANCE = 1e-3
#: Largest error of a log-density, in nats, that float64 products may make.
FLOAT64_TOLERANCE = 1e-8
#: The same where a fitted mixture is evaluated: what another program computes with its parameters has errors as small.
EVALUATION_TOLERANCE = 1e-10
#: The same while a sample is searched, and on a surrogate: another fit goes on from what these find.
SEARCH_TOLERANCE = 1e-5


@serializable
class Kernel(Enum):
    """The arithmetic of a pass."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    CENTERED = "centered"

    @property
    def dtype(self) -> type:
        """Of the products."""
        return np.float32 if self is Kernel.FLOAT32 else np.float64

    @property
    def is_rounded(self) -> bool:
        """Whether its products are rounded to less than float64: another pass is made before a fit ends."""
        return self is Kernel.FLOAT32

    @property
    def is_centered(self) -> bool:
        """Whether it subtracts each mean before it multiplies, so that nothing cancels."""
        return self is Kernel.CENTERED

    @property
    def resolution(self) -> float:
        """Smallest eigenvalue of a whitened covariance that the second moments of a pass can tell from zero."""
        return {Kernel.FLOAT32: 1e-5, Kernel.FLOAT64: 1e-14, Kernel.CENTERED: 0.0}[self]


def amplification(parameters: MixtureParameters, reach: Floats) -> float:
    """Return max_k |Theta_k| @ phi(r_k): the factor between the unit roundoff and the error of a log-density.

    r_k is how far from the data's mean the rows are for which component k matters: in each feature within `reach`,
    and not further from its mean than nearly all of its own rows are. (Of a Gaussian's rows 99.9 % have a squared
    Mahalanobis distance under the quantile of chi-square, spread over the features here.)

    Parameters
    ----------
    parameters : MixtureParameters
        In whitened coordinates.
    reach : ndarray of shape (n_features,)
        A high quantile of |z_j| over the rows; infinite where no rows are at hand.
    """
    n_features = parameters.n_features
    deviations = np.sqrt(parameters.variances())
    distance = np.sqrt(chdtri(n_features, 1e-3) / n_features)
    near = np.minimum(np.abs(parameters.means) + distance * deviations, reach)
    phi = parameters.family.features(near)
    factor = float((np.abs(parameters.natural_parameters()) * phi).sum(axis=1).max())
    if parameters.family.shared:
        # The logits leave the quadratic term out, but the M-step subtracts it: Q - sum N_k mu mu'.
        furthest = near.max(axis=0)
        factor += 0.5 * float(furthest @ np.abs(parameters.precisions) @ furthest)
    return factor


@dataclass(frozen=True)
class Rounding:
    """Bounds on the error of a row's log-density under some parameters, nats.

    Attributes
    ----------
    float32, float64 : float
        By products of that precision.
    """

    float32: float
    float64: float

    def choose_kernel(self, *, float32_rows: bool, tolerance: float = FLOAT64_TOLERANCE) -> Kernel:
        """Choose the fastest kernel within its tolerance, which for float64 products is a parameter."""
        if float32_rows and self.float32 <= FLOAT32_TOLERANCE:
            return Kernel.FLOAT32
        if self.float64 <= tolerance:
            return Kernel.FLOAT64
        return Kernel.CENTERED


def bound_rounding(parameters: MixtureParameters, reach: Floats) -> Rounding:
    """Bound what rounding does to the log-densities of rows within `reach`; for the parameters, see `amplification`."""
    factor = amplification(parameters, reach)
    return Rounding(*(float(np.finfo(dtype).eps) / 2.0 * factor for dtype in (np.float32, np.float64)))
