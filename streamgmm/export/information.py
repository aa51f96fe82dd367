"""How a model file keeps the information of a fit: four arrays more, and an entry of the header that vouches for them.

The matrices are symmetric: their upper triangles are kept, row by row. Files without them are read as before, and
readers that do not know of them pass over them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.predict.information import Information
from streamgmm.typing import Floats

#: Their names in the file.
_NAMES = ("score_mean", "score_products", "score_curvature", "ranges")


def pack_information(information: Information | None) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Return what a header says of an information, and the arrays; nothing where there is none."""
    if information is None:
        return {}, {}
    packed = (information.mean, _upper(information.products), _upper(information.curvature), information.ranges)
    arrays = {name: np.ascontiguousarray(array) for name, array in zip(_NAMES, packed, strict=True)}
    said = {
        "n_rows": float(information.n_rows),
        "n_sampled": int(information.n_sampled),
        "sha256": _sha256(arrays),
    }
    return {"information": said}, arrays


def unpack_information(
    header: dict[str, Any], arrays: dict[str, Any], n_parameters: int, n_features: int
) -> Information | None:
    """Return the information that a file has; None where it has none.

    Raises
    ------
    InputError
        If it is not what was written.
    KeyError
        If a part of it is not there.
    """
    said = header.get("information")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise InputError(f"information is {said!r}; expected an object"[:300])
    found = {name: arrays[name] for name in _NAMES}
    shapes = [(n_parameters,), *[(n_parameters * (n_parameters + 1) // 2,)] * 2, (2, n_features)]
    for (name, array), shape in zip(found.items(), shapes, strict=True):
        if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
            raise InputError(f"{name} is not of shape {shape}, or not of finite float64 numbers")
    if said["sha256"] != _sha256(found):
        raise InputError("the checksum of the information is not that of its arrays")
    n_rows, n_sampled = said["n_rows"], said["n_sampled"]
    if type(n_rows) not in (int, float) or not n_rows > 0.0 or type(n_sampled) is not int or n_sampled < 1:
        raise InputError(f"information is of {n_rows!r} rows, from {n_sampled!r}; expected numbers above 0")
    mean, products, curvature, ranges = found.values()
    return Information(
        _symmetric(products, n_parameters), _symmetric(curvature, n_parameters), mean, float(n_rows), n_sampled, ranges
    )


def _sha256(arrays: dict[str, Floats]) -> str:
    total = hashlib.sha256()
    for name in _NAMES:
        total.update(f"{name} {arrays[name].shape}\n".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _upper(matrix: Floats) -> Floats:
    upper: Floats = matrix[np.triu_indices(len(matrix))]
    return upper


def _symmetric(upper: Floats, n: int) -> Floats:
    matrix = np.empty((n, n))
    rows, columns = np.triu_indices(n)
    matrix[rows, columns] = matrix[columns, rows] = upper
    return matrix
