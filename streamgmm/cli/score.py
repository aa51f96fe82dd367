"""`streamgmm score`."""

from __future__ import annotations

import json

import click

from streamgmm.cli import options


@click.command(short_help="Print the log-likelihood of rows.")
@click.argument("model")
@click.argument("source")
@options.columns
@options.where
@options.weight_column
@options.parameter("missing")
@options.parameter("memory_limit")
@options.scheduler
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, with BIC and AIC.")
def score(
    model: str,
    source: str,
    columns: str | None,
    where: str | None,
    weight_column: str | None,
    missing: str | None,
    memory_limit: str | None,
    scheduler: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Print the mean log-likelihood of the rows of SOURCE under MODEL, in nats per row.

    Example: streamgmm score model.safetensors rows.zarr
    """
    import numpy as np

    from streamgmm import load

    fitted = load(model)
    fitted.memory_limit = memory_limit
    fitted.missing = missing or fitted.missing
    with options.one_line_warnings(), options.running_on(scheduler, workers, memory_limit):
        found = fitted._log_likelihood(source, weight_column, columns=options.split_columns(columns), where=where)
    if not as_json:
        click.echo(f"{found.mean:.9f}")
        return
    n_parameters = fitted._parameters().n_parameters
    result = {
        "mean_log_likelihood": found.mean,
        "log_likelihood": found.total,
        "sum_weight": found.sum_weight,
        "bic": -2.0 * found.total + n_parameters * float(np.log(found.sum_weight)),
        "aic": -2.0 * found.total + 2.0 * n_parameters,
    }
    click.echo(json.dumps(result))
