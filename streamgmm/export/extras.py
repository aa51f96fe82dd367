"""Packages that only some need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from streamgmm.exceptions import InputError


def import_extra(package: str, extra: str) -> Any:
    """Import a package that comes with an extra.

    Raises
    ------
    InputError
        If it is not there; the message says how to get it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise InputError(f"this needs the package {package}: pip install 'streamgmm[{extra}]'") from error
