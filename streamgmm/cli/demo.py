"""`streamgmm demo`."""

from __future__ import annotations

import click

from streamgmm.cli.options import one_line_warnings


@click.command(short_help="Fit a mixture to patches of two photographs.")
@click.option("--components", "n_components", type=click.IntRange(1), default=12, show_default=True)
@click.option("--folder", help="Where to put everything; a new temporary folder if not given.")
def demo(n_components: int, folder: str | None) -> None:
    """Write the 8 x 8 patches of two photographs to a Zarr store, fit a mixture to them, and draw its components.

    Example: streamgmm demo
    """
    import os
    import tempfile
    import time

    from streamgmm import GaussianMixture, save
    from streamgmm.datasets.photographs import PATCH_SHAPE, write_patches
    from streamgmm.plots.patches import save_patch_components

    if folder is None:
        folder = tempfile.mkdtemp(prefix="streamgmm-demo-")
    else:
        os.makedirs(folder, exist_ok=True)
    store, model_path, picture = (
        os.path.join(folder, name) for name in ("patches.zarr", "model.safetensors", "components.png")
    )
    began = time.perf_counter()
    n_rows = write_patches(store)
    size = sum(os.path.getsize(os.path.join(place, file)) for place, _, files in os.walk(store) for file in files)
    wrote = time.perf_counter()
    click.echo(f"wrote {n_rows:,} patches of {PATCH_SHAPE[0]} x {PATCH_SHAPE[1]} pixels to a Zarr store", err=True)

    with one_line_warnings():
        model = GaussianMixture(n_components, tol=1e-2, random_state=0, verbose=1, verbose_interval=10).fit(store)
    fitted = time.perf_counter()
    save(model, model_path)
    title = f"{len(model.weights_)} components of {n_rows:,} patches"
    save_patch_components(model, PATCH_SHAPE, picture, title=title)

    passes = model.fit_report_.n_passes
    seconds = fitted - wrote
    click.echo(
        f"rows      {n_rows:,} x {model.n_features_in_} float32, {size / 2**20:.0f} MiB on disk, written in "
        f"{wrote - began:.1f} s"
    )
    click.echo(f"fit       {len(model.weights_)} full covariances in {seconds:.1f} s ({model.stop_reason_.value})")
    in_passes = model.fit_report_.seconds_in_passes
    click.echo(
        f"passes    {passes} readings of all rows, {in_passes / passes:.2f} s each: "
        f"{n_rows * passes / in_passes / 1e6:.2f} million rows per second"
    )
    click.echo(f"quality   {model.lower_bound_:.3f} nats per patch")
    click.echo(f"store     {store}")
    click.echo(f"model     {model_path}")
    click.echo(f"picture   {picture}")
