"""Model files: one file that holds arrays and text, and no code.

The format is safetensors: the arrays (float64, as the estimator's attributes name them, without the underscore), and
under the metadata's key "streamgmm" a JSON object with `format_version`, `streamgmm_version`, the estimator's
parameters and the scalars of the fit. Any safetensors reader can open it.

Its `checksum` is the SHA-256 of the arrays and of the entries that it names, so that a file in which a bit has changed
is refused. Files of earlier versions have none, and earlier versions read files that have one. Entries that are not
known are passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from streamgmm._version import __version__
from streamgmm.em.convergence import StopReason
from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.exceptions import InputError, ModelFileError, OutputExistsError
from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.gaussian.consistency import check_consistent
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.sources.schema import FeatureSchema, from_json, to_json
from streamgmm.storage.atomic_output import is_url, local_path, naming_output
from streamgmm.storage.folders import replace_file
from streamgmm.storage.outputs import check_output
from streamgmm.storage.places import check_apart, find_places
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import open_url
from streamgmm.units import parse_memory_limit

FORMAT_VERSION = 1
#: Bytes of a header, at most: what the format admits.
_LARGEST_HEADER = 100_000_000
_KEY = "streamgmm"
#: Bytes at a file's beginning that say whether it is a model.
_HEAD_BYTES = 200
#: Says in another place that the header has a checksum: damage to its name alone must not do away with it.
_HAS_CHECKSUM = "has_checksum"
_ARRAYS = ("weights", "means", "covariances", "precisions_cholesky", "lower_bounds")


def save(model: GaussianMixture, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a fitted model to a file; the file appears whole or not at all, in the place of a model that was there.

    Parameters
    ----------
    model : GaussianMixture
        A fitted model.
    path : str or path
        Or the URL of a file in an object store, of anything that fsspec opens.
    overwrite : bool, default=False
        Whether to replace a file that is no model, too.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    InputError
        If the path is, or lies inside of, what the model was fitted to.
    OutputExistsError
        If a file is there that is no model, unless `overwrite`.
    OutputError
        If the file can't be written.
    """
    if not isinstance(model, GaussianMixture):
        raise InputError(
            f"save(model, path): the first argument must be a fitted GaussianMixture, got {str(model)[:50]!r}, a "
            f"{type(model).__name__}"
        )
    from safetensors.numpy import save as serialise
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(model)
    path = os.fspath(path)
    # A model may take the place of its own file.
    check_apart(path, *(used for used in model._places_in_use() if used.what != "the file of the model"))
    check_output(path, overwrite=True, is_folder=False)
    if not overwrite:
        _check_replaces_a_model(path)
    parameters = {name: value for name, value in model.get_params(deep=False).items() if PARAMETERS[name].saved}
    parameters["covariance_type"], parameters["n_components"] = model._get_fitted_as()
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
        # JSON has no infinity.
        "lower_bound": float(model.lower_bound_) if np.isfinite(model.lower_bound_) else None,
        "n_missing": int(model.n_missing_),
        "n_features_in": int(model.n_features_in_),
        "feature_names_in": None if schema.feature_names is None else [to_json(name) for name in schema.feature_names],
        "list_column": to_json(schema.columns[0]) if schema.embedding and schema.columns else None,
        "weight_column": to_json(schema.weight),
    }
    arrays = {name: np.ascontiguousarray(getattr(model, f"{name}_"), dtype=np.float64) for name in _ARRAYS}
    header[_HAS_CHECKSUM] = True
    covered = sorted(header)
    header["checksum"] = {"sha256": _sha256(header, covered, arrays), "of": covered}
    # Of several keys of the metadata the order would be any.
    data = serialise(arrays, metadata={_KEY: json.dumps(header, sort_keys=True, allow_nan=False)})
    with naming_output(path):
        if is_url(path):
            filesystem, place = open_url(path)
            retry(lambda: filesystem.pipe_file(place, data))
        else:
            replace_file(Path(local_path(path)).absolute(), data)


def _check_replaces_a_model(path: str) -> None:
    """Refuse to replace what is there unless it is a model: a mistyped name may be that of somebody's data.

    Raises
    ------
    OutputExistsError
    """
    if is_url(path):
        filesystem, place = open_url(path)
        if not retry(lambda: filesystem.exists(place)):
            return
        head: bytes = retry(lambda: filesystem.cat_file(place, start=0, end=_HEAD_BYTES))
    else:
        place = local_path(path)
        if not os.path.isfile(place):
            return
        with open(place, "rb") as file:
            head = file.read(_HEAD_BYTES)
    # The metadata come first, after eight bytes for their length and an opening brace.
    if b'"__metadata__"' not in head or _KEY.encode() not in head:
        raise OutputExistsError(
            f"{path} exists and is not a streamgmm model: choose another name, or allow it to be replaced (overwrite)"
        )


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
    name = os.fspath(path)
    header, arrays = _read(name)
    model = _restored(header, arrays, name)
    model._file_places = find_places(name)
    return model


def _read(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors.numpy import load as deserialise

    data = _bytes(path)
    try:
        arrays = deserialise(data)
        length = int.from_bytes(data[:8], "little")
        metadata = _parsed(data[8 : 8 + length]).get("__metadata__", {})
    # The format's own errors, those of JSON, those of dtypes that NumPy does not have.
    except (Exception, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged or no model file: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but holds no streamgmm model")
    try:
        header: dict[str, Any] = _parsed(metadata[_KEY])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its header can't be read ({error!r})") from error
    if not _is_integer(version, 1):
        raise ModelFileError(f"{path} is damaged: its format is {version!r}, which is no number of one")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has model format {version}, and this version of streamgmm reads up to {FORMAT_VERSION}: upgrade "
            "streamgmm"
        )
    if "checksum" in header or _HAS_CHECKSUM in header:
        _check_checksum(header, arrays, path)
    return header, arrays


def _parsed(text: str | bytes) -> Any:
    """Read JSON, and no more than JSON: without NaN and infinities, and with no name given twice."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON's")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a name is given twice among {[name for name, _ in pairs][:20]}")
        return found

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)


def _sha256(header: dict[str, Any], covered: list[str], arrays: dict[str, Any]) -> str:
    """Return the digest of some of the header's entries, and of the arrays with their names, dtypes and shapes."""
    entries = {name: header[name] for name in covered}
    total = hashlib.sha256(json.dumps(entries, sort_keys=True, allow_nan=False).encode())
    for name in _ARRAYS:
        array = arrays[name]
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _check_checksum(header: dict[str, Any], arrays: dict[str, Any], path: str) -> None:
    try:
        given, covered = header["checksum"]["sha256"], header["checksum"]["of"]
        same = given == _sha256(header, covered, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its checksum can't be computed ({error!r})") from error
    if not same:
        raise ModelFileError(f"{path} is damaged: its checksum is not that of its arrays and header")


def _bytes(path: str) -> bytes:
    if is_url(path):
        filesystem, place = open_url(path)
        try:
            data: bytes = retry(lambda: filesystem.cat_file(place))
        except FileNotFoundError:
            raise ModelFileError(f"there is no model file {path}") from None
        except OSError as error:
            raise ModelFileError(f"{path} can't be read: {error}") from error
        return data
    path = local_path(path)
    if os.path.isdir(path):
        raise ModelFileError(f"{path} is a folder, and no model file: give the file that save, or fit --output, wrote")
    if not os.path.isfile(path):
        raise ModelFileError(f"there is no model file {path}")
    try:
        with open(path, "rb") as file:
            # Of rows that were given for a model, no more than this is read.
            length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
            if 8 + length > size or length > _LARGEST_HEADER:
                raise ModelFileError(
                    f"{path} is damaged or no model file: it is not what save, or fit --output, writes"
                )
            file.seek(0)
            return file.read()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error}") from error


def _restored(header: dict[str, Any], arrays: dict[str, Any], path: str) -> GaussianMixture:
    try:
        _check_header(header)
        # Others are a later version's, or not for a file to say: a checkpoint's folder.
        known = {name for name, parameter in PARAMETERS.items() if parameter.saved}
        model = GaussianMixture(**{name: value for name, value in header["parameters"].items() if name in known})
        model._check_parameters()
        parse_memory_limit(model.memory_limit)
        check_random_state(model.random_state)
        if not isinstance(model.warm_start, bool):
            raise InputError(f"warm_start is {model.warm_start!r}; expected true or false")
        parameters = MixtureParameters(model.covariance_type, *(arrays[name] for name in _ARRAYS[:4]))
        check_consistent(parameters)
        schema = _schema_of(header)
        bounds, names = arrays["lower_bounds"], schema.feature_names
        if bounds.dtype != np.float64 or bounds.ndim != 1 or not np.isfinite(bounds).all():
            raise InputError("lower_bounds are not finite float64 numbers")
        if header["n_features_in"] != parameters.n_features:
            raise InputError(f"n_features_in is {header['n_features_in']}, and means have {parameters.n_features}")
        if names is not None and len(names) != parameters.n_features:
            raise InputError(f"there are {len(names)} names for {parameters.n_features} features")
        model._fitted_as = (model.covariance_type, model.n_components)
        for name in _ARRAYS:
            setattr(model, f"{name}_", arrays[name])
        model.precisions_ = parameters.precisions
        model.converged_ = header["converged"]
        model.stop_reason_ = StopReason[header["stop_reason"]]
        model.n_iter_ = header["n_iter"]
        model.lower_bound_ = float("-inf") if header["lower_bound"] is None else float(header["lower_bound"])
        model.n_missing_, model.n_features_in_ = header["n_missing"], header["n_features_in"]
        model._take_schema(schema)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = str(error) if isinstance(error, InputError) else f"{error!r} in its header or arrays"
        raise ModelFileError(f"{path} is damaged: {what}") from error
    return model


def _check_header(header: dict[str, Any]) -> None:
    """Refuse a header whose entries are not what `save` writes.

    Raises
    ------
    InputError
    KeyError
        If one is not there.
    """
    names, bound = header["feature_names_in"], header["lower_bound"]
    for name, fits, expected in (
        ("parameters", isinstance(header["parameters"], dict), "an object"),
        ("converged", isinstance(header["converged"], bool), "true or false"),
        ("stop_reason", header["stop_reason"] in StopReason.__members__, f"one of {', '.join(StopReason.__members__)}"),
        ("n_iter", _is_integer(header["n_iter"], 0), "an integer of at least 0"),
        ("n_missing", _is_integer(header["n_missing"], 0), "an integer of at least 0"),
        ("n_features_in", _is_integer(header["n_features_in"], 1), "an integer of at least 1"),
        ("lower_bound", bound is None or (type(bound) in (int, float) and np.isfinite(bound)), "a finite number"),
        ("feature_names_in", names is None or isinstance(names, list), "a list of names"),
    ):
        if not fits:
            raise InputError(f"{name} is {header[name]!r}; expected {expected}"[:300])
    if "covariance_type" not in header["parameters"]:
        raise KeyError("covariance_type")


def _is_integer(value: Any, smallest: int) -> bool:
    return type(value) is int and value >= smallest


def _schema_of(header: dict[str, Any]) -> FeatureSchema:
    """Return the names that are in a header; older files have those of features alone.

    Raises
    ------
    InputError
        If they are no names, or one is there twice.
    """
    names = None if header["feature_names_in"] is None else tuple(map(from_json, header["feature_names_in"]))
    if names is not None and len({*names}) < len(names):
        raise InputError("feature_names_in has a name twice")
    lists, weight = (from_json(header.get(key)) for key in ("list_column", "weight_column"))
    return FeatureSchema(names if lists is None else (lists,), weight, embedding=lists is not None)


def _plain(value: Any) -> Any:
    """Turn NumPy scalars into Python's, for JSON."""
    return value.item() if isinstance(value, np.generic) else value
