"""What a job's exit code says to what has started it: cron, Airflow, Kubernetes. Most are those of sysexits.h."""

from __future__ import annotations

import signal
from enum import IntEnum

from streamgmm.exceptions import (
    ClusterError,
    ConditionError,
    DataChangedError,
    InputError,
    InUseError,
    MemoryLimitError,
    ModelFileError,
    OutputError,
    OutputExistsError,
    ReadError,
    RowsError,
    SingularCovarianceError,
)


class ExitCode(IntEnum):
    """Exit codes of commands and jobs."""

    DONE = 0
    USAGE = 2
    NOT_CONVERGED = 3
    BAD_DATA = 65
    CANT_WRITE = 73
    STORAGE = 74
    TRY_AGAIN = 75
    TERMINATED = 128 + signal.SIGTERM


#: The first that fits counts: errors of a kind come before the kind.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (ConditionError, ExitCode.USAGE),
    (OutputError, ExitCode.CANT_WRITE),
    (OutputExistsError, ExitCode.CANT_WRITE),
    (ReadError, ExitCode.STORAGE),
    (DataChangedError, ExitCode.TRY_AGAIN),
    (InUseError, ExitCode.TRY_AGAIN),
    (ClusterError, ExitCode.TRY_AGAIN),
    (RowsError, ExitCode.BAD_DATA),
    (ModelFileError, ExitCode.BAD_DATA),
    (SingularCovarianceError, ExitCode.BAD_DATA),
    (MemoryLimitError, ExitCode.USAGE),
    (InputError, ExitCode.USAGE),
    (OSError, ExitCode.STORAGE),
)


def code_of(error: BaseException) -> ExitCode | None:
    """Return the exit code of an error; None for one that is not expected."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
