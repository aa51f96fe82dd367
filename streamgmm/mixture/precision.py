"""Which kernel a pass may use: the error of the fast products, bounded before the pass.

The logits are Theta @ phi(z). Rounding gives a logit an error of about u |Theta| @ phi(|z|), with u the unit roundoff:
the terms of the quadratic form cancel where a component is much tighter than the data, or far from its centre. In
whitened coordinates they seldom do; where they would, the careful kernel subtracts each mean first.
"""

from enum import Enum

import numpy as np

from streamgmm.mixture.arrays import Floats
from streamgmm.mixture.parameters import MixtureParameters

#: Largest error of a log-density, in nats, that float32 products may make during a fit.
FLOAT32_TOLERANCE = 1e-3
#: Largest error of a log-density, in nats, that float64 products may make.
FLOAT64_TOLERANCE = 1e-8


class Kernel(Enum):
    """The arithmetic of a pass."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    CAREFUL = "careful"


#: Smallest eigenvalue of a covariance, in the frame, that the second moments of a pass can tell from zero.
RESOLUTION = {Kernel.FLOAT32: 1e-5, Kernel.FLOAT64: 1e-14, Kernel.CAREFUL: 0.0}


def amplification(parameters: MixtureParameters, reach: Floats) -> float:
    """Return max_k |Theta_k| @ phi(reach): the factor between the unit roundoff and the error of a log-density.

    Parameters
    ----------
    parameters : MixtureParameters
        In the frame's coordinates.
    reach : ndarray of shape (n_features,)
        A high quantile of |z_j| over the rows.
    """
    phi = parameters.family.features(reach[np.newaxis])[0]
    factor = float((np.abs(parameters.natural_parameters()) @ phi).max())
    if parameters.family.shared:
        # The logits leave the quadratic term out, but the M-step subtracts it: Q - sum N_k mu mu'.
        precisions = np.abs(parameters.precisions)
        factor += 0.5 * float(reach @ precisions @ reach)
    return factor


def choose_kernel(parameters: MixtureParameters, reach: Floats, *, float32_rows: bool) -> Kernel:
    """Choose the fastest kernel whose error stays within its tolerance."""
    factor = amplification(parameters, reach)
    if float32_rows and np.finfo(np.float32).eps / 2 * factor <= FLOAT32_TOLERANCE:
        return Kernel.FLOAT32
    if np.finfo(np.float64).eps / 2 * factor <= FLOAT64_TOLERANCE:
        return Kernel.FLOAT64
    return Kernel.CAREFUL


def reach_of(parameters: MixtureParameters) -> Floats:
    """Return how far rows of the mixture itself reach from the frame's centre: four deviations of every component.

    For evaluating a mixture where no sample of the rows is at hand.
    """
    variances = np.diagonal(parameters.full_covariances(), axis1=1, axis2=2)
    reach: Floats = (np.abs(parameters.means) + 4.0 * np.sqrt(variances)).max(axis=0)
    return reach
