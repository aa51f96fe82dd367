"""What a fit says while it runs: a line per iteration, a progress bar on a terminal. All on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from streamgmm.em.state import State


@contextmanager
def report_progress(verbose: int, verbose_interval: int, max_iter: int) -> Iterator[Callable[[State], None]]:
    """Give a function that is called after every iteration.

    Parameters
    ----------
    verbose : int
        0 for silence, 1 for a progress bar on a terminal and lines elsewhere, 2 for lines everywhere.
    verbose_interval : int
        Iterations between lines.
    max_iter : int
        Where the bar ends.
    """
    if not verbose:
        yield lambda state: None
    elif verbose == 1 and sys.stderr.isatty():
        with _bar(max_iter) as update:
            yield update
    else:
        yield _lines(verbose_interval)


def describe(state: State) -> str:
    """Say in one line where a fit stands."""
    gap = f"{state.gap:.1e}" if np.isfinite(state.gap) else "?"
    return (
        f"log-likelihood {state.lower_bounds[-1]:.6f} nats/row, gap {gap}, smallest component "
        f"{state.parameters.weights.min():.2%}, {state.kernels[-1].value}"
    )


def _lines(interval: int) -> Callable[[State], None]:
    began = time.perf_counter()

    def report(state: State) -> None:
        if state.n_iter % interval == 0 or state.stop_reason is not None:
            seconds = time.perf_counter() - began
            print(f"iteration {state.n_iter}: {describe(state)}, {seconds:.1f} s", file=sys.stderr)
        if state.stop_reason is not None:
            print(f"stopped after {state.n_iter} iterations: {state.stop_reason.value}", file=sys.stderr)

    return report


@contextmanager
def _bar(max_iter: int) -> Iterator[Callable[[State], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("pass {task.completed}/{task.total}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("first pass", total=max_iter)

        def update(state: State) -> None:
            total = state.n_iter if state.stop_reason is not None else max_iter
            progress.update(task, completed=state.n_iter, total=total, description=describe(state))

        yield update
