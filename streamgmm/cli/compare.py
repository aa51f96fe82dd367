"""`streamgmm compare`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options
from streamgmm.cli.running import job_options, run_step
from streamgmm.cli.shown import show_comparison


@click.command(short_help="Compare models on the same rows.")
@click.argument("models", nargs=-1, required=True)
@click.option("--source", required=True, help="The rows.")
@click.option("--output", metavar="MODEL", help="Where to put a copy of the best.")
@click.option(
    "--min-gain",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Nats per row, beyond two standard errors, by which another must be better than the first.",
)
@options.columns
@options.where
@options.weight_column
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@job_options()
def compare(models: tuple[str, ...], columns: str | None, **given: Any) -> None:
    """Compare MODELS on the rows of a source, the first being the one that the others have to beat.

    Example: streamgmm compare now.safetensors new.safetensors --source last_week/ --output now.safetensors
    """
    run, step = options.split_options(given)
    step |= {"step": "compare", "models": list(models), "columns": options.split_columns(columns)}
    run_step(step, show_comparison, **run)
