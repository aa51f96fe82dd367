"""`streamgmm info`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click


@click.command(short_help="Show what is in a model file.")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with all parameters.")
def info(model: str, as_json: bool) -> None:
    """Show the components of MODEL, the largest first, and how it was fitted.

    Example: streamgmm info model.safetensors
    """
    import numpy as np

    from streamgmm import load
    from streamgmm.export.header import finite

    fitted = load(model)
    parameters = fitted._parameters()
    names = getattr(fitted, "feature_names_in_", None)
    training = fitted.training_summary_
    summary = {
        "name": fitted.name_,
        "covariance_type": fitted.covariance_type,
        "n_components": parameters.n_components,
        "n_features": parameters.n_features,
        "n_parameters": parameters.n_parameters,
        "feature_names": None if names is None else list(names),
        "lower_bound": fitted.lower_bound_,
        "n_iter": fitted.n_iter_,
        "stop_reason": fitted.stop_reason_.value,
        "reg_covar": fitted.reg_covar,
        "fitted_at": None if training is None else training.fitted_at,
        "n_rows": None if training is None else training.n_rows,
        "table": None if training is None else training.table,
        "where": None if training is None else training.where,
        "clusters": fitted.clusters_.tolist() if hasattr(fitted, "clusters_") else None,
        "metadata": fitted.metadata_ or None,
    }
    if as_json:
        arrays = {
            name: getattr(fitted, f"{name}_").tolist() for name in ("weights", "means", "covariances", "lower_bounds")
        }
        found = {**summary, "training": training and dataclasses.asdict(training), **arrays}
        # JSON has no infinity.
        click.echo(json.dumps(finite(found), allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    for key, value in summary.items():
        if value is not None and value != float("-inf"):
            values = value if isinstance(value, list) else [value]
            text = ", ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in values)
            console.print(f"{key.replace('_', ' ')}: {text}")
    table = Table("component", "weight", "mean", "standard deviations")
    deviations = np.sqrt(parameters.variances())
    for k in np.argsort(-parameters.weights, kind="stable"):
        table.add_row(str(k), f"{parameters.weights[k]:.4f}", _abridged(parameters.means[k]), _abridged(deviations[k]))
    console.print(table)


def _abridged(values: Sequence[float]) -> str:
    """Show the first values of a vector."""
    shown = ", ".join(f"{value:.4g}" for value in values[:6])
    return shown if len(values) <= 6 else f"{shown}, ... ({len(values)})"
