"""`streamgmm predict`."""

from __future__ import annotations

import click

from streamgmm.cli import options
from streamgmm.exceptions import InputError


@click.command(short_help="Write labels, responsibilities or densities.")
@click.argument("model")
@click.argument("source")
@click.option("--output", required=True, metavar="STORE", help="A name that ends in .zarr or .parquet.")
@click.option("--proba", is_flag=True, help="Write responsibilities instead of labels.")
@click.option("--log-density", is_flag=True, help="Write log-densities (nats) instead of labels.")
@options.columns
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@options.overwrite
def predict(
    model: str,
    source: str,
    output: str,
    proba: bool,
    log_density: bool,
    columns: str | None,
    missing: str | None,
    memory_limit: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Evaluate MODEL at the rows of SOURCE and write the results, in the order of the rows.

    Rows with missing values are an error or, with --missing drop or a model that was fitted so, get the label -1 and
    NaN elsewhere. A .parquet output is a folder of files; no columns of SOURCE are copied.

    Example: streamgmm predict model.safetensors rows.zarr --output labels.zarr
    """
    from streamgmm import load, write_predictions
    from streamgmm.predict.stores import check_result_place
    from streamgmm.storage.places import InUse, check_apart, find_places

    if proba and log_density:
        raise InputError("--proba and --log-density exclude each other: run the command once for each")
    # Known before a cluster is started.
    check_apart(output, InUse("the rows", find_places(source)), InUse("the model", find_places(model)))
    check_result_place(output, overwrite=overwrite)
    kind = "proba" if proba else "log_density" if log_density else "labels"
    fitted = load(model)
    fitted.memory_limit = memory_limit
    fitted.missing = missing or fitted.missing
    with (
        options.one_line_warnings(),
        options.ended_by_sigterm("stopped by SIGTERM; nothing was written"),
        options.running_on(scheduler, workers, memory_limit),
    ):
        n_rows = write_predictions(
            fitted,
            source,
            output,
            kind=kind,
            columns=options.split_columns(columns),
            overwrite=overwrite,
        )
    click.echo(f"{output}: {n_rows} rows")
