"""Fit a store that is larger than the workers' memory, and show what that costs in time and memory.

    python -m tests.benchmarks.outofcore --gigabytes 6 --format zarr

Writes a store of the given size, starts worker processes with a memory limit, and prints the time of: reading alone,
computing alone (the same number of rows, made once in each worker's memory), a pass that does both, and a fit; then the
peak resident memory of each process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np

from streamgmm import GaussianMixture
from streamgmm.em.passes import read_models
from streamgmm.execution.broadcast import broadcast_task
from streamgmm.execution.cluster import get_active_client, get_workers
from streamgmm.execution.graph import guided_groups
from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.e_step import PassModel, e_step
from streamgmm.gaussian.precision import Kernel
from streamgmm.sources.base import Block, Rows
from streamgmm.sources.open import open_rows

CHUNK_BYTES = 16 * 2**20


def some_rows(n_rows: int, n_features: int, seed: int) -> np.ndarray:
    """Rows of 16 overlapping clusters."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(16, n_features)) * 2
    return (centers[rng.integers(16, size=n_rows)] + rng.normal(size=(n_rows, n_features))).astype(np.float32)


def write_store(path: str, kind: str, n_bytes: int, n_features: int) -> int:
    rows_per_chunk = CHUNK_BYTES // (4 * n_features)
    n_chunks = max(1, n_bytes // CHUNK_BYTES)
    n_rows = n_chunks * rows_per_chunk
    if kind == "zarr":
        import zarr

        array = zarr.create_array(
            path, shape=(n_rows, n_features), chunks=(rows_per_chunk, n_features), dtype=np.float32
        )
        for i in range(n_chunks):
            array[i * rows_per_chunk : (i + 1) * rows_per_chunk] = some_rows(rows_per_chunk, n_features, i)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        os.makedirs(path)
        names = [f"x{j}" for j in range(n_features)]
        per_file = max(1, 2**28 // CHUNK_BYTES)
        for first in range(0, n_chunks, per_file):
            schema = pa.schema([(name, pa.float32()) for name in names])
            with pq.ParquetWriter(f"{path}/part-{first:06d}.parquet", schema, use_dictionary=False) as writer:
                for i in range(first, min(first + per_file, n_chunks)):
                    x = some_rows(rows_per_chunk, n_features, i)
                    writer.write_table(pa.table([x[:, j] for j in range(n_features)], names=names), rows_per_chunk)
    return n_rows


def only_read(blocks: Iterable[Block], _: object) -> float:
    # Imported here: as a command, this module is sent to workers by value, and what threads share can't be.
    from streamgmm.execution.malloc import freed_memory_kept

    with freed_memory_kept():  # as an E-step does
        return sum(float(block.x[0, 0]) for block in blocks)


@cache
def rows_in_memory(n_rows: int, n_features: int) -> np.ndarray:
    return some_rows(n_rows, n_features, 0)


def only_compute(model: PassModel, n_rows: list[int]) -> object:
    return [e_step(rows_in_memory(n, model.whitening.n_features), None, model) for n in n_rows]


def median_of(function: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def peak_memory() -> int:
    """Return the peak of this process alone: what getrusage says begins with that of the process that started it."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def compute_alone(rows: Rows, model: PassModel) -> None:
    """Compute as many rows as a pass does, as many tasks of as many rows, from each worker's memory."""
    import dask

    n_rows = [part.stop - part.start for part in rows.ranges]  # type: ignore[attr-defined]
    client = get_active_client()
    assert client is not None
    bundles = guided_groups(range(rows.n_tasks), get_workers(client).n_threads)
    task = broadcast_task(only_compute, model, n_tasks=len(bundles))
    dask.compute(*(task([n_rows[number] for number in bundle]) for bundle in bundles))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    parser.add_argument("--format", choices=["zarr", "parquet"], default="zarr")
    parser.add_argument("--features", type=int, default=16)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--covariance-type", default="full")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-limit", default="1GB")
    parser.add_argument("--max-iter", type=int, default=5)
    parser.add_argument("--folder", help="where to write the store; kept there, and used again")
    options = parser.parse_args()

    from dask.distributed import Client, LocalCluster

    folder = options.folder or tempfile.mkdtemp(prefix="streamgmm-benchmark-")
    path = os.path.join(folder, f"rows-{options.gigabytes:g}-{options.features}.{options.format}")
    n_bytes = int(options.gigabytes * 1e9)
    if not os.path.exists(path):
        began = time.perf_counter()
        write_store(path, options.format, n_bytes, options.features)
        print(f"wrote {path} in {time.perf_counter() - began:.0f} s")
    try:
        with (
            LocalCluster(
                n_workers=options.workers,
                threads_per_worker=1,
                memory_limit=options.memory_limit,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster) as client,
        ):
            rows = open_rows(path)
            assert rows.n_rows is not None
            size = rows.n_rows * rows.n_features * rows.dtype.itemsize
            print(f"{rows.n_rows:,} rows x {rows.n_features} {rows.dtype}, {size / 1e9:.2f} GB, {rows.n_tasks} tasks")
            models: list[PassModel] = []
            model = GaussianMixture(
                options.components,
                covariance_type=options.covariance_type,
                max_iter=options.max_iter,
                tol=0,
                random_state=0,
            )
            began = time.perf_counter()
            model.fit(path)
            seconds = time.perf_counter() - began
            passes = model.fit_report_.n_passes
            whitening = model._parameters().own_whitening()
            models = [PassModel(model._parameters().whiten(whitening), whitening, kernel) for kernel in Kernel][:2]
            print(f"fit: {passes} passes in {seconds:.1f} s, {rows.n_rows * passes / seconds:,.0f} rows/s, "
                  f"{size * passes / seconds / 1e9:.2f} GB/s")  # fmt: skip
            read = median_of(lambda: run_pass(rows, only_read, None, small=True))
            print(f"reading alone: {read:.2f} s, {size / read / 1e9:.2f} GB/s")
            for one in models:
                compute = median_of(lambda one=one: compute_alone(rows, one))
                both = median_of(lambda one=one: read_models(rows, (one,)))
                print(
                    f"{one.kernel.value} products: computing alone {compute:.2f} s, a pass {both:.2f} s = "
                    f"{both / (read + compute):.2f} x (reading + computing), {rows.n_rows / both:,.0f} rows/s, "
                    f"{size / both / 1e9:.2f} GB/s"
                )
            for address, peak in client.run(peak_memory).items():
                print(f"peak resident memory of worker {address}: {peak / 1e6:.0f} MB")
            print(f"peak resident memory of the driver: {peak_memory() / 1e6:.0f} MB")
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
