"""`streamgmm select`."""

from __future__ import annotations

import json
from typing import Any

import click

from streamgmm.cli import options


def _sizes(_context: click.Context, _option: click.Parameter, value: str) -> list[int]:
    """Read "1:20" (both ends count), "1:20:2" or "2,4,8"."""
    try:
        if ":" in value:
            first, last, *rest = (int(part) for part in value.split(":"))
            step = rest[0] if rest else 1
            sizes = list(range(first, last + 1, step)) if len(rest) <= 1 and step > 0 else []
        else:
            sizes = [int(part) for part in value.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise click.BadParameter(f"expected a range such as 1:20, or numbers such as 2,4,8; got {value!r}")
    return sizes


def _families(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


@click.command(short_help="Choose the number of components.")
@click.argument("source")
@click.option(
    "--components", "n_components", required=True, metavar="RANGE", callback=_sizes, help="1:20, or 2,4,8, to try."
)
@click.option(
    "--covariance-type",
    default="full",
    show_default=True,
    metavar="TYPES",
    callback=_families,
    help="full, tied, diag, spherical; several separated by commas.",
)
@click.option("--criterion", type=click.Choice(["bic", "aic", "icl", "held_out"]), default="bic", show_default=True)
@click.option("--held-out", type=click.FloatRange(0, 0.5), default=0.1, show_default=True, help="Share of the rows.")
@click.option("--output", metavar="MODEL", help="The model file to write (.safetensors), of the best.")
@options.parameter("tol")
@options.parameter("reg_covar", default="auto", show_default=True)
@options.parameter("random_state", type=click.IntRange(0), default=0, show_default=True)
@options.columns
@options.where
@options.weight_column
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@options.overwrite
@click.option("--quiet", is_flag=True, help="No progress on standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def select(
    source: str,
    n_components: list[int],
    covariance_type: list[str],
    criterion: str,
    held_out: float,
    output: str | None,
    columns: str | None,
    where: str | None,
    weight_column: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Fit mixtures of several sizes to the rows of SOURCE, all with the same passes, and compare them.

    Example: streamgmm select rows.zarr --components 1:20 --criterion bic
    """
    from streamgmm import save, search
    from streamgmm.storage.outputs import check_output
    from streamgmm.storage.places import InUse, check_apart, find_places

    if output is not None:
        check_apart(output, InUse("the rows", find_places(source)))
        check_output(output, overwrite=overwrite, is_folder=False)
    given = {name: value for name, value in parameters.items() if value is not None}
    with (
        options.one_line_warnings(),
        options.ended_by_sigterm("stopped by SIGTERM; nothing was written"),
        options.running_on(scheduler, workers, parameters["memory_limit"]),
    ):
        found = search(
            source,
            n_components,
            covariance_type=covariance_type,
            criterion=criterion,
            held_out=held_out,
            sample_weight=weight_column,
            columns=options.split_columns(columns),
            where=where,
            verbose=0 if quiet else 1,
            **given,
        )
    if output is not None:
        save(found.best, output, overwrite=overwrite)
    if as_json:
        table = [{name: _finite(value) for name, value in row.items()} for row in found.table()]
        passes = found.best.fit_report_.n_passes
        click.echo(json.dumps({"criterion": criterion, "best": found.best_index, "passes": passes, "table": table}))
        return
    click.echo(str(found))
    if output is not None:
        click.echo(f"{output}: {len(found.best.weights_)} components, {found.best.lower_bound_:.6f} nats per row")


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
