"""`streamgmm score`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options
from streamgmm.cli.running import job_options, run_step
from streamgmm.cli.shown import show_score


@click.command(short_help="Print the log-likelihood of rows.")
@click.argument("model")
@click.argument("source")
@options.columns
@options.where
@options.weight_column
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@job_options()
def score(columns: str | None, **given: Any) -> None:
    """Print the mean log-likelihood of the rows of SOURCE under MODEL, in nats per row; with --json also BIC and AIC.

    Example: streamgmm score model.safetensors rows.zarr
    """
    run, step = options.split_options(given)
    run_step({"step": "score", "columns": options.split_columns(columns), **step}, show_score, **run)
