"""`streamgmm demo`."""

from __future__ import annotations

import click

from streamgmm.cli.options import one_line_warnings

#: Height and width of the demo's patches, in pixels, and pixels from one to the next: small enough for a slow laptop.
_PATCH_SHAPE, _STEP = (6, 6), 2


@click.command(short_help="Fit a mixture to patches of two photographs.")
@click.option("--components", "n_components", type=click.IntRange(1), default=8, show_default=True)
@click.option("--folder", help="Where to put everything; a new temporary folder if not given.")
def demo(n_components: int, folder: str | None) -> None:
    """Write the 6 x 6 patches of two photographs to a Zarr store, fit a mixture to them, and draw its components.

    Example: streamgmm demo
    """
    import os
    import shutil
    import sys
    import tempfile
    import time

    from streamgmm import GaussianMixture, save
    from streamgmm.datasets.photographs import write_patches
    from streamgmm.plots.patches import save_patch_components

    if folder is None:
        folder = tempfile.mkdtemp(prefix="streamgmm-demo-")
    else:
        os.makedirs(folder, exist_ok=True)
    store, model_path, picture = (
        os.path.join(folder, name) for name in ("patches.zarr", "model.safetensors", "components.png")
    )
    click.echo(f"cutting two photographs into patches of {_PATCH_SHAPE[0]} x {_PATCH_SHAPE[1]} pixels", err=True)
    n_rows = write_patches(store, _PATCH_SHAPE, step=_STEP)
    size = sum(os.path.getsize(os.path.join(place, file)) for place, _, files in os.walk(store) for file in files)
    began = time.perf_counter()
    with one_line_warnings():
        # One k-means start, so that it takes seconds: the default searches for the best start, which takes a minute.
        model = GaussianMixture(
            n_components, init_params="kmeans", tol=1e-2, random_state=0, verbose=1, verbose_interval=10
        ).fit(store)
    seconds = time.perf_counter() - began
    save(model, model_path)
    save_patch_components(model, _PATCH_SHAPE, picture, title=f"{len(model.weights_)} components of {n_rows:,} patches")
    click.echo(f"rows      {n_rows:,} x {model.n_features_in_} float32, {size / 1e6:.0f} MB on disk")
    click.echo(
        f"fit       {len(model.weights_)} full covariances in {seconds:.1f} s, {model.n_iter_} iterations "
        f"({model.stop_reason_.value})"
    )
    click.echo(f"quality   {model.lower_bound_:.3f} nats per patch")
    click.echo(f"store     {store}")
    click.echo(f"model     {model_path}")
    click.echo(f"picture   {picture}")
    click.echo("")
    # As it can be typed here: an environment need not be activated.
    command = "streamgmm" if shutil.which("streamgmm") else sys.argv[0]
    click.echo("Look at the picture, and try these next:")
    click.echo(f"  {command} info {model_path}")
    click.echo(f"  {command} predict {model_path} {store} --output {os.path.join(folder, 'labels.zarr')}")
    click.echo(f"  {command} select {store} --components 1:3 --covariance-type diag")
