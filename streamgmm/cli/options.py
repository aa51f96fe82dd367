"""Options that several commands have."""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from streamgmm.exceptions import InputError
from streamgmm.fitting.parameters import PARAMETERS, Choice, Integer, Number, Size, Switch

columns = click.option(
    "--columns", metavar="A,B,...", help="The features of a table, separated by commas; all its columns if not given."
)
where = click.option(
    "--where",
    metavar="CONDITION",
    help="Which rows of Parquet files are meant, in SQL's words: \"date >= '2026-01-01' and country = 'DE'\".",
)
weight_column = click.option("--weight-column", metavar="NAME", help="The column of a table that holds row weights.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output where it exists.")


def number_or_auto(_context: click.Context, _option: click.Parameter, value: str) -> float | str:
    """Read a number or "auto"."""
    if value == "auto":
        return value
    try:
        return float(value)
    except ValueError:
        raise click.BadParameter(f"expected a number or 'auto', got {value!r}") from None


def parameter(name: str, *names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option for a parameter of the estimator, as the table of parameters has it.

    Parameters
    ----------
    name : str
    *names : str
        Other names for the option, as click takes them.
    **settings
        Of the option, beside those that follow from the table.
    """
    known = PARAMETERS[name]
    kind, flag = known.kind, f"--{name.replace('_', '-')}"
    derived: dict[str, Any] = {"help": known.help}
    if isinstance(kind, Integer):
        derived["type"] = click.IntRange(kind.smallest)
    elif isinstance(kind, Choice):
        derived["type"] = click.Choice(list(kind.options))
    elif isinstance(kind, Number) and kind.auto:
        derived["callback"] = number_or_auto
    elif isinstance(kind, Number):
        derived["type"] = click.FloatRange(0)
    elif isinstance(kind, Size):
        derived["metavar"] = "SIZE"
    elif isinstance(kind, Switch):
        flag, derived["default"] = f"{flag}/--no-{name.replace('_', '-')}", None
    return click.option(*(names or (flag,)), **{**derived, **settings})


#: Parameters as messages name them, which are written for Python: with a text, with nothing.
_WITH_TEXT = re.compile(r"\b(missing|resume|criterion|covariance_type|init_params)='([\w+-]+)'")
_ALONE = re.compile(r"\b(columns|where|keep|checkpoint|memory_limit|max_iter|n_init|held_out|reg_covar|tol)=(\S?)")


def name_options(message: str) -> str:
    """Name options in a message as they are named on the command line."""

    def flag(name: str) -> str:
        return f"--{name.replace('_', '-')}"

    message = _WITH_TEXT.sub(lambda found: f"{flag(found[1])} {found[2]}", message)

    def flag_and_value(found: re.Match[str]) -> str:
        has_value = found[2].isalnum() or found[2] in ("[", "'")
        return f"{flag(found[1])}{' ' if has_value else ''}{found[2]}"

    message = _ALONE.sub(flag_and_value, message)
    return message.replace("persist=False", "--no-persist").replace("(overwrite)", "(--overwrite)")


def scheduler(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --scheduler and --workers."""
    where = click.option(
        "--scheduler",
        default="threads",
        show_default=True,
        metavar="ADDRESS|threads|processes",
        help="Where to run: a Dask scheduler's address, threads here, or a cluster of processes on this machine.",
    )
    workers = click.option(
        "--workers", type=click.IntRange(1), help="Number of threads or processes; the number of cores if not given."
    )
    return where(workers(command))


def split_columns(columns: str | None) -> list[str] | None:
    """Split a list of names."""
    return None if columns is None else [name.strip() for name in columns.split(",")]


@contextmanager
def running_on(scheduler: str, workers: int | None, memory_limit: str | None) -> Iterator[None]:
    """Make a scheduler the active one: the address of a cluster, "threads", or "processes" for one of our own."""
    import dask

    if scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler, num_workers=workers):
            yield
        return
    from dask.distributed import Client, LocalCluster

    if scheduler == "processes":
        with (
            # With any free port: another cluster on this machine may have the usual one.
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory_limit or "auto",
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster),
        ):
            yield
        return
    if "://" not in scheduler and ":" not in scheduler:
        raise InputError(
            f"--scheduler must be the address of a Dask scheduler (tcp://host:8786), 'threads' or 'processes'; "
            f"got {scheduler!r}"
        )
    try:
        # Also how long it looks for a scheduler that it has lost: distributed.comm.timeouts.connect.
        client = Client(scheduler)
    except OSError as error:
        raise InputError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield


class _Terminated(SystemExit):
    """What SIGTERM raises wherever the main thread is."""


@contextmanager
def ended_by_sigterm(message: str) -> Iterator[None]:
    """Let SIGTERM end what runs as an error would, everything closed, and exit with 143 as shells expect it."""
    code = 128 + signal.SIGTERM

    def end(*_: Any) -> None:
        click.echo(f"streamgmm: {message}", err=True)
        raise _Terminated(code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        # Everything is closed. A thread that waits for a store, or one that was being started when the signal came,
        # would keep the interpreter from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as one line each on standard error."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"streamgmm: warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        # Those meant for users; what libraries tell each other's developers is not.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
