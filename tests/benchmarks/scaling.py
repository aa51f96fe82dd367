"""How passes scale: over workers, over tasks, over rows; and what reading costs next to the bare readers.

    python -m tests.benchmarks.scaling [workers] [tasks] [memory] [reading] [--gigabytes 1 4 16] [--folder FOLDER]

    workers    passes per second on one worker process and on two, and a pass next to reading and computing alone
    tasks      what Dask costs: passes of empty tasks, 10 to 10,000 of them, and the driver's memory as they go on
    memory     peak resident memory of a worker as the rows grow, next to the projection
    reading    decoded bytes per second of this package's readers next to those of zarr and pyarrow

Workers are processes with one thread each, with the settings of cluster_configs/dask. Times are medians; the bare and
the package's readers take turns.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from streamgmm import GaussianMixture
from streamgmm.em.passes import read_models
from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.e_step import PassModel
from streamgmm.gaussian.precision import Kernel
from streamgmm.sources.base import Block, RandomAccessRows, RowRange
from streamgmm.sources.numpy_arrays import NpyRows
from streamgmm.sources.open import open_rows
from tests.benchmarks.outofcore import compute_alone, median_of, only_read, peak_memory, write_store

PARTS = ("workers", "tasks", "memory", "reading")
N_FEATURES = 16
#: Times that one worker and two take turns.
ROUNDS = 5
CONFIGURATION = Path(__file__).parents[2] / "cluster_configs" / "dask" / "streamgmm.yaml"


@contextmanager
def cluster_of(n_workers: int, memory_limit: str = "2GB") -> Iterator[object]:
    import dask
    import yaml
    from dask.distributed import Client, LocalCluster

    with (
        dask.config.set(dask.config.merge(dask.config.config, yaml.safe_load(CONFIGURATION.read_text()))),
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, memory_limit=memory_limit, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def store_of(folder: str, gigabytes: float, kind: str = "zarr") -> str:
    path = os.path.join(folder, f"rows-{gigabytes:g}-{N_FEATURES}.{kind}")
    if not os.path.exists(path):
        write_store(path, kind, int(gigabytes * 1e9), N_FEATURES)
    return path


def workers(folder: str, gigabytes: float) -> None:
    for kind in ("zarr", "parquet"):
        path = store_of(folder, gigabytes, kind)
        model = GaussianMixture(16, random_state=0, max_iter=1, tol=0, memory_limit="1GB").fit(path)
        whitening = model._parameters().own_whitening()
        one = PassModel(model._parameters().whiten(whitening), whitening, Kernel.FLOAT32)
        rows = open_rows(path)
        ratios = []
        # In turns: how fast a machine is that others use too changes within a minute.
        for _ in range(ROUNDS):
            seconds = {}
            for n_workers in (1, 2):
                with cluster_of(n_workers):
                    read_models(rows, (one,))
                    read = median_of(lambda rows=rows: run_pass(rows, only_read, None, small=True))
                    compute = median_of(lambda rows=rows, one=one: compute_alone(rows, one))
                    seconds[n_workers] = median_of(lambda rows=rows, one=one: read_models(rows, (one,)))
                    print(
                        f"{kind:<8} {n_workers} worker(s) {1 / seconds[n_workers]:.3f} passes/s, "
                        f"reading alone {read:.2f} s, computing alone {compute:.2f} s, a pass {seconds[n_workers]:.2f} "
                        f"s = {seconds[n_workers] / (read + compute):.2f} x both",
                        flush=True,
                    )
            ratios.append(seconds[1] / seconds[2])
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"{kind:<8} two workers: {statistics.median(ratios):.2f} x one, the median of {each}", flush=True)


def nothing(blocks: Iterable[Block], _: object) -> int:
    return 1


class EmptyRows(NpyRows):
    """Tasks that read nothing."""

    def read(self, start: int, stop: int) -> Iterator[Block]:
        return iter(())


def tasks(folder: str) -> None:
    path = os.path.join(folder, "empty.npy")
    np.save(path, np.zeros((10_000, 1)))
    rows = EmptyRows(path)
    driver = psutil.Process()
    with cluster_of(2):
        for n_tasks in (10, 100, 1000, 10_000):
            cut = rows.repartition(tuple(RowRange(i, i + 1) for i in range(n_tasks)))
            run_pass(cut, nothing, None)
            times, sizes = [], []
            for _ in range(6 if n_tasks == 10_000 else 5):
                began = time.perf_counter()
                assert run_pass(cut, nothing, None) == n_tasks
                times.append(time.perf_counter() - began)
                sizes.append(driver.memory_info().rss)
            seconds = statistics.median(times)
            print(
                f"{n_tasks:>6} tasks: {seconds * 1e3:8.1f} ms for a pass, {seconds / n_tasks * 1e3:.3f} ms for a task; "
                f"driver {sizes[0] / 1e6:.0f} MB after the first pass, {sizes[-1] / 1e6:.0f} MB after the last",
                flush=True,
            )


def memory(folder: str, sizes: list[float], *, keep: bool) -> None:
    for gigabytes in sizes:
        path = store_of(folder, gigabytes)
        with cluster_of(2) as client:
            model = GaussianMixture(16, random_state=0, max_iter=3, tol=0, persist=False)
            plan = model.plan(path, probe=False)
            began = time.perf_counter()
            model.fit(path)
            seconds = time.perf_counter() - began
            peaks = client.run(peak_memory).values()  # type: ignore[attr-defined]
            print(
                f"{gigabytes:g} GB: {model.fit_report_.n_passes} readings in {seconds:.1f} s; peak resident memory of "
                f"a worker {max(peaks) / 1e6:.0f} MB, projected {plan.worker_bytes / 1e6:.0f} MB; of the driver so far "
                f"{peak_memory() / 1e6:.0f} MB, projected {plan.driver_bytes / 1e6:.0f} MB",
                flush=True,
            )
        if not keep:
            shutil.rmtree(path)


def reading(folder: str, gigabytes: float) -> None:
    for kind in ("zarr", "parquet"):
        path = store_of(folder, gigabytes, kind)
        rows = open_rows(path)
        assert isinstance(rows, RandomAccessRows)
        assert rows.n_rows is not None
        n_bytes = rows.n_rows * rows.n_features * rows.dtype.itemsize
        bare = {"zarr": bare_zarr, "parquet": bare_parquet}[kind]
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        readers: dict[str, Callable[[], object]] = {
            "bare": lambda path=path, bare=bare: bare(path),  # type: ignore[misc]
            "ours": lambda rows=rows: [only_read(rows.blocks(number), None) for number in range(rows.n_tasks)],
        }
        for _ in range(3):
            for name, read in readers.items():
                began = time.perf_counter()
                read()
                times[name].append(time.perf_counter() - began)
        found = {name: statistics.median(one) for name, one in times.items()}
        print(
            f"{kind:<8} one process: bare reader {n_bytes / found['bare'] / 1e9:.2f} GB/s, ours "
            f"{n_bytes / found['ours'] / 1e9:.2f} GB/s = {found['ours'] / found['bare']:.2f} x its time",
            flush=True,
        )


def bare_zarr(path: str) -> None:
    import zarr

    array = zarr.open_array(path, mode="r")
    step = array.chunks[0]
    for start in range(0, array.shape[0], step):
        array[start : start + step]


def bare_parquet(path: str) -> None:
    import pyarrow.parquet as pq

    for name in sorted(os.listdir(path)):
        with pq.ParquetFile(os.path.join(path, name)) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, use_threads=False)
                np.column_stack([column.to_numpy() for column in table.columns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if not given")
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0, 4.0, 16.0], help="sizes; the first is read")
    parser.add_argument("--folder", help="where to write the stores; kept there, and used again")
    options = parser.parse_args()
    chosen = options.parts or PARTS
    folder = options.folder or tempfile.mkdtemp(prefix="streamgmm-benchmark-")
    os.makedirs(folder, exist_ok=True)
    try:
        if "reading" in chosen:
            reading(folder, options.gigabytes[0])
        if "workers" in chosen:
            workers(folder, options.gigabytes[0])
        if "tasks" in chosen:
            tasks(folder)
        if "memory" in chosen:
            memory(folder, options.gigabytes, keep=options.folder is not None)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
