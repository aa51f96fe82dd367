"""Statistics of rows whose responsibilities are given: where a start is made of an assignment of rows."""

import numpy as np

from streamgmm.gaussian.covariances import CovarianceFamily
from streamgmm.gaussian.statistics import SufficientStatistics
from streamgmm.typing import Floats

_FEATURE_BYTES = 32 * 2**20


def statistics_of_responsibilities(
    family: CovarianceFamily, z: Floats, resp: Floats, sample_weight: Floats
) -> SufficientStatistics:
    """Compute the statistics of whitened rows z (n, D) under responsibilities (n, K) and weights (n,)."""
    n_features = z.shape[1]
    n_columns = family.n_terms(n_features)
    weighted = resp * sample_weight[:, np.newaxis]
    sums = np.zeros((resp.shape[1], n_columns))
    step = max(1, _FEATURE_BYTES // (8 * n_columns))
    for start in range(0, len(z), step):
        rows = slice(start, start + step)
        sums += weighted[rows].T @ family.features(z[rows])
    scatter = (z.T * sample_weight) @ z if family.shared else None
    shift = np.zeros((resp.shape[1], n_features))
    return SufficientStatistics(sums, shift, 0.0, float(sample_weight.sum()), scatter=scatter)
