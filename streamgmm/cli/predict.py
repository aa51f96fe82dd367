"""`streamgmm predict`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options
from streamgmm.cli.running import job_options, run_step
from streamgmm.cli.shown import show_scores


@click.command(short_help="Score rows, and write the results next to their keys.")
@click.argument("model")
@click.argument("source")
@click.option("--output", required=True, metavar="STORE", help="A name that ends in .parquet or .zarr.")
@click.option(
    "--write",
    metavar="A,B,...",
    default="label",
    show_default=True,
    help="Results: label, probability, log_density, outlier, responsibilities.",
)
@click.option("--keep", metavar="A,B,...|all", help="Columns of SOURCE to carry over, such as a row's key.")
@options.columns
@options.where
@click.option("--outlier-rate", type=float, help="Share of the rows of the fit that would be outliers.")
@click.option("--outlier-threshold", type=float, help="Log-density (nats) below which a row is an outlier.")
@click.option(
    "--float-type",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Of densities and probabilities.",
)
@click.option("--compression", metavar="NAME", help="snappy, zstd, gzip, lz4, brotli or none; of Zarr zstd, gzip, lz4.")
@click.option("--row-group-rows", type=click.IntRange(1), help="Rows of a row group of Parquet.")
@click.option("--partition-by", metavar="A,B,...", help="Columns kept whose values become folders (Parquet).")
@click.option("--prefix", default="", help="What the names of the results begin with.")
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@options.if_exists
@job_options()
def predict(write: str, keep: str | None, columns: str | None, partition_by: str | None, **given: Any) -> None:
    """Score the rows of SOURCE with MODEL and write the results, in the order of the rows, next to columns kept.

    Rows with missing values are an error or, with --missing drop or a model that was fitted so, get the label -1 and
    NaN elsewhere. A run that is stopped is gone on with by the same command.

    Example: streamgmm predict model.safetensors visits/ --output scored.parquet --write label,log_density --keep id
    """
    run, step = options.split_options(given)
    step |= {
        "step": "predict",
        "write": options.split_columns(write),
        "keep": "all" if keep == "all" else options.split_columns(keep),
        "columns": options.split_columns(columns),
        "partition_by": options.split_columns(partition_by),
    }
    run_step(step, show_scores, **run)
