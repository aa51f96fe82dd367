"""Gaussian mixtures for data that does not fit in memory: out of core, streaming and distributed, on Dask.

The public names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "GaussianMixture": "streamgmm.estimator",
    "StopReason": "streamgmm.fitting.stopping",
    "SearchResult": "streamgmm.model_search",
    "load": "streamgmm.model_file",
    "save": "streamgmm.model_file",
    "search": "streamgmm.model_search",
    "write_predictions": "streamgmm.result_files",
}

__all__ = [
    "GaussianMixture",
    "SearchResult",
    "StopReason",
    "exceptions",
    "load",
    "save",
    "search",
    "write_predictions",
]

if TYPE_CHECKING:
    from streamgmm import exceptions
    from streamgmm.estimator import GaussianMixture
    from streamgmm.fitting.stopping import StopReason
    from streamgmm.model_file import load, save
    from streamgmm.model_search import SearchResult, search
    from streamgmm.result_files import write_predictions


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "exceptions":
        return import_module("streamgmm.exceptions")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
