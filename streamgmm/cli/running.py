"""Commands as jobs of one step: the options that they share, the run, what is printed of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from streamgmm.cli import options


def job_options(*, converges: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options that all commands that run something have."""
    added = [
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the result."),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="Of the log, on standard error: lines, or a JSON object a line.",
        ),
        click.option("--metrics", metavar="FILE", help="Write a text file for Prometheus when it ends."),
        click.option("--max-seconds", type=click.FloatRange(0, min_open=True), help="End after so long, with code 75."),
        click.option("--dry-run", is_flag=True, help="Check everything, read no rows, write nothing."),
    ]
    if converges:
        added.append(click.option("--strict", is_flag=True, help="Exit with 3 where the fit has not converged."))

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(added):
            command = one(command)
        return command

    return add


def run_step(
    step: dict[str, Any],
    show: Callable[[dict[str, Any]], str],
    *,
    scheduler: str,
    workers: int | None,
    memory_limit: str | None = None,
    as_json: bool = False,
    log_format: str = "text",
    metrics: str | None = None,
    max_seconds: float | None = None,
    dry_run: bool = False,
    strict: bool = False,
    quiet: bool = False,
) -> None:
    """Run one step as a job, and exit with its code.

    Parameters
    ----------
    step : dict
        What the declaration of a step has; what is None is left out.
    show : callable
        Returns what people read of the step's result.
    """
    from streamgmm.jobs.reading import check_job

    said = {
        "cluster": {"scheduler": scheduler, "workers": workers},
        "limits": {"memory": memory_limit, "max_seconds": max_seconds},
        "criteria": {"converged": strict},
        "reports": {"log_format": log_format, "metrics": metrics},
        "name": step["step"],
        "steps": [{name: value for name, value in step.items() if value is not None}],
    }
    # What comes from the command line has been expanded by the shell.
    job = check_job(options.escape_variables(said), "the command")
    finish_job(job, show, as_json=as_json, dry_run=dry_run, quiet=quiet)


def finish_job(
    job: Any,
    show: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
    dry_run: bool,
    quiet: bool = False,
    file: str | None = None,
) -> None:
    """Run a job, print its result, and exit with its code."""
    from streamgmm.cli.errors import exit_with
    from streamgmm.exceptions import StreamGMMError
    from streamgmm.jobs.log import Log, finite
    from streamgmm.jobs.running import run_job

    log = Log(job.reports.log_format == "json", quiet)
    show_progress = not quiet and job.reports.log_format == "text"
    try:
        result = run_job(job, log, dry_run=dry_run, show_progress=show_progress, file=file)
    except (StreamGMMError, OSError) as error:
        exit_with(error, log)
    if as_json:
        # JSON has no infinity, nor has it NaN.
        steps = [finite({k: v for k, v in one.items() if k not in ("text", "report")}) for one in result.steps]
        found: dict[str, Any] = {"exit_code": int(result.exit_code), "failed": result.failed}
        click.echo(json.dumps({**found, **steps[0]} if len(steps) == 1 else {**found, "steps": steps}, allow_nan=False))
    else:
        for one in result.steps:
            text = _show_dry(one) if dry_run else show(one)
            if text:
                click.echo(text)
    for failed in result.failed:
        log.error(failed)
    if result.exit_code:
        sys.exit(int(result.exit_code))


def _show_dry(found: dict[str, Any]) -> str:
    if "n_rows" not in found or not found["status"].startswith("would"):
        return f"{found['step']}: {found['status']}"
    rows = "rows" if found["n_rows"] is None else f"{found['n_rows']} rows"
    return f"{found['step']}: {rows} {found['status']}"
