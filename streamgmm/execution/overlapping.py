"""Settings of the whole process that several threads need at overlapping times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock


class SharedContext:
    """A context that the first thread to come enters, and the last to go leaves; nests, and may be entered at once.

    Parameters
    ----------
    context : callable
        Makes the context manager that sets, and sets back.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._context = context
        self._lock = Lock()
        self._users = 0
        self._entered: AbstractContextManager[object] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the setting while inside."""
        with self._lock:
            if self._entered is None:
                entered = self._context()
                entered.__enter__()
                self._entered = entered
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._entered is not None:
                    entered, self._entered = self._entered, None
                    entered.__exit__(None, None, None)
