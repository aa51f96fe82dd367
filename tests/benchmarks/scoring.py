"""Score a store next to its keys, and show what that costs: against its parts alone, and against a plain copy.

    python -m tests.benchmarks.scoring --gigabytes 1 --repeats 3
    python -m tests.benchmarks.scoring --memory 1 8

The first, for Parquet and for Zarr and in one run: reading (keys and features), computing (as many rows, made once in
memory), writing (keys and results, made once in memory), scoring, which does all three, and a copy of the same columns
by pyarrow itself, of the chunks by Zarr. The second: the peak memory of a process that scores stores of so many GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import zarr

from streamgmm import GaussianMixture, write_predictions
from streamgmm.execution.passes import run_pass
from streamgmm.predict.outputs import Options, Piece, open_output
from streamgmm.predict.scores import Scorer
from streamgmm.sources.base import Block
from streamgmm.sources.open import open_rows

N_FEATURES = N_COMPONENTS = 8
FEATURES = [f"x{j}" for j in range(N_FEATURES)]
WRITE = ("label", "log_density")
KEEP = {"parquet": ["id", "day"], "zarr": ["id"]}
#: Rows of a chunk, or a row group, and of a file.
CHUNK_ROWS, FILE_ROWS = 262_144, 2_097_152
CENTERS = np.random.default_rng(99).normal(size=(N_COMPONENTS, N_FEATURES)) * 3


def some_rows(n_rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return CENTERS[rng.integers(N_COMPONENTS, size=n_rows)] + rng.normal(size=(n_rows, N_FEATURES))


def write_store(path: str, kind: str, n_rows: int) -> None:
    """Write rows with their keys, so many at a time."""
    starts = range(0, n_rows, CHUNK_ROWS)
    if kind == "zarr":
        group = zarr.open_group(path, mode="w")
        x = group.create_array("x", shape=(n_rows, N_FEATURES), chunks=(CHUNK_ROWS, N_FEATURES), dtype=np.float64)
        keys = group.create_array("id", shape=(n_rows,), chunks=(CHUNK_ROWS,), dtype=np.int64)
        for seed, start in enumerate(starts):
            stop = min(start + CHUNK_ROWS, n_rows)
            x[start:stop], keys[start:stop] = some_rows(stop - start, seed), np.arange(start, stop)
        return
    os.makedirs(path)
    for first in range(0, n_rows, FILE_ROWS):
        writer = None
        for start in range(first, min(first + FILE_ROWS, n_rows), CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, n_rows)
            table = keys_of(start, stop)
            for name, values in zip(FEATURES, some_rows(stop - start, start).T, strict=True):
                table = table.append_column(name, pa.array(values))
            writer = writer or pq.ParquetWriter(
                f"{path}/part-{first:012d}.parquet", table.schema, use_dictionary=["day"]
            )
            writer.write_table(table, row_group_size=CHUNK_ROWS)
        assert writer is not None
        writer.close()


def keys_of(start: int, stop: int) -> pa.Table:
    days = pa.array([f"2026-01-{1 + (start // CHUNK_ROWS) % 28:02d}"] * (stop - start))
    return pa.table({"id": np.arange(start, stop), "day": days})


def source_of(path: str, kind: str) -> str:
    return path if kind == "parquet" else f"{path}/x"


def read_only(blocks: Iterable[Block], _: Any) -> int:
    return sum(len(block.x) for block in blocks)


class Computing:
    """Scores as many rows as a task has, made once."""

    def __init__(self, scorer: Scorer, x: np.ndarray) -> None:
        self.scorer, self.x = scorer, x

    def compute(self, number: int, parameters: Any) -> int:
        return len(self.scorer(Block(self.x, None, 0), parameters).values["label"]) + 0 * number


def measure(kind: str, n_rows: int, repeats: int, folder: str) -> dict[str, list[float]]:
    """Return seconds of each, in turns."""
    store, source = f"{folder}/in.{kind}", source_of(f"{folder}/in.{kind}", kind)
    write_store(store, kind, n_rows)
    columns = FEATURES if kind == "parquet" else None
    model = GaussianMixture(N_COMPONENTS, random_state=0, init_params="kmeans", max_iter=2, tol=0)
    model.fit(some_rows(20_000, 1))
    parameters = model._parameters()
    rows = open_rows(source, columns=columns, keep=KEEP[kind])
    scorer = Scorer(WRITE, "raise", rows.provenance)
    first = next(iter(rows.blocks(0)))
    block = Block(np.array(first.x), None, 0, first.kept)
    n_blocks = -(-n_rows // len(block.x))
    piece = Piece(scorer(block, parameters).values, block.kept, len(block.x))

    def read() -> None:
        assert run_pass(rows, read_only, None) == n_rows

    def on_threads(function: Callable[[int], Any]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(function, range(n_blocks)))

    def compute() -> None:
        on_threads(lambda _: scorer(block, parameters))

    def write() -> None:
        path = f"{folder}/written.{kind}"
        output = open_output(path, scorer.columns(N_COMPONENTS), rows.kept, Options())
        output.create(n_blocks * piece.n_rows, piece.n_rows)
        on_threads(lambda n: output.write(f"{n:09d}", n * piece.n_rows, [piece], dict))
        shutil.rmtree(path)

    def score() -> None:
        path = f"{folder}/scored.{kind}"
        write_predictions(model, source, path, write=WRITE, keep=KEEP[kind], columns=columns)
        shutil.rmtree(path)

    def copy() -> None:
        path = f"{folder}/copied.{kind}"
        if kind == "parquet":
            scanner = pads.dataset(store).scanner(columns=[*KEEP[kind], *FEATURES])
            pads.write_dataset(scanner, path, format="parquet", max_rows_per_group=CHUNK_ROWS)
        else:
            write_copy(store, path)
        shutil.rmtree(path)

    steps = {"reading": read, "computing": compute, "writing": write, "scoring": score, "copying": copy}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # the page cache, machine code
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - began)
    return found


def write_copy(store: str, path: str) -> None:
    """Copy the arrays of a group, a chunk at a time, on threads."""
    old, new = zarr.open_group(store, mode="r"), zarr.open_group(path, mode="w")
    for name in ("x", "id"):
        array: Any = old[name]
        copied = new.create_array(name, shape=array.shape, chunks=array.chunks, dtype=array.dtype)
        tasks = [partial(copy_chunk, array, copied, start) for start in range(0, array.shape[0], CHUNK_ROWS)]
        dask.compute(*(dask.delayed(task)() for task in tasks), scheduler="threads")


def copy_chunk(array: Any, copied: Any, start: int) -> None:
    copied[start : start + CHUNK_ROWS] = array[start : start + CHUNK_ROWS]


def report(kind: str, n_rows: int, found: dict[str, list[float]]) -> None:
    seconds = {name: statistics.median(times) for name, times in found.items()}
    alone = seconds["reading"] + seconds["computing"] + seconds["writing"]
    n_bytes = n_rows * 8 * (N_FEATURES + 1)
    times = len(found["reading"])
    sizes = f"{n_rows:,} rows of {N_FEATURES} features, {n_bytes / 1e9:.2f} GB"
    print(f"\n{kind} to {kind}: {sizes}, medians of {times}")
    for name, took in seconds.items():
        print(f"  {name:10} {took:7.2f} s  {n_rows / took / 1e6:7.2f} M rows/s  {n_bytes / took / 1e6:8.0f} MB/s")
    print(f"  scoring takes {seconds['scoring'] / alone:.2f} times its parts alone")
    print(f"  scoring has {seconds['copying'] / seconds['scoring']:.2f} times the speed of a copy")


def peak_of(kind: str, gigabytes: float, folder: str) -> float:
    """Return the peak memory, in MB, of a process that scores a store of a size."""
    store = f"{folder}/{gigabytes:g}.{kind}"
    n_rows = int(gigabytes * 1e9 / (8 * (N_FEATURES + 1)))
    write_store(store, kind, n_rows)
    command = [sys.executable, "-m", "tests.benchmarks.scoring", "--score", kind, store]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    shutil.rmtree(store)
    return float(output)


def score_once(kind: str, store: str) -> None:
    model = GaussianMixture(N_COMPONENTS, random_state=0, init_params="kmeans", max_iter=2, tol=0)
    model.fit(some_rows(20_000, 1))
    columns = FEATURES if kind == "parquet" else None
    output = f"{store}-scored.{kind}"
    write_predictions(model, source_of(store, kind), output, write=WRITE, keep=KEEP[kind], columns=columns)
    shutil.rmtree(output)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=["parquet", "zarr"], default=["parquet", "zarr"])
    parser.add_argument("--memory", nargs="+", type=float, metavar="GB", help="measure memory at these sizes instead")
    parser.add_argument("--score", nargs=2, metavar=("FORMAT", "STORE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.score:
        score_once(*given.score)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.formats:
            if given.memory:
                peaks = [peak_of(kind, size, folder) for size in given.memory]
                sizes = ", ".join(
                    f"{peak:,.0f} MB at {size:g} GB" for size, peak in zip(given.memory, peaks, strict=True)
                )
                print(f"{kind} to {kind}, peak memory: {sizes}")
            else:
                n_rows = int(given.gigabytes * 1e9 / (8 * (N_FEATURES + 1)))
                report(kind, n_rows, measure(kind, n_rows, given.repeats, folder))
                shutil.rmtree(f"{folder}/in.{kind}")


if __name__ == "__main__":
    main()
