"""Bounded retries with growing waits, for what fails for a reason that may pass; and the settings of all of them.

Settings are Dask's: ``dask.config.set({"streamgmm.read-attempts": 6})``, a YAML file in ``~/.config/dask``, or the
environment, ``DASK_STREAMGMM__READ_ATTEMPTS=6``. They are read in the process that calls `fit`, and go with the tasks.

=================  ==============  ===============================================================================
setting            default         meaning
=================  ==============  ===============================================================================
read-attempts      4               times that a request to a store is made: rows, checkpoints
pass-attempts      4               times that a pass is given to a cluster which fails; what has been computed stays
first-wait         "0.5 seconds"   wait before a second attempt; each wait is twice the one before
stall-timeout      "10 minutes"    how long a cluster may do nothing, without a worker too, before that is a failure;
                                   for each part of a pass, where a task computes several (eight at most)
=================  ==============  ===============================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from streamgmm.exceptions import InputError

Value = TypeVar("Value")

DEFAULTS = {"read-attempts": 4, "pass-attempts": 4, "first-wait": "0.5 seconds", "stall-timeout": "10 minutes"}


def get_setting(name: str) -> float:
    """Return a setting: a number, of seconds where it is a time.

    Raises
    ------
    InputError
        If it is set to something else.
    """
    import dask
    from dask.utils import parse_timedelta

    value: Any = dask.config.get(f"streamgmm.{name}", DEFAULTS[name])
    try:
        number = float(parse_timedelta(value)) if isinstance(DEFAULTS[name], str) else int(value)
    except (KeyError, TypeError, ValueError):
        number = -1
    if number < (0 if isinstance(DEFAULTS[name], str) else 1):
        raise InputError(f"Dask's setting streamgmm.{name} must be like {DEFAULTS[name]!r}; got {value!r}")
    return number


@dataclass(frozen=True)
class Retries:
    """How often something is tried, and how long is waited in between.

    Attributes
    ----------
    attempts : int
    first_wait : float
        Seconds before the second attempt; each wait is twice the one before.
    """

    attempts: int
    first_wait: float

    @classmethod
    def configured(cls, attempts: str = "read-attempts") -> Retries:
        """Return what Dask's configuration says here and now."""
        return cls(int(get_setting(attempts)), get_setting("first-wait"))

    def call(
        self,
        request: Callable[[], Value],
        *,
        may_pass: Callable[[Exception], bool],
        before_wait: Callable[[], object] | None = None,
    ) -> Value:
        """Make a request until it succeeds, fails for a reason that won't pass, or has failed too often.

        What it raised last is raised.

        Parameters
        ----------
        request : callable
        may_pass : callable
            Says of an error whether it makes sense to try again; one that won't pass is raised at once.
        before_wait : callable, optional
            Called before each wait; what it raises ends the attempts.
        """
        return self.attempting(may_pass, before_wait)(request)

    def attempting(
        self, may_pass: Callable[[Exception], bool], before_wait: Callable[[], object] | None = None
    ) -> Retrying:
        """Return the same as a loop: ``for attempt in ...: with attempt: ...``."""

        def try_again(error: BaseException) -> bool:
            return isinstance(error, Exception) and may_pass(error)

        def prepare(_: RetryCallState) -> None:
            if before_wait is not None:
                before_wait()

        return Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_exponential(multiplier=self.first_wait),
            retry=retry_if_exception(try_again),
            before_sleep=prepare,
            sleep=sleep,
            reraise=True,
        )


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
