"""`streamgmm plan`."""

from __future__ import annotations

import json

import click

from streamgmm.cli import options


@click.command(short_help="Say what a fit will take.")
@click.argument("source")
@options.parameter("n_components", "--components", "n_components", required=True)
@options.parameter("covariance_type", default="full", show_default=True)
@options.columns
@options.where
@options.weight_column
@options.parameter("memory_limit")
@options.scheduler
@click.option("--probe/--no-probe", default=True, show_default=True, help="Read one task to learn how fast that is.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; sizes in bytes, times in seconds.")
def plan(
    source: str,
    n_components: int,
    covariance_type: str,
    columns: str | None,
    where: str | None,
    weight_column: str | None,
    memory_limit: str | None,
    scheduler: str,
    workers: int | None,
    probe: bool,
    as_json: bool,
) -> None:
    """Say what a fit to the rows of SOURCE takes: rows, bytes, tasks, memory of a worker, seconds of a pass.

    Exits with 1 where a worker's memory would not do.

    Example: streamgmm plan rows.zarr --components 16 --scheduler processes --memory-limit 1GB
    """
    from streamgmm import GaussianMixture
    from streamgmm.jobs.running import running_on

    model = GaussianMixture(n_components, covariance_type=covariance_type, memory_limit=memory_limit)
    with options.one_line_warnings(), running_on(scheduler, workers, memory_limit):
        found = model.plan(
            source, sample_weight=weight_column, columns=options.split_columns(columns), where=where, probe=probe
        )
        click.echo(json.dumps(found.as_dict()) if as_json else str(found))
        found.check()
