"""Packages that only some need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from streamgmm.exceptions import InputError


def import_extra(package: str, extra: str) -> Any:
    """Import a package that comes with an extra, or a module of it.

    Raises
    ------
    InputError
        If it is not there; the message says how to get it.
    """
    name = package.partition(".")[0]
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        # Another may be what is missing, which this one needs.
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        raise InputError(f"this needs the package {name}: pip install 'streamgmm[{extra}]'") from error
