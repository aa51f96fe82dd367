"""`streamgmm predict`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options


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
@click.option(
    "--if-exists",
    type=click.Choice(["fail", "skip", "replace"]),
    default="fail",
    show_default=True,
    help="Where the output exists.",
)
@options.overwrite
def predict(
    model: str,
    source: str,
    output: str,
    write: str,
    keep: str | None,
    columns: str | None,
    where: str | None,
    partition_by: str | None,
    missing: str | None,
    memory_limit: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
    **stored: Any,
) -> None:
    """Score the rows of SOURCE with MODEL and write the results, in the order of the rows, next to columns kept.

    Rows with missing values are an error or, with --missing drop or a model that was fitted so, get the label -1 and
    NaN elsewhere. A run that is stopped is gone on with by the same command.

    Example: streamgmm predict model.safetensors visits/ --output scored.parquet --write label,log_density --keep id
    """
    from streamgmm import load, write_predictions
    from streamgmm.predict.outputs import check_output_place
    from streamgmm.storage.places import InUse, check_apart, find_places

    # Known before a cluster is started.
    check_apart(output, InUse("the rows", find_places(source)), InUse("the model", find_places(model)))
    check_output_place(output, overwrite=True)
    fitted = load(model)
    fitted.memory_limit = memory_limit
    fitted.missing = missing or fitted.missing
    with (
        options.one_line_warnings(),
        options.ended_by_sigterm("stopped by SIGTERM; the same command goes on from what is written"),
        options.running_on(scheduler, workers, memory_limit),
    ):
        found = write_predictions(
            fitted,
            source,
            output,
            write=options.split_columns(write) or (),
            keep="all" if keep == "all" else options.split_columns(keep) or (),
            columns=options.split_columns(columns),
            where=where,
            partition_by=options.split_columns(partition_by) or (),
            overwrite=overwrite,
            **stored,
        )
    if found.skipped:
        click.echo(f"{output} is there already: nothing was done")
        return
    notes = [f"{found.n_rows} rows"]
    if found.n_missing:
        notes.append(f"{found.n_missing} with missing values")
    if found.n_outliers is not None:
        notes.append(f"{found.n_outliers} outliers")
    click.echo(f"{output}: {', '.join(notes)}")
    if found.n_resumed:
        click.echo(f"{found.n_resumed} of {found.n_parts} parts had been written before", err=True)
