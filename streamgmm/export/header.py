"""What a model file says beside its arrays, as values and as the JSON object of a header."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamgmm._version import __version__
from streamgmm.em.convergence import StopReason
from streamgmm.exceptions import InputError
from streamgmm.fitting.summary import TrainingSummary
from streamgmm.predict.calibration import Calibration
from streamgmm.sources.schema import FeatureSchema, from_json, to_json
from streamgmm.typing import Integers


@dataclass(frozen=True)
class Description:
    """All that there is to know of a mixture but its arrays.

    Attributes
    ----------
    parameters : dict
        Those of the estimator.
    stop_reason : StopReason
    converged : bool
    n_iter, n_missing, n_features : int
    lower_bound : float
    schema : FeatureSchema
    clusters : ndarray of shape (n_components,), int64, or None
    name : str or None
    metadata : dict
        What the user adds.
    training : TrainingSummary or None
    calibration : Calibration or None
    """

    parameters: dict[str, Any]
    stop_reason: StopReason
    converged: bool
    n_iter: int
    n_missing: int
    n_features: int
    lower_bound: float
    schema: FeatureSchema
    clusters: Integers | None = None
    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingSummary | None = None
    calibration: Calibration | None = None

    def as_header(self) -> dict[str, Any]:
        """Return the JSON object.

        Raises
        ------
        InputError
            If the name is no text, or JSON can't hold the metadata.
        """
        check_name(self.name)
        check_metadata(self.metadata)
        schema, training, calibration = self.schema, self.training, self.calibration
        header = {
            # A reader that does not know of clusters would predict components.
            "format_version": 1 if self.clusters is None else 2,
            "streamgmm_version": __version__,
            "parameters": {name: _plain(value) for name, value in self.parameters.items()},
            "converged": bool(self.converged),
            "stop_reason": self.stop_reason.name,
            "n_iter": int(self.n_iter),
            # JSON has no infinity.
            "lower_bound": float(self.lower_bound) if np.isfinite(self.lower_bound) else None,
            "n_missing": int(self.n_missing),
            "n_features_in": int(self.n_features),
            "feature_names_in": None
            if schema.feature_names is None
            else [to_json(name) for name in schema.feature_names],
            "list_column": to_json(schema.columns[0]) if schema.embedding and schema.columns else None,
            "weight_column": to_json(schema.weight),
            "feature_dimension": to_json(schema.dimension),
            "name": self.name,
            "metadata": dict(self.metadata),
            "training": None if training is None else finite(dataclasses.asdict(training)),
            "calibration": None
            if calibration is None
            else {
                "n_rows": int(calibration.n_rows),
                "levels": calibration.levels.tolist(),
                "log_densities": calibration.log_densities.tolist(),
            },
        }
        return header if self.clusters is None else {**header, "clusters": self.clusters.tolist()}


def check_name(name: Any) -> None:
    """Raise InputError unless a model's name is a text or None."""
    if name is not None and not isinstance(name, str):
        raise InputError(f"the name of a model must be a text, got {name!r}")


def check_metadata(metadata: Any) -> None:
    """Raise InputError unless JSON gives metadata back as they are."""
    try:
        same = isinstance(metadata, Mapping) and json.loads(json.dumps(dict(metadata), allow_nan=False)) == metadata
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"metadata can't be written as JSON: {error}") from error
    if not same:
        raise InputError(f"metadata must be a dict of texts, numbers, lists and dicts with texts as keys: {metadata!r}")


def read_description(header: dict[str, Any]) -> Description:
    """Return what a header says; older ones have no name, metadata, training, calibration nor clusters.

    Raises
    ------
    InputError
        If an entry is not what is written there.
    KeyError
        If one is not there.
    """
    _check(header)
    clusters = header.get("clusters")
    bound = header["lower_bound"]
    return Description(
        parameters=header["parameters"],
        stop_reason=StopReason[header["stop_reason"]],
        converged=header["converged"],
        n_iter=header["n_iter"],
        n_missing=header["n_missing"],
        n_features=header["n_features_in"],
        lower_bound=float("-inf") if bound is None else float(bound),
        schema=_schema_of(header),
        clusters=None if clusters is None else np.array(clusters, dtype=np.int64),
        name=header.get("name"),
        metadata=header.get("metadata") or {},
        training=_training_of(header.get("training")),
        calibration=_calibration_of(header.get("calibration")),
    )


def _check(header: dict[str, Any]) -> None:
    names, bound, name = header["feature_names_in"], header["lower_bound"], header.get("name")
    metadata, clusters = header.get("metadata"), header.get("clusters")
    for entry, fits, expected in (
        ("parameters", isinstance(header["parameters"], dict), "an object"),
        ("converged", isinstance(header["converged"], bool), "true or false"),
        ("stop_reason", header["stop_reason"] in StopReason.__members__, f"one of {', '.join(StopReason.__members__)}"),
        ("n_iter", _is_integer(header["n_iter"], 0), "an integer of at least 0"),
        ("n_missing", _is_integer(header["n_missing"], 0), "an integer of at least 0"),
        ("n_features_in", _is_integer(header["n_features_in"], 1), "an integer of at least 1"),
        ("lower_bound", bound is None or _is_number(bound), "a finite number"),
        ("feature_names_in", names is None or isinstance(names, list), "a list of names"),
        ("name", name is None or isinstance(name, str), "a text"),
        ("metadata", metadata is None or isinstance(metadata, dict), "an object"),
        ("clusters", clusters is None or _are_clusters(clusters), "a list of clusters 0, 1, ..."),
    ):
        if not fits:
            raise InputError(f"{entry} is {header[entry]!r}; expected {expected}"[:300])
    if "covariance_type" not in header["parameters"]:
        raise KeyError("covariance_type")


def _are_clusters(value: Any) -> bool:
    if not isinstance(value, list) or not all(_is_integer(one, 0) for one in value):
        return False
    return bool(value) and set(value) == set(range(max(value) + 1))


def _is_integer(value: Any, smallest: int) -> bool:
    return type(value) is int and value >= smallest


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(value))


def _schema_of(header: dict[str, Any]) -> FeatureSchema:
    """Return the names that are in a header; older ones have those of features alone."""
    names = None if header["feature_names_in"] is None else tuple(map(from_json, header["feature_names_in"]))
    if names is not None and len({*names}) < len(names):
        raise InputError("feature_names_in has a name twice")
    keys = "list_column", "weight_column", "feature_dimension"
    lists, weight, dimension = (from_json(header.get(key)) for key in keys)
    return FeatureSchema(names if lists is None else (lists,), weight, lists is not None, dimension)


def _training_of(entry: Any) -> TrainingSummary | None:
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise InputError(f"training is {entry!r}; expected an object"[:300])
    known = {one.name for one in dataclasses.fields(TrainingSummary)}
    # Others are a later version's.
    values = {name: value for name, value in entry.items() if name in known}
    values = {"table": None, "where": None, **values}
    if missing := known - values.keys():
        raise InputError(f"training has no {', '.join(sorted(missing))}")
    checks: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
        (("n_rows", "n_missing", "n_passes"), lambda one: _is_integer(one, 0), "an integer of at least 0"),
        (("sum_weight",), _is_number, "a finite number"),
        (("gap",), lambda one: one is None or _is_number(one), "a finite number, or null"),
        (("fitted_at", "fingerprint"), lambda one: isinstance(one, str), "a text"),
        (("store", "table", "where"), lambda one: one is None or isinstance(one, str), "a text, or null"),
        (("versions",), lambda one: isinstance(one, dict), "an object"),
    )
    for names, fits, expected in checks:
        for name in names:
            if not fits(values[name]):
                raise InputError(f"training's {name} is {values[name]!r}; expected {expected}"[:300])
    # JSON has no infinity.
    values["gap"] = float("inf") if values["gap"] is None else values["gap"]
    return TrainingSummary(**values)


def _calibration_of(entry: Any) -> Calibration | None:
    if entry is None:
        return None
    fits = isinstance(entry, dict) and _is_integer(entry["n_rows"], 0)
    lists = [entry[name] for name in ("levels", "log_densities")] if fits else []
    if not fits or not all(isinstance(one, list) and all(map(_is_number, one)) for one in lists):
        raise InputError("calibration is not a number of rows, levels and log-densities")
    levels, log_densities = (np.array(one, dtype=np.float64) for one in lists)
    if (
        len(levels) != len(log_densities)
        or not (np.diff(levels) > 0.0).all()
        or not (np.diff(log_densities) >= 0).all()
    ):
        raise InputError("calibration's levels and log-densities are not two lists of one length that rise")
    if len(levels) and not 0.0 < levels[0] <= levels[-1] < 1.0:
        raise InputError("calibration's levels are not between 0 and 1")
    return Calibration(entry["n_rows"], levels, log_densities)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """Return the same with None for numbers that JSON does not have, also one level down."""
    values = {name: finite(one) if isinstance(one, dict) else one for name, one in values.items()}
    return {name: None if isinstance(one, float) and not np.isfinite(one) else one for name, one in values.items()}


def _plain(value: Any) -> Any:
    """Turn NumPy scalars into Python's, for JSON."""
    return value.item() if isinstance(value, np.generic) else value
