"""`streamgmm fit`."""

from __future__ import annotations

from typing import Any

import click

from streamgmm.cli import options


@click.command(short_help="Fit a mixture.")
@click.argument("source")
@options.parameter("n_components", "--components", "n_components", required=True)
@click.option("--output", required=True, metavar="MODEL", help="The model file to write (.safetensors).")
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
@options.overwrite
@click.option("--name", help="What to call the model, in its file.")
@click.option("--report", is_flag=True, help="Print what the fit did and what it cost.")
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
def fit(
    source: str,
    output: str,
    columns: str | None,
    where: str | None,
    weight_column: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
    name: str | None,
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
        model.fit(source, sample_weight=weight_column, columns=options.split_columns(columns), where=where)
    save(model, output, overwrite=overwrite, name=name)
    click.echo(
        f"{output}: {len(model.weights_)} components, {model.n_features_in_} features, {model.lower_bound_:.6f} nats "
        f"per row, {_passes(model.fit_report_.n_passes)}, {model.stop_reason_.value}"
    )
    if report:
        click.echo(str(model.fit_report_))
    if model.n_missing_:
        click.echo(f"left out {model.n_missing_} rows with missing values", err=True)


def _passes(n: int) -> str:
    return "1 pass" if n == 1 else f"{n} passes"
