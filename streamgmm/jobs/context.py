"""What all steps of a job share: the job, its log, how much time is left."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from streamgmm.jobs.declaration import Job, Rows
from streamgmm.jobs.log import Log
from streamgmm.jobs.promises import Promises


@dataclass
class Context:
    """What all steps of a job share.

    Attributes
    ----------
    job : Job
    log : Log
    dry_run : bool
        Whether to check, and do nothing.
    deadline : float or None
        By `time.monotonic`: a pass that would end later is not begun.
    show_progress : bool
        Whether fits say how they come along.
    was_stopped : bool
        Whether the step that runs was told that the time is up.
    promises : Promises
        What the steps before would leave, in a dry run.
    """

    job: Job
    log: Log
    dry_run: bool = False
    deadline: float | None = None
    show_progress: bool = True
    was_stopped: bool = False
    promises: Promises = field(default_factory=Promises)
    _last_pass: float | None = None

    def begin_step(self) -> None:
        """Forget the passes of the step before."""
        self._last_pass, self.was_stopped = None, False

    @property
    def has_found_something(self) -> bool:
        """Whether the step that runs has a model already, and asks after each pass whether the time is up."""
        return self._last_pass is not None

    def time_is_up(self) -> bool:
        """Tell, after a pass, whether another one like it would end too late."""
        now = time.monotonic()
        # How long the first one took is not known: the search was before it.
        took = 0.0 if self._last_pass is None else now - self._last_pass
        self._last_pass = now
        self.was_stopped = self.deadline is not None and now + took > self.deadline
        return self.was_stopped

    def source(self, step: Rows) -> Any:
        """Return the rows of a step."""
        return self.job.rows_of(step)["source"]

    def choice(self, step: Rows) -> dict[str, Any]:
        """Return which of its columns and rows are meant."""
        rows = self.job.rows_of(step)
        return {"columns": rows["columns"], "where": rows["where"]}

    def weight(self, step: Rows) -> str | None:
        """Return the column of the weights."""
        found: str | None = self.job.rows_of(step)["weight_column"]
        return found

    def missing(self, step: Rows) -> str | None:
        """Return what becomes of rows with missing values."""
        found: str | None = self.job.rows_of(step)["missing"]
        return found

    @property
    def memory_limit(self) -> int | str | None:
        """Bytes that a process may use for rows."""
        return self.job.limits.memory
