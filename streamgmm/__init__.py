"""Gaussian mixtures for data that does not fit in memory: out of core, streaming and distributed, on Dask.

The public names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

from streamgmm._version import __version__ as __version__

_HOMES = {
    "GaussianMixture": "streamgmm.estimators.gaussian_mixture",
    "StopReason": "streamgmm.em.convergence",
    "SearchResult": "streamgmm.estimators.search",
    "load": "streamgmm.export.model_file",
    "save": "streamgmm.export.model_file",
    "search": "streamgmm.estimators.search",
    "write_predictions": "streamgmm.predict.write",
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
    from streamgmm.em.convergence import StopReason
    from streamgmm.estimators.gaussian_mixture import GaussianMixture
    from streamgmm.estimators.search import SearchResult, search
    from streamgmm.export.model_file import load, save
    from streamgmm.predict.write import write_predictions


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "exceptions":
        return import_module("streamgmm.exceptions")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
