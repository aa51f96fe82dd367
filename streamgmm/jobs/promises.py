"""What the steps of a job would leave for those that follow: a dry run checks these against it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.predict.calibration import calibrate
from streamgmm.sources.base import Rows
from streamgmm.storage.places import Place, find_place, find_places


@dataclass
class Promises:
    """Models and scores that would be there.

    Attributes
    ----------
    models : dict
        By their places. One of the same features and components stands for each; None where these are not known.
    outputs : list of Place
    """

    models: dict[tuple[str, str], GaussianMixture | None] = field(default_factory=dict)
    outputs: list[Place] = field(default_factory=list)

    def promise_model(self, path: str, model: GaussianMixture | None) -> None:
        """Note that a model would be written."""
        self.models[_key(path)] = model

    def promise_output(self, path: str) -> None:
        """Note that rows would be written."""
        self.outputs.append(find_place(path))

    def has_model(self, path: str) -> bool:
        """Whether a model would be written there."""
        return _key(path) in self.models

    def model(self, path: str) -> GaussianMixture | None:
        """Return what stands for a model that would be there."""
        return self.models[_key(path)]

    def has_rows(self, source: object) -> bool:
        """Whether a step before would write some of these rows."""
        return any(place.relation(output) is not None for place in find_places(source) for output in self.outputs)


def _key(path: str) -> tuple[str, str]:
    place = find_place(path)
    return place.filesystem, place.path


def stand_in(n_components: int, rows: Rows) -> GaussianMixture:
    """Return a model of the same features and components as one that would be fitted to some rows."""
    weights = np.full(n_components, 1.0 / n_components)
    means, variances = np.zeros((n_components, rows.n_features)), np.ones(n_components)
    model = GaussianMixture.from_parameters(weights, means, variances, covariance_type="spherical")
    model._take_schema(rows.schema)
    model.calibration_ = calibrate(np.zeros(1), np.array([float(rows.n_rows or 1)]))
    return model
