"""`streamgmm fit`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from streamgmm.cli import options
from streamgmm.cli.running import job_options, run_step
from streamgmm.cli.shown import show_fit


@click.command(short_help="Fit a mixture.")
@click.argument("source")
@options.parameter("n_components", "--components", "components", required=True)
@click.option("--output", "model", required=True, metavar="MODEL", help="The model file to write (.safetensors).")
@options.parameter("covariance_type", default="full", show_default=True)
@options.columns
@options.where
@options.weight_column
@options.parameter("tol")
@options.parameter("reg_covar", default="auto", show_default=True)
@options.parameter("max_iter")
@options.parameter("n_init")
@options.parameter("init_params")
@options.parameter("accelerate")
@options.parameter("random_state", type=click.IntRange(0), default=0, show_default=True)
@options.parameter("missing")
@options.parameter("memory_limit")
@options.parameter("persist")
@options.scheduler
@options.parameter("checkpoint", metavar="FOLDER")
@options.parameter("resume")
@options.if_exists
@click.option("--name", help="What to call the model, in its file.")
@click.option("--report", is_flag=True, help="Print what the fit did and what it cost.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@job_options(converges=True)
def fit(columns: str | None, report: bool, **given: Any) -> None:
    """Fit a mixture to the rows of SOURCE and write it to MODEL.

    Example: streamgmm fit rows.zarr --components 16 --output model.safetensors --checkpoint rows.checkpoint
    """
    run, step = options.split_options(given)
    run_step(
        {"step": "fit", "columns": options.split_columns(columns), **step}, partial(show_fit, report=report), **run
    )
