"""A kernel, a pass over a store and a whole fit, each with its peak memory.

Only names that stay are used: public ones, and of the E-step what a fit with one iteration gives.
"""

import shutil
import tempfile
import warnings

import numpy as np

import streamgmm


def rows(n_rows: int, n_features: int = 16, n_clusters: int = 8) -> np.ndarray:
    """Rows of clusters that stand apart."""
    rng = np.random.default_rng(0)
    centers = 4.0 * rng.normal(size=(n_clusters, n_features))
    return (centers[rng.integers(n_clusters, size=n_rows)] + rng.normal(size=(n_rows, n_features))).astype(np.float32)


class _Fits:
    params = ("full", "tied", "diag", "spherical")
    param_names = ("covariance_type",)
    timeout = 300

    def setup(self, covariance_type: str) -> None:
        self.x = rows(200_000)
        warnings.simplefilter("ignore")
        # Compiles the kernels.
        self.model = streamgmm.GaussianMixture(8, covariance_type=covariance_type, random_state=0).fit(self.x[:20_000])


class Kernel(_Fits):
    """Evaluation of rows in memory: the kernel and nothing else."""

    def time_score_samples(self, covariance_type: str) -> None:
        self.model.score_samples(self.x)


class Pass(_Fits):
    """One pass over a store."""

    def setup(self, covariance_type: str) -> None:
        super().setup(covariance_type)
        self.folder = tempfile.mkdtemp(prefix="streamgmm-asv-")
        self.store = f"{self.folder}/x.npy"
        np.save(self.store, self.x)

    def teardown(self, covariance_type: str) -> None:
        shutil.rmtree(self.folder)

    def time_score(self, covariance_type: str) -> None:
        self.model.score(self.store)

    def peakmem_score(self, covariance_type: str) -> None:
        self.model.score(self.store)


class Fit(_Fits):
    """A whole fit, with the search for a start."""

    def time_fit(self, covariance_type: str) -> None:
        streamgmm.GaussianMixture(8, covariance_type=covariance_type, random_state=0, memory_limit="32MB").fit(self.x)

    def track_passes(self, covariance_type: str) -> int:
        model = streamgmm.GaussianMixture(8, covariance_type=covariance_type, random_state=0, memory_limit="32MB")
        return int(model.fit(self.x).fit_report_.n_passes)
