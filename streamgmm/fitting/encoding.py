"""Frozen values as text and arrays, and back: what is read holds no code, and only classes that are listed are made."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.fitting.acceleration import History
from streamgmm.fitting.e_step_pass import PassOutcome, RowsInMemory, UnlikelyRows
from streamgmm.fitting.sampling import Draw, Sample
from streamgmm.fitting.state import State, Step
from streamgmm.fitting.stopping import StopReason
from streamgmm.fitting.surrogate import Memory
from streamgmm.fitting.survey import Survey, SurveyRequest
from streamgmm.mixture.e_step import PassModel
from streamgmm.mixture.frame import Frame
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.mixture.precision import Kernel
from streamgmm.mixture.statistics import SufficientStatistics
from streamgmm.passes import Measured, PassCost

_CLASSES: dict[str, Any] = {
    one.__name__: one
    for one in (
        Draw,
        Frame,
        History,
        Measured,
        Memory,
        MixtureParameters,
        PassCost,
        PassModel,
        PassOutcome,
        RowsInMemory,
        Sample,
        State,
        Step,
        SufficientStatistics,
        Survey,
        SurveyRequest,
        UnlikelyRows,
    )
}
_ENUMS: dict[str, Any] = {one.__name__: one for one in (Kernel, StopReason)}
Arrays = dict[str, npt.NDArray[Any]]


def encoded(value: Any) -> tuple[Any, Arrays]:
    """Turn a value into what JSON can hold and named arrays; floats keep their bits.

    Raises
    ------
    TypeError
        For a class that is not listed.
    """
    arrays: Arrays = {}
    names: dict[int, str] = {}
    return _encode(value, arrays, names), arrays


def _encode(value: Any, arrays: Arrays, names: dict[int, str]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.ndarray):
        # An array that several values share is kept once.
        if id(value) not in names:
            names[id(value)] = str(len(arrays))
            arrays[names[id(value)]] = value
        return {"array": names[id(value)]}
    if isinstance(value, np.generic):
        return _encode(value.item(), arrays, names)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_encode(one, arrays, names) for one in value]}
    kind = type(value).__name__
    if _ENUMS.get(kind) is type(value):
        return {"enum": [kind, value.name]}
    if _CLASSES.get(kind) is type(value):
        return {
            "class": kind,
            "fields": {f.name: _encode(getattr(value, f.name), arrays, names) for f in fields(value) if f.init},
        }
    raise TypeError(f"no way to encode a {kind}")


def decoded(tree: Any, arrays: Arrays) -> Any:
    """Turn back what `encoded` gave.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is something else.
    """
    if tree is None or isinstance(tree, (bool, int, str)):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "float" in tree:
        return float.fromhex(tree["float"])
    if "tuple" in tree:
        return tuple(decoded(one, arrays) for one in tree["tuple"])
    if "enum" in tree:
        kind, name = tree["enum"]
        return _ENUMS[kind][name]
    return _CLASSES[tree["class"]](**{name: decoded(one, arrays) for name, one in tree["fields"].items()})
