"""What a fit says while it runs: a line per iteration, a progress bar on a terminal. All on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from streamgmm.em.state import State
from streamgmm.fitting.listener import Listener, Silence


@contextmanager
def report_progress(
    verbose: int, verbose_interval: int, callback: Callable[[State], object] | None = None
) -> Iterator[Listener]:
    """Give what hears how a fit comes along, and says so.

    Parameters
    ----------
    verbose : int
        0 for silence, 1 for a progress bar on a terminal and lines elsewhere, 2 for lines everywhere.
    verbose_interval : int
        Iterations between lines.
    callback : callable, optional
        Called with the state after each iteration, when that has been said.
    """
    if not verbose:
        yield WithCallback(Silence(), callback)
    elif verbose == 1 and sys.stderr.isatty():
        with _show_bar() as bar:
            yield WithCallback(bar, callback)
    else:
        yield WithCallback(Lines(verbose_interval), callback)


def describe_gap(state: State) -> str:
    """Say how far the optimum is."""
    return f"{state.gap:.0e} to go" if np.isfinite(state.gap) else "no rate yet"


class Lines:
    """Says a line in so many iterations, and one at the end."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._began = time.perf_counter()

    def begin(self, phase: str) -> None:
        """Nothing is said of a phase: its iterations, or what follows, will be."""

    def update(self, state: State) -> None:
        """Say where the fit stands."""
        if state.n_iter % self._interval == 0 or state.stop_reason is not None:
            print(
                f"iteration {state.n_iter}: log-likelihood {state.lower_bounds[-1]:.6f} nats/row, "
                f"{describe_gap(state)}, smallest component {state.parameters.weights.min():.2%}, "
                f"{state.kernels[-1].value}, {time.perf_counter() - self._began:.1f} s",
                file=sys.stderr,
            )
        if state.stop_reason is not None:
            print(f"stopped after {state.n_iter} iterations: {state.stop_reason.value}", file=sys.stderr)


class Bar:
    """Shows the phase, the iteration and the log-likelihood in one line that fits into 80 columns."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[stand]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        # How many iterations there will be nobody knows: the bar pulses.
        self._task = self.progress.add_task("opening", total=None, stand="")

    def begin(self, phase: str) -> None:
        """Show the phase."""
        self.progress.update(self._task, description=phase, refresh=True)

    def update(self, state: State) -> None:
        """Show where the fit stands; a full bar at the end."""
        stand = f"{state.lower_bounds[-1]:.4f} nats/row, {describe_gap(state)}"
        ended = state.stop_reason is not None
        self.progress.update(
            self._task,
            description=f"iteration {state.n_iter}",
            stand=stand,
            total=1 if ended else None,
            completed=1 if ended else 0,
        )


@contextmanager
def _show_bar() -> Iterator[Bar]:
    bar = Bar()
    with bar.progress:
        yield bar


class WithCallback:
    """A listener, and a user's callback that hears after it."""

    def __init__(self, listener: Listener, callback: Callable[[State], object] | None) -> None:
        self._listener, self._callback = listener, callback

    def begin(self, phase: str) -> None:
        """Pass it on."""
        self._listener.begin(phase)

    def update(self, state: State) -> object:
        """Pass it on, and call back."""
        self._listener.update(state)
        return None if self._callback is None else self._callback(state)
