"""`streamgmm fit`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options


@click.command(short_help="Fit a mixture.")
@click.argument("source")
@click.option("--components", "n_components", type=click.IntRange(1), required=True, help="Number of components.")
@click.option("--output", required=True, metavar="MODEL", help="The model file to write (.safetensors).")
@click.option(
    "--covariance-type", type=click.Choice(["full", "tied", "diag", "spherical"]), default="full", show_default=True
)
@options.columns
@options.weight_column
@click.option("--tol", type=click.FloatRange(0), help="Stop this close to the optimum, in nats per row.")
@click.option("--reg-covar", default="auto", show_default=True, callback=options.number_or_auto, help=options.REG_COVAR)
@click.option("--max-iter", type=click.IntRange(0), help="Most iterations; each reads all rows once.")
@click.option("--n-init", type=click.IntRange(1), help="Number of starts to choose from.")
@click.option(
    "--init-params",
    type=click.Choice(["sample", "k-means++", "kmeans", "random", "random_from_data"]),
    help="Kind of start.",
)
@click.option("--accelerate/--no-accelerate", default=None, help="Go further than EM between readings, or not.")
@click.option("--random-state", type=click.IntRange(0), default=0, show_default=True, help="Seed.")
@options.missing
@options.memory_limit
@click.option(
    "--persist/--no-persist",
    default=None,
    help="Keep the rows in memory after the first reading, or not; where a cluster has room for them if not given.",
)
@options.scheduler
@click.option("--checkpoint", metavar="FOLDER", help="Keep the fit's state here after each reading, and go on from it.")
@click.option(
    "--resume", type=click.Choice(["auto", "must", "never"]), help="Go on from the checkpoint if there is one (auto)."
)
@options.overwrite
@click.option("--report", is_flag=True, help="Print what the fit did and what it cost.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def fit(
    source: str,
    output: str,
    columns: str | None,
    weight_column: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
    report: bool,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Fit a mixture to the rows of SOURCE and write it to MODEL.

    Example: streamgmm fit rows.zarr --components 16 --output model.safetensors --checkpoint rows.checkpoint
    """
    from streamgmm import GaussianMixture, save
    from streamgmm.storage.outputs import check_output
    from streamgmm.storage.places import InUse, check_apart, find_places

    # Known before the hours of a fit, not after.
    check_apart(
        output, InUse("the rows", find_places(source)), InUse("the checkpoint", find_places(parameters["checkpoint"]))
    )
    check_output(output, overwrite=overwrite, is_folder=False)
    given = {name: value for name, value in parameters.items() if value is not None}
    model = GaussianMixture(**given, verbose=0 if quiet else 1, verbose_interval=1)
    folder = parameters["checkpoint"]
    stopped = "stopped by SIGTERM; " + (
        "there is no --checkpoint to go on from" if folder is None else f"--resume auto goes on from {folder}"
    )
    with (
        options.one_line_warnings(),
        options.ended_by_sigterm(stopped),
        options.running_on(scheduler, workers, parameters["memory_limit"]),
    ):
        model.fit(source, sample_weight=weight_column, columns=options.split_columns(columns))
    save(model, output)
    click.echo(
        f"{output}: {len(model.weights_)} components, {model.n_features_in_} features, {model.lower_bound_:.6f} nats "
        f"per row, {model.fit_report_.n_passes} readings, {model.stop_reason_.value}"
    )
    if report:
        click.echo(str(model.fit_report_))
    if model.n_missing_:
        click.echo(f"left out {model.n_missing_} rows with missing values", err=True)
