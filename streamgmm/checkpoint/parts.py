"""The parts of a pass that goes on: those that are there already, and those that come, kept now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Seconds of a pass that may be lost, beside the tasks at work: so often its parts are kept.
PART_SECONDS = 60.0


@dataclass
class PartBuffer:
    """Holds what has come of a pass until it is kept.

    Attributes
    ----------
    keep : callable
        Called with the parts that have come, as (number, value), once in `PART_SECONDS`.
    """

    keep: Callable[[tuple[tuple[int, Any], ...]], object]
    _parts: list[tuple[int, Any]] = field(default_factory=list)
    _kept_at: float = field(default_factory=time.monotonic)

    def add(self, number: int, value: Any) -> None:
        """Take a part."""
        self._parts.append((number, value))
        if time.monotonic() - self._kept_at >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Keep the parts that have come."""
        if self._parts:
            self.keep(tuple(self._parts))
        self.clear()

    def clear(self) -> None:
        """Forget them."""
        self._parts, self._kept_at = [], time.monotonic()
