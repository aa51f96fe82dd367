"""Frozen values as text and arrays, and back: what is read holds no code, and only registered classes are made.

A dataclass or an enum is registered where it is defined, by `serializable`.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Class = TypeVar("Class", bound=type)
Arrays = dict[str, npt.NDArray[Any]]
_CLASSES: dict[str, Any] = {}


def serializable(cls: Class) -> Class:
    """Let values of a frozen dataclass, or of an enum, be encoded by the name of their class.

    Raises
    ------
    ValueError
        If another class has that name.
    """
    if cls.__name__ in _CLASSES:
        raise ValueError(f"two serializable classes are called {cls.__name__}")
    _CLASSES[cls.__name__] = cls
    return cls


def encode(value: Any) -> tuple[Any, Arrays]:
    """Turn a value into what JSON can hold and named arrays; floats keep their bits.

    Raises
    ------
    TypeError
        For a class that is not registered.
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
    if _CLASSES.get(kind) is type(value):
        if isinstance(value, Enum):
            return {"enum": [kind, value.name]}
        return {
            "class": kind,
            "fields": {f.name: _encode(getattr(value, f.name), arrays, names) for f in fields(value) if f.init},
        }
    raise TypeError(f"no way to encode a {kind}")


def decode(tree: Any, arrays: Arrays) -> Any:
    """Turn back what `encode` gave.

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
        return tuple(decode(one, arrays) for one in tree["tuple"])
    if "enum" in tree:
        kind, name = tree["enum"]
        return _CLASSES[kind][name]
    return _CLASSES[tree["class"]](**{name: decode(one, arrays) for name, one in tree["fields"].items()})
