"""`streamgmm run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from streamgmm.cli.running import finish_job
from streamgmm.cli.shown import show_step


@click.command(short_help="Run the steps of a job file.")
@click.argument("job", required=False)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change an entry, as limits.max_seconds=60.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the results.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Of the log, on standard error.")
@click.option("--metrics", metavar="FILE", help="Write a text file for Prometheus when it ends.")
@click.option("--max-seconds", type=click.FloatRange(0, min_open=True), help="End after so long, with code 75.")
@click.option("--strict", is_flag=True, help="Exit with 3 where a fit has not converged.")
@click.option("--dry-run", is_flag=True, help="Check everything, read no rows, write nothing.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema of job files.")
def run(
    job: str | None,
    changes: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    quiet: bool,
    print_schema: bool,
    strict: bool,
    **reports: Any,
) -> None:
    """Run the steps that the file JOB declares: fit, select, predict, score and compare, in its order.

    Example: streamgmm run nightly.toml --set steps.0.components=8 --log-format json
    """
    from streamgmm.jobs.reading import read_job

    if print_schema:
        from streamgmm.jobs.declaration import Job

        click.echo(json.dumps(Job.model_json_schema(), indent=2))
        return
    if job is None:
        raise click.UsageError("Missing argument 'JOB': the file to run.", click.get_current_context())
    given = [*changes]
    for name, key in (
        ("log_format", "reports.log_format"),
        ("metrics", "reports.metrics"),
        ("max_seconds", "limits.max_seconds"),
    ):
        if reports[name] is not None:
            given.append(f"{key}={json.dumps(reports[name])}")
    if strict:
        given.append("criteria.converged=true")
    found = read_job(job, given)
    named = found if found.name is not None else found.model_copy(update={"name": Path(job).stem})
    finish_job(named, show_step, as_json=as_json, dry_run=dry_run, quiet=quiet, file=job)
