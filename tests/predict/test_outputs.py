"""The places for scores: how they are stored, what was there before, and what is held while they are written."""

import datetime
import os
from itertools import pairwise

import dask
import dask.array as da
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture, write_predictions
from streamgmm.exceptions import InputError, OutputError, OutputExistsError, RowsError
from streamgmm.predict import zarr_output
from streamgmm.predict.scores import SCORES, Scorer
from streamgmm.storage import staging
from tests.predict.scored import content, read, write_table


@pytest.mark.parametrize("compression", ["zstd", "none", "gzip", "lz4", "brotli", "snappy"])
def test_compression_and_row_groups_of_parquet(compression, model, table, tmp_path):
    output = tmp_path / "o.parquet"
    write_predictions(model, table, output, keep=["id"], compression=compression, row_group_rows=700)
    (file,) = output.iterdir()
    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [700] * 4 + [200]
    name = metadata.row_group(0).column(0).compression.lower()
    assert name == {"none": "uncompressed"}.get(compression, compression)


@pytest.mark.parametrize("compression", ["zstd", "none", "gzip", "lz4"])
def test_compression_of_zarr(compression, model, table, x, tmp_path):
    write_predictions(model, table, tmp_path / "o.zarr", keep=["id"], compression=compression)
    group = zarr.open_group(tmp_path / "o.zarr", mode="r")
    codec = {"zstd": "ZstdCodec", "gzip": "GzipCodec", "lz4": "BloscCodec", "none": None}
    assert [type(one).__name__ for one in group["label"].compressors] == [one for one in (codec[compression],) if one]
    np.testing.assert_array_equal(group["id"][:], table["id"].to_numpy())


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 300), min_size=1, max_size=6).filter(any),
    n_columns=st.sampled_from([None, 3]),
    widest=st.sampled_from([500, 2000, 2**20]),
)
@example(lengths=[2803, 1, 557, 560], n_columns=3, widest=2000)
def test_parts_of_any_lengths_fill_whole_chunks(lengths, n_columns, widest):
    """Two tasks that wrote into one chunk would lose results: what ends inside of one is laid aside."""
    import tempfile
    from pathlib import Path

    from streamgmm.predict.outputs import Options, Piece
    from streamgmm.predict.scores import ScoreColumn

    lengths = [n for n in lengths if n]
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    values = np.random.default_rng(0).normal(size=(sum(lengths), n_columns or 1))
    values = values[:, 0] if n_columns is None else values
    column = ScoreColumn("proba", np.dtype(float), n_columns, "component", "")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr_output, "CHUNK_BYTES", widest)
        output = zarr_output.ZarrOutput(f"{folder}/data", "o.zarr", {"responsibilities": column}, None, Options())
        output.create(sum(lengths), lengths[0])
        chunk = zarr.open_group(output.path)["proba"].chunks[0]
        written = []
        original = zarr.Array.__setitem__

        def seen(self, rows, values):
            if str(self.store.root) == output.path:
                written.extend(range(rows.start // chunk, -(-rows.stop // chunk)))
            return original(self, rows, values)

        patch.setattr(zarr.Array, "__setitem__", seen)
        for start, n in reversed(list(zip(starts, lengths, strict=True))):
            cuts = sorted({start, *(start + np.arange(0, n, 70)).tolist(), start + n})
            pieces = (Piece({"responsibilities": values[a:b]}, None, b - a) for a, b in pairwise(cuts))
            output.write(str(start), start, pieces, dict)
        output.complete(list(zip(starts, lengths, strict=True)), {})
        found = zarr.open_group(Path(output.path))["proba"][:]
    np.testing.assert_array_equal(found, values)
    assert sorted(written) == list(range(-(-sum(lengths) // chunk)))


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_of_a_task_only_a_piece_of_its_results_is_held(suffix, x, tmp_path, monkeypatch):
    """Responsibilities may be many times as large as the rows that they are of."""
    model = GaussianMixture(3, random_state=0, init_params="kmeans").fit(x)
    monkeypatch.setattr("streamgmm.predict.outputs.CHUNK_BYTES", 250 * 3 * 8)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(3000, 3))
    lengths = []
    evaluate_block = Scorer.__call__

    def seen(self, block, parameters):
        lengths.append(len(block.x))
        return evaluate_block(self, block, parameters)

    monkeypatch.setattr(Scorer, "__call__", seen)
    output = tmp_path / f"out{suffix}"
    write_predictions(model, str(tmp_path / "x.zarr"), output, write="responsibilities")
    assert set(lengths) == {250}


@pytest.mark.parametrize("name", ["day [1]", "what?", "a*b", "50%", "a#b", "a::b", "n" * 240])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_results_have_the_name_that_was_given(suffix, name, model, table, x, tmp_path):
    """No character of a local path has another meaning: Zarr would take some for parts of a URL."""
    folder = tmp_path / f"folder {name[:100]}"
    folder.mkdir()
    output = folder / f"{name}{suffix}"
    write_predictions(model, table, output)
    assert [p.name for p in folder.iterdir()] == [output.name]
    found = zarr.open_group(output)["label"][:] if suffix == ".zarr" else read(output)["label"].to_numpy()
    np.testing.assert_array_equal(found, model.predict(table))


def test_what_to_do_where_the_output_exists(model, table, tmp_path):
    for suffix in (".zarr", ".parquet"):
        output = tmp_path / f"out{suffix}"
        write_predictions(model, table, output)
        before = content(output)
        with pytest.raises(OutputExistsError, match="exists"):
            write_predictions(model, table, output, write="log_density")
        assert write_predictions(model, table, output, write="log_density", if_exists="skip").skipped
        assert content(output) == before
        write_predictions(model, table.slice(0, 10), output, if_exists="replace")
        assert content(output) != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "out.zarr"]


@pytest.mark.parametrize("there", ["a file", "a folder", "a link to a folder"])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_whatever_was_there_is_replaced(there, suffix, model, table, tmp_path):
    output = tmp_path / f"out{suffix}"
    if there == "a file":
        output.write_bytes(b"old")
    else:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "old").write_bytes(b"old")
        (tmp_path / "elsewhere").rename(output) if there == "a folder" else output.symlink_to(tmp_path / "elsewhere")
    write_predictions(model, table, output, overwrite=True)
    assert output.is_dir()
    assert not output.is_symlink()
    assert not (output / "old").exists()
    assert there != "a link to a folder" or (tmp_path / "elsewhere" / "old").exists()
    assert not list(tmp_path.glob(".*"))


def test_what_was_there_stays_where_the_new_one_cannot_come(model, table, tmp_path, monkeypatch):
    output = tmp_path / "out.zarr"
    output.mkdir()
    (output / "old").write_bytes(b"old")
    rename = os.rename

    def fail(source, target):
        if str(source).endswith("/data"):
            raise PermissionError("no")
        rename(source, target)

    monkeypatch.setattr(staging.os, "rename", fail)
    with pytest.raises(OutputError, match="no"):
        write_predictions(model, table, output, overwrite=True)
    assert (output / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_threads_and_one_thread_write_the_same_bytes(model, table, tmp_path):
    source = write_table(table, tmp_path / "in", "small files")
    model.memory_limit = "100KB"
    for scheduler in ("threads", "synchronous"):
        with dask.config.set(scheduler=scheduler):
            for suffix in (".zarr", ".parquet"):
                write_predictions(
                    model, source, tmp_path / f"{scheduler}{suffix}", write=SCORES, keep=["id"], outlier_threshold=-6.0
                )
    for suffix in (".zarr", ".parquet"):
        assert content(tmp_path / f"threads{suffix}") == content(tmp_path / f"synchronous{suffix}")
    assert len(content(tmp_path / "threads.parquet")) > 5


def test_folders_by_the_values_of_columns(model, table, x, tmp_path):
    source = write_table(table, tmp_path / "in", "ragged row groups")
    write_predictions(model, source, tmp_path / "o.parquet", keep=["id", "day", "kind"], partition_by=["day", "kind"])
    files = [
        str(one.relative_to(tmp_path / "o.parquet")) for one in sorted((tmp_path / "o.parquet").rglob("*.parquet"))
    ]
    assert all(len(file.split("/")) == 3 for file in files)
    assert {file.split("/")[0] for file in files} == {f"day=2026-01-0{d}" for d in (1, 2, 3)}
    for found in (
        pl.read_parquet(tmp_path / "o.parquet", hive_partitioning=True).to_pandas(),
        duckdb.sql(f"select * from read_parquet('{tmp_path}/o.parquet/*/*/*.parquet', hive_partitioning = true)").df(),
        pd.read_parquet(tmp_path / "o.parquet"),
    ):
        joined = found.merge(table.select(["id", "day", "kind"]).to_pandas(), on="id", validate="1:1")
        assert len(joined) == len(x)
        assert (pd.to_datetime(joined.day_x.astype(str)) == pd.to_datetime(joined.day_y)).all()
        assert (joined.kind_x.astype(str) == joined.kind_y.astype(str)).all()
    # In each folder in the order of the rows.
    one = pads.dataset(sorted(str(f) for f in (tmp_path / "o.parquet/day=2026-01-01/kind=u").iterdir())).to_table()
    wanted = table.filter((pc.field("day") == datetime.date(2026, 1, 1)) & (pc.field("kind") == "u"))
    assert one["id"].equals(wanted["id"])


def test_folders_that_would_be_read_as_others_are_refused(model, table, tmp_path):
    """Whatever a name or a value begins with, or has in it."""
    output = tmp_path / "o.parquet"
    for name in ("a/b", "a=b", "_k", ".x", ""):
        with pytest.raises(InputError, match="folders can't be named by the column"):
            write_predictions(model, table.append_column(name, table["kind"]), output, keep=[name], partition_by=[name])
    for value in ("a\0b", "__HIVE_DEFAULT_PARTITION__"):
        odd = table.append_column("odd", pa.array([value, *["fine"] * (table.num_rows - 1)]))
        with pytest.raises(OutputError, match="no folder can be named by the value"):
            write_predictions(model, odd, output, keep=["odd"], partition_by=["odd"])
    assert not list(tmp_path.iterdir())


def test_no_rows_are_an_error_and_leave_nothing(model, x, tmp_path):
    array = da.from_array(x, chunks=(500, 3))
    model = GaussianMixture(2, random_state=0, init_params="kmeans").fit(x)
    for suffix in (".parquet", ".zarr"):
        with pytest.raises(RowsError, match="has no rows"):
            write_predictions(model, array[array[:, 0] > 1e9], tmp_path / f"o{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".parquet", ".zarr"])
def test_what_is_finished_says_again_of_how_many_rows(suffix, model, table, tmp_path):
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=400)
    options = {"write": ["label", "outlier"], "outlier_threshold": -6.0, "keep": ["id"]}
    first = write_predictions(model, str(tmp_path / "in.parquet"), tmp_path / f"o{suffix}", **options)
    again = write_predictions(model, str(tmp_path / "in.parquet"), tmp_path / f"o{suffix}", **options)
    assert again.skipped
    assert (again.n_rows, again.n_missing, again.n_outliers) == (first.n_rows, first.n_missing, first.n_outliers)
    assert first.n_outliers > 0
