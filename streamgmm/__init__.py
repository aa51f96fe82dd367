"""Gaussian mixtures for data that does not fit in memory: out of core, streaming and distributed, on Dask.

The words of this package, each with one meaning:

row
    One sample: a value for each feature, and perhaps a weight, which says how many rows it stands for.
source
    Where rows come from: an array, a table, the path of a store, a Dask collection.
chunk
    A piece of the stored data, as its store is cut: of a Zarr array, a row group of a Parquet file.
task
    What Dask runs: reads some consecutive rows and computes what is asked of them.
pass
    One reading of all rows: every task once, and the sum of what the tasks give.
partition
    The cut of the rows into tasks. It comes from the data and the memory limit alone, never from the workers.
statistics
    What an E-step gives for some rows, all that the M-step needs of them; statistics of parts add up.
sample
    Rows drawn in the first pass, kept in memory: a start is searched on them, and they tell the likelihood's curvature.
whitening
    The affine change of coordinates in which a fit works: the data's mean becomes 0, its covariance the identity.
lower bound
    What EM raises from pass to pass: the mean log-likelihood of a row in nats, less the penalty of `reg_covar`.
gap
    The estimated distance of the lower bound to its optimum, in nats per row. A fit ends where it is under `tol`.
checkpoint
    A folder in which a fit keeps what it has come to after each pass.

The public names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from typing import TYPE_CHECKING, Any

from streamgmm._version import __version__ as __version__

_HOMES = {
    "streamgmm.estimators.gaussian_mixture": ("GaussianMixture",),
    "streamgmm.estimators.search": ("SearchResult", "search"),
    "streamgmm.estimators.saving": ("load", "save"),
    "streamgmm.predict.prepare": ("Written",),
    "streamgmm.predict.write": ("write_predictions",),
    "streamgmm.em.convergence": ("StopReason",),
    "streamgmm.em.state": ("State",),
    "streamgmm.gaussian.information": ("Estimate",),
    "streamgmm.fitting.plan": ("Plan",),
    "streamgmm.fitting.report": ("FitReport",),
    "streamgmm.fitting.summary": ("TrainingSummary",),
    "streamgmm.merging.tree": ("MergeTree",),
    "streamgmm.predict.calibration": ("Calibration",),
    "streamgmm.predict.drift": ("DriftReport", "DriftTest"),
    "streamgmm.predict.information": ("StandardErrors",),
    "streamgmm.exceptions": (
        "CheckpointError",
        "CheckpointInUseError",
        "CheckpointWarning",
        "ClusterError",
        "ComponentWarning",
        "ConditionError",
        "DataChangedError",
        "InUseError",
        "InputError",
        "MemoryLimitError",
        "MissingValuesError",
        "ModelFileError",
        "OutputError",
        "OutputExistsError",
        "ReadError",
        "RowsError",
        "RowsWarning",
        "SingularCovarianceError",
        "StreamGMMError",
        "StreamGMMWarning",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Calibration",
    "CheckpointError",
    "CheckpointInUseError",
    "CheckpointWarning",
    "ClusterError",
    "ComponentWarning",
    "ConditionError",
    "DataChangedError",
    "DriftReport",
    "DriftTest",
    "Estimate",
    "FitReport",
    "GaussianMixture",
    "InUseError",
    "InputError",
    "MemoryLimitError",
    "MergeTree",
    "MissingValuesError",
    "ModelFileError",
    "OutputError",
    "OutputExistsError",
    "Plan",
    "ReadError",
    "RowsError",
    "RowsWarning",
    "SearchResult",
    "SingularCovarianceError",
    "StandardErrors",
    "State",
    "StopReason",
    "StreamGMMError",
    "StreamGMMWarning",
    "TrainingSummary",
    "Written",
    "exceptions",
    "load",
    "save",
    "search",
    "write_predictions",
]

if TYPE_CHECKING:
    from streamgmm import exceptions
    from streamgmm.em.convergence import StopReason
    from streamgmm.em.state import State
    from streamgmm.estimators.gaussian_mixture import GaussianMixture
    from streamgmm.estimators.saving import load, save
    from streamgmm.estimators.search import SearchResult, search
    from streamgmm.exceptions import (
        CheckpointError,
        CheckpointInUseError,
        CheckpointWarning,
        ClusterError,
        ComponentWarning,
        ConditionError,
        DataChangedError,
        InputError,
        InUseError,
        MemoryLimitError,
        MissingValuesError,
        ModelFileError,
        OutputError,
        OutputExistsError,
        ReadError,
        RowsError,
        RowsWarning,
        SingularCovarianceError,
        StreamGMMError,
        StreamGMMWarning,
    )
    from streamgmm.fitting.plan import Plan
    from streamgmm.fitting.report import FitReport
    from streamgmm.fitting.summary import TrainingSummary
    from streamgmm.gaussian.information import Estimate
    from streamgmm.merging.tree import MergeTree
    from streamgmm.predict.calibration import Calibration
    from streamgmm.predict.drift import DriftReport, DriftTest
    from streamgmm.predict.information import StandardErrors
    from streamgmm.predict.prepare import Written
    from streamgmm.predict.write import write_predictions


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "exceptions":
        return import_module("streamgmm.exceptions")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
