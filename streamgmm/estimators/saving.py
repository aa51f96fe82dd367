"""Fitted mixtures in files: `save` and `load`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.exceptions import InputError, ModelFileError
from streamgmm.export.header import Description, read_description
from streamgmm.export.information import pack_information, unpack_information
from streamgmm.export.model_file import ARRAYS, check_replaces_a_model, read_model, write_model
from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.gaussian.consistency import check_consistent
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.storage.outputs import check_output
from streamgmm.storage.places import check_apart, find_places
from streamgmm.units import parse_memory_limit


def save(
    model: GaussianMixture,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted model to a file; the file appears whole or not at all, in the place of a model that was there.

    Parameters
    ----------
    model : GaussianMixture
        A fitted model.
    path : str or path
        Or the URL of a file in an object store, of anything that fsspec opens.
    overwrite : bool, default=False
        Whether to replace a file that is no model, too.
    name : str, default=None
        What to call the model; its `name_` where not given.
    metadata : mapping, default=None
        What else to keep in the file, as JSON can hold it; its `metadata_` where not given.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    InputError
        If the path is, or lies inside of, what the model was fitted to; or JSON can't hold the metadata.
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
    check_is_fitted(model)
    path = os.fspath(path)
    # A model may take the place of its own file.
    check_apart(path, *(used for used in model._places_in_use() if used.what != "the file of the model"))
    check_output(path, overwrite=True, is_folder=False)
    if not overwrite:
        check_replaces_a_model(path)
    known = model._description()
    random_state = model.random_state
    seed = int(random_state) if isinstance(random_state, (int, np.integer)) else None
    description = dataclasses.replace(
        known,
        parameters={**known.parameters, "random_state": seed},
        name=known.name if name is None else name,
        metadata=known.metadata if metadata is None else metadata,
    )
    arrays = {name: np.ascontiguousarray(getattr(model, f"{name}_"), dtype=np.float64) for name in ARRAYS}
    said, more = pack_information(getattr(model, "information_", None))
    write_model(path, {**description.as_header(), **said}, {**arrays, **more})


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
    >>> streamgmm.save(model, path, metadata={"owner": "visits team"})
    >>> loaded = streamgmm.load(path)
    >>> bool((loaded.predict(x) == model.predict(x)).all()), loaded.metadata_
    (True, {'owner': 'visits team'})
    """
    place = os.fspath(path)
    header, arrays = read_model(place)
    try:
        model = _restored(read_description(header), arrays)
        model.information_ = unpack_information(header, arrays, model._parameters().n_parameters, model.n_features_in_)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = str(error) if isinstance(error, InputError) else f"{error!r} in its header or arrays"
        raise ModelFileError(f"{place} is damaged: {what}") from error
    model._file_places = find_places(place)
    return model


def _restored(description: Description, arrays: dict[str, Any]) -> GaussianMixture:
    # Others are a later version's, or not for a file to say: a checkpoint's folder.
    known = {name for name, parameter in PARAMETERS.items() if parameter.saved}
    model = GaussianMixture(**{name: value for name, value in description.parameters.items() if name in known})
    model._check_parameters()
    parse_memory_limit(model.memory_limit)
    check_random_state(model.random_state)
    if not isinstance(model.warm_start, bool):
        raise InputError(f"warm_start is {model.warm_start!r}; expected true or false")
    parameters = MixtureParameters(model.covariance_type, *(arrays[name] for name in ARRAYS[:4]))
    check_consistent(parameters)
    bounds, names = arrays["lower_bounds"], description.schema.feature_names
    if bounds.dtype != np.float64 or bounds.ndim != 1 or not np.isfinite(bounds).all():
        raise InputError("lower_bounds are not finite float64 numbers")
    if description.n_features != parameters.n_features:
        raise InputError(f"n_features_in is {description.n_features}, and means have {parameters.n_features}")
    if names is not None and len(names) != parameters.n_features:
        raise InputError(f"there are {len(names)} names for {parameters.n_features} features")
    if description.clusters is not None and len(description.clusters) != parameters.n_components:
        raise InputError(f"there are clusters of {len(description.clusters)} of {parameters.n_components} components")
    model._fitted_as = (model.covariance_type, model.n_components)
    for name in ARRAYS:
        setattr(model, f"{name}_", arrays[name])
    model.precisions_ = parameters.precisions
    model.converged_, model.stop_reason_ = description.converged, description.stop_reason
    model.n_iter_, model.lower_bound_ = description.n_iter, description.lower_bound
    model.n_missing_, model.n_features_in_ = description.n_missing, description.n_features
    model.name_, model.metadata_ = description.name, dict(description.metadata)
    model.training_summary_, model.calibration_ = description.training, description.calibration
    if description.clusters is not None:
        model.clusters_ = description.clusters
    model._take_schema(description.schema)
    return model
