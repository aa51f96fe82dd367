"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

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


def if_exists(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --if-exists and --overwrite."""
    what = click.option(
        "--if-exists",
        type=click.Choice(["fail", "skip", "replace"]),
        default="fail",
        show_default=True,
        help="Where another output is there; one that this very command has made is finished.",
    )
    return what(overwrite(command))


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


#: Options that say how a command runs, and not what its step is.
_OF_RUN = (
    "scheduler", "workers", "memory_limit", "as_json", "log_format", "metrics", "max_seconds", "dry_run", "strict",
    "quiet",
)  # fmt: skip


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that say how a command runs, and those that say what its step is."""
    if given.pop("overwrite", False):
        given["if_exists"] = "replace"
    run = {name: value for name, value in given.items() if name in _OF_RUN}
    return run, {name: value for name, value in given.items() if name not in _OF_RUN}


def escape_variables(value: Any) -> Any:
    """Return the same, with dollar signs that stand for themselves."""
    if isinstance(value, dict):
        return {name: escape_variables(one) for name, one in value.items()}
    if isinstance(value, list):
        return [escape_variables(one) for one in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Show warnings as one line each on standard error."""
    from streamgmm.jobs.log import Log

    with Log().hearing_warnings():
        yield
