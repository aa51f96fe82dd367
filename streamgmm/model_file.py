"""Model files: one file that holds arrays and text, and no code.

The format is safetensors: the arrays (float64, as the estimator's attributes name them, without the underscore), and
under the metadata's key "streamgmm" a JSON object with `format_version`, `streamgmm_version`, the estimator's
parameters and the scalars of the fit. Any safetensors reader can open it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from streamgmm import __version__
from streamgmm.estimator import GaussianMixture
from streamgmm.exceptions import ModelFileError
from streamgmm.fitting.stopping import StopReason
from streamgmm.mixture.families import FAMILIES
from streamgmm.rows.replacing import check_output, is_url, local_path
from streamgmm.rows.schema import FeatureSchema, from_json, to_json
from streamgmm.storage import opened_place, replace_file, retried

FORMAT_VERSION = 1
_KEY = "streamgmm"
_ARRAYS = ("weights", "means", "covariances", "precisions_cholesky", "lower_bounds")
#: Parameters that are arrays, code or places: they have done their work when a model is fitted.
_NOT_SAVED = (
    "weights_init",
    "means_init",
    "precisions_init",
    "checkpoint",
    "resume",
    "persist",
    "callback",
    "random_state",
)


def save(model: GaussianMixture, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to a file; the file appears whole or not at all, in the place of one that was there.

    Parameters
    ----------
    model : GaussianMixture
    path : str or path
        Or the URL of a file in an object store, of anything that fsspec opens.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    InputError
        If the folder does not exist.
    """
    from safetensors.numpy import save as serialise
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model)
    path = os.fspath(path)
    check_output(path, overwrite=True)
    parameters = {name: value for name, value in model.get_params(deep=False).items() if name not in _NOT_SAVED}
    random_state = model.random_state
    parameters["random_state"] = int(random_state) if isinstance(random_state, (int, np.integer)) else None
    schema = model._fitted_schema()
    header = {
        "format_version": FORMAT_VERSION,
        "streamgmm_version": __version__,
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "converged": bool(model.converged_),
        "stop_reason": model.stop_reason_.name,
        "n_iter": int(model.n_iter_),
        "lower_bound": float(model.lower_bound_),
        "n_missing": int(model.n_missing_),
        "n_features_in": int(model.n_features_in_),
        "feature_names_in": None if schema.feature_names is None else [to_json(name) for name in schema.feature_names],
        "list_column": to_json(schema.columns[0]) if schema.embedding and schema.columns else None,
        "weight_column": to_json(schema.weight),
    }
    arrays = {name: np.ascontiguousarray(getattr(model, f"{name}_"), dtype=np.float64) for name in _ARRAYS}
    data = serialise(arrays, metadata={_KEY: json.dumps(header, sort_keys=True)})
    if is_url(path):
        filesystem, place = opened_place(path)
        retried(lambda: filesystem.pipe_file(place, data))
    else:
        replace_file(Path(local_path(path)).absolute(), data)


def load(path: str | os.PathLike[str]) -> GaussianMixture:
    """Read a model that `save` wrote; nothing in the file is executed.

    Parameters
    ----------
    path : str or path
        Or the URL of a file in an object store, of anything that fsspec opens.

    Returns
    -------
    GaussianMixture
        Fitted; it predicts the same bits as the one that was saved.

    Raises
    ------
    ModelFileError
        If the file is not there, is damaged, is no streamgmm model, or is of a later format.

    Examples
    --------
    >>> import tempfile, numpy as np, streamgmm
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> model = streamgmm.GaussianMixture(2, random_state=0).fit(x)
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> streamgmm.save(model, path)
    >>> bool((streamgmm.load(path).predict(x) == model.predict(x)).all())
    True
    """
    header, arrays = _read(os.fspath(path))
    return _restored(header, arrays, os.fspath(path))


def _read(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    data = _bytes(path)
    try:
        arrays = deserialise(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged or no model file: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but holds no streamgmm model")
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged: its header can't be read ({error})") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has model format {version}, and this version of streamgmm reads up to {FORMAT_VERSION}: upgrade "
            "streamgmm"
        )
    return header, arrays


def _bytes(path: str) -> bytes:
    if is_url(path):
        filesystem, place = opened_place(path)
        try:
            data: bytes = retried(lambda: filesystem.cat_file(place))
        except FileNotFoundError:
            raise ModelFileError(f"there is no model file {path}") from None
        except OSError as error:
            raise ModelFileError(f"{path} can't be read: {error}") from error
        return data
    path = local_path(path)
    if not os.path.isfile(path):
        raise ModelFileError(f"there is no model file {path}")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error}") from error


def _restored(header: dict[str, Any], arrays: dict[str, Any], path: str) -> GaussianMixture:
    try:
        known = GaussianMixture().get_params(deep=False)
        given = {name: value for name, value in header["parameters"].items() if name in known}
        model = GaussianMixture(**given)
        family = FAMILIES[model.covariance_type]
        for name in _ARRAYS:
            setattr(model, f"{name}_", arrays[name])
        n_components, n_features = model.means_.shape
        if model.covariances_.shape != family.shape(n_components, n_features):
            raise ValueError(f"covariances of shape {model.covariances_.shape}")
        model.precisions_ = family.precisions(model.precisions_cholesky_)
        model.converged_ = header["converged"]
        model.stop_reason_ = StopReason[header["stop_reason"]]
        model.n_iter_, model.lower_bound_ = header["n_iter"], header["lower_bound"]
        model.n_missing_, model.n_features_in_ = header["n_missing"], header["n_features_in"]
        model._take_schema(_schema_of(header))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: {error!r} in its header or arrays") from error
    return model


def _schema_of(header: dict[str, Any]) -> FeatureSchema:
    """Return the names that are in a header; older files have those of features alone."""
    names = None if header["feature_names_in"] is None else tuple(map(from_json, header["feature_names_in"]))
    lists, weight = (from_json(header.get(key)) for key in ("list_column", "weight_column"))
    return FeatureSchema(names if lists is None else (lists,), weight, embedding=lists is not None)


def _plain(value: Any) -> Any:
    """Turn NumPy scalars into Python's, for JSON."""
    return value.item() if isinstance(value, np.generic) else value
