"""`streamgmm select`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options
from streamgmm.cli.running import job_options, run_step
from streamgmm.cli.shown import show_selection


@click.command(short_help="Choose the number of components.")
@click.argument("source")
@click.option("--components", required=True, metavar="RANGE", help="1:20, or 2,4,8, to try.")
@click.option(
    "--covariance-type",
    default="full",
    show_default=True,
    metavar="TYPES",
    help="full, tied, diag, spherical; several separated by commas.",
)
@click.option("--criterion", type=click.Choice(["bic", "aic", "icl", "held_out"]), default="bic", show_default=True)
@click.option("--held-out", type=click.FloatRange(0, 0.5), default=0.1, show_default=True, help="Share of the rows.")
@click.option("--output", "model", metavar="MODEL", help="The model file to write (.safetensors), of the best.")
@options.parameter("tol")
@options.parameter("reg_covar", default="auto", show_default=True)
@options.parameter("random_state", type=click.IntRange(0), default=0, show_default=True)
@options.columns
@options.where
@options.weight_column
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@options.if_exists
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@job_options(converges=True)
def select(columns: str | None, covariance_type: str, **given: Any) -> None:
    """Fit mixtures of several sizes to the rows of SOURCE, all with the same passes, and compare them.

    Example: streamgmm select rows.zarr --components 1:20 --criterion bic
    """
    run, step = options.split_options(given)
    families = options.split_columns(covariance_type)
    step |= {"step": "select", "columns": options.split_columns(columns), "covariance_type": families}
    run_step(step, show_selection, **run)
