"""What a job says while it runs, on standard error: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Log:
    """A log of events.

    Attributes
    ----------
    as_json : bool
        Whether each line is an object with time, level, event and fields; else it is a sentence.
    quiet : bool
        Whether only warnings and errors are said to people.
    """

    as_json: bool = False
    quiet: bool = False

    def info(self, event: str, text: str = "", **fields: Any) -> None:
        """Say what happens; people hear it where there is a sentence for it."""
        if self.as_json:
            self._write("info", event, fields, text)
        elif text and not self.quiet:
            self._say(f"streamgmm: {text}")

    def warning(self, text: str, **fields: Any) -> None:
        """Say what may not be meant."""
        if self.as_json:
            self._write("warning", "warning", fields, text)
        else:
            self._say(f"streamgmm: warning: {_in_one_line(text)}")

    def error(self, text: str, **fields: Any) -> None:
        """Say what has ended the job."""
        if self.as_json:
            self._write("error", "error", fields, text)
        else:
            self._say(f"streamgmm: {_in_one_line(text)}")

    def _write(self, level: str, event: str, fields: dict[str, Any], text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = {"time": now, "level": level, "event": event, **finite(fields)}
        if text:
            said["message"] = _in_one_line(text)
        self._say(json.dumps(said, default=str, allow_nan=False))

    @staticmethod
    def _say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def hearing_warnings(self) -> Iterator[None]:
        """Say warnings as what they are: those meant for users, one line each."""

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            self.warning(str(message))

        with warnings.catch_warnings():
            # What libraries tell each other's developers is not meant for users.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = show
            with self._hearing_clusters():
                yield

    @contextmanager
    def _hearing_clusters(self) -> Iterator[None]:
        """Say what Dask's clusters log as what it is, where each line has to be an object."""
        if not self.as_json:
            yield
            return
        logger, handler = logging.getLogger("distributed"), _Handler(self)
        before, propagate = logger.handlers, logger.propagate
        logger.handlers, logger.propagate = [handler], False
        try:
            yield
        finally:
            logger.handlers, logger.propagate = before, propagate


class _Handler(logging.Handler):
    """Passes on what is logged with Python's own means."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.warning(record.getMessage(), logger=record.name)


def finite(value: Any) -> Any:
    """Return a value with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_one_line(text: str) -> str:
    # Terminals obey control characters, and cron's mail ends at some.
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in " ".join(text.split()))
