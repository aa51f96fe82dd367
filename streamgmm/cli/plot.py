"""`streamgmm plot`."""

from __future__ import annotations

import click

from streamgmm.cli import options

_PICTURES = (
    "density", "histogram", "contours", "pairs", "profile", "responsibilities", "dendrogram", "entropies",
    "convergence",
)  # fmt: skip


@click.command(short_help="Draw a model.")
@click.argument("model")
@click.argument("source", required=False)
@click.option("--output", required=True, metavar="FILE", help="A picture (.png, .svg, .pdf), or a page of all (.html).")
@click.option("--what", type=click.Choice(_PICTURES), help="Which picture; density, or all on a page, if not given.")
@click.option("--features", metavar="A,B,...", help="Those to show; the ones that tell components apart if not given.")
@options.weight_column
@options.scheduler
@options.overwrite
def plot(
    model: str,
    source: str | None,
    output: str,
    what: str | None,
    features: str | None,
    weight_column: str | None,
    scheduler: str,
    workers: int | None,
    overwrite: bool,
) -> None:
    """Draw MODEL, next to rows of SOURCE where that is given; these are read once.

    Example: streamgmm plot model.safetensors rows.zarr --output model.html
    """
    from streamgmm import load
    from streamgmm.jobs.running import running_on
    from streamgmm.plots.page import save_pictures
    from streamgmm.storage.outputs import check_output

    check_output(output, overwrite=overwrite, is_folder=False)
    fitted = load(model)
    chosen: list[str | int] | None = None
    if features is not None:
        names = options.split_columns(features) or []
        # Features without names are asked for by their places.
        known = fitted._names()
        chosen = [int(name) if name not in known and name.isdigit() else name for name in names]
    with options.one_line_warnings(), running_on(scheduler, workers, None):
        drawn = save_pictures(fitted, output, source, what=what, features=chosen, sample_weight=weight_column)
    click.echo(f"{output}: {', '.join(drawn)}")
