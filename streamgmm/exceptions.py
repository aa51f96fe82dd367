"""Everything that streamgmm raises or warns on its own account.

::

    StreamGMMError
    ├── InputError (ValueError)            what the user gave can't be used; the message says what can
    │   ├── RowsError                      the rows: their place, kind, columns, dtype
    │   │   ├── MissingValuesError         a NaN or an infinity where missing="raise"
    │   │   ├── ConditionError             where= is no condition, or one that the columns can't answer
    │   │   ├── ReadError                  the store does not give them: gone, no permission, failing again and again
    │   │   └── DataChangedError           the store is not what it was in an earlier pass
    │   ├── ModelFileError                 a file that is no streamgmm model, or a newer one
    │   ├── CheckpointError                a checkpoint that a fit can't go on from, and why
    │   ├── InUseError                     another run is at work on the same output
    │   │   └── CheckpointInUseError       on the same checkpoint (a CheckpointError too)
    │   └── OutputError (OSError)          a result can't be written: no permission, no space, no such folder
    ├── SingularCovarianceError (ValueError)   a covariance that can't be inverted, and how to avoid it
    ├── MemoryLimitError (MemoryError)     what has to be in memory at once is more than `memory_limit`
    ├── OutputExistsError (FileExistsError)    a result would be written over something
    └── ClusterError (RuntimeError)        a Dask cluster has failed again and again

    StreamGMMWarning (UserWarning)
    ├── ComponentWarning                   a component starved or collapsed, and what became of it
    ├── RowsWarning                        what was left out of the rows that were named, or lacks in some files
    └── CheckpointWarning                  a part of a checkpoint is damaged, and an earlier one was taken
"""


class StreamGMMError(Exception):
    """Base of all errors that streamgmm raises on its own account."""


class InputError(StreamGMMError, ValueError):
    """What the user gave can't be used."""


class RowsError(InputError):
    """The rows can't be used: their place, kind, columns or dtype."""


class MissingValuesError(RowsError):
    """A value is NaN or infinite and ``missing="raise"``."""


class ConditionError(RowsError):
    """What ``where`` says is no condition, or one that the types of the columns don't allow."""


class ReadError(RowsError):
    """The store of the rows does not give them: it has gone, or fails again and again."""


class DataChangedError(RowsError):
    """The store of the rows has changed between two passes."""


class ModelFileError(InputError):
    """A file is not a streamgmm model, or one of a format that this version can't read."""


class CheckpointError(InputError):
    """A fit can't go on from a checkpoint."""


class InUseError(InputError):
    """Another run is at work on the same output."""


class CheckpointInUseError(CheckpointError, InUseError):
    """Another run is at work on a checkpoint."""


# OSError and MemoryError come first: they make their instances themselves, and Dask's unpickling calls the first base.
class OutputError(OSError, InputError):
    """A result can't be written where it should be."""


class SingularCovarianceError(StreamGMMError, ValueError):
    """A covariance can't be inverted."""


class MemoryLimitError(MemoryError, StreamGMMError):
    """What has to be in memory at once is more than the memory limit."""


class OutputExistsError(StreamGMMError, FileExistsError):
    """A result would be written over something that exists."""


class ClusterError(StreamGMMError, RuntimeError):
    """A Dask cluster has failed again and again, or does nothing."""


class StreamGMMWarning(UserWarning):
    """Base of all warnings of streamgmm's own."""


class RowsWarning(StreamGMMWarning):
    """A part of what was named is left out of the rows, or some of its files lack a column."""


class CheckpointWarning(StreamGMMWarning):
    """A part of a checkpoint is damaged."""


class ComponentWarning(StreamGMMWarning):
    """A component starved or collapsed during a fit."""
