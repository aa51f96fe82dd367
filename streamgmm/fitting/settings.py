"""The settings of a fit: the estimator's parameters, checked, as the fit goes by them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.initialization.seeding import GivenStart


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
    accelerate: bool
    given: GivenStart
    missing: str
    memory_limit: int | None
    persist: bool | str
    seed: int
    seed_given: bool = True

    @property
    def n_parameters_for(self) -> tuple[str, int]:
        """Covariance family and number of components: what the number of parameters follows from."""
        return self.covariance_type, self.n_components

    def identity(self) -> dict[str, Any]:
        """Return what tells this fit from others of the same rows: what a checkpoint of it compares.

        A seed that the user has not chosen is no part of it: that of the checkpoint is as good.
        """
        described: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name == "given":
                arrays = (value.weights, value.means, value.precisions)
                digests = [None if a is None else hashlib.sha256(a.tobytes()).hexdigest() for a in arrays]
                described["given start"] = digests
            elif name == "seed":
                described["random_state"] = value if self.seed_given else None
            elif name != "seed_given" and PARAMETERS[name].identifies:
                described[name] = value.item() if isinstance(value, np.generic) else value
        return described
