"""Results are written whole or not at all, in whole chunks, in the order of the rows."""

import os
import tempfile
from itertools import pairwise

import dask
import numpy as np
import pyarrow.dataset as pads
import pytest
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgmm import GaussianMixture, write_predictions
from streamgmm.exceptions import InputError, MissingValuesError, OutputError, OutputExistsError
from streamgmm.predict import stores as results
from streamgmm.predict.evaluate import Predict
from streamgmm.predict.stores import ZarrResults
from streamgmm.sources.base import RowRange

KIND_OF = {"labels": "predict", "proba": "predict_proba", "log_density": "score_samples"}


def array_of(path):
    """The one array of a Zarr result."""
    ((_, array),) = zarr.open_group(path, mode="r").arrays()
    return array


@pytest.fixture
def model(x):
    return GaussianMixture(3, random_state=0, init_params="k-means++", max_iter=5, tol=0).fit(x)


@pytest.mark.parametrize("kind", list(KIND_OF))
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_written_results_are_those_returned(kind, suffix, model, x, tmp_path):
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(256, 3))
    model.memory_limit = 100_000  # several tasks
    output = str(tmp_path / f"out{suffix}")
    assert write_predictions(model, str(tmp_path / "x.zarr"), output, kind=kind) == len(x)
    expected = getattr(model, KIND_OF[kind])(x)
    if suffix == ".zarr":
        found = array_of(output)[:]
    else:
        table = pads.dataset(sorted((tmp_path / "out.parquet").iterdir())).to_table()
        found = np.column_stack([column.to_numpy() for column in table.columns])
        found = found if kind == "proba" else found[:, 0]
        names = {"labels": ["label"], "proba": ["proba_0", "proba_1", "proba_2"], "log_density": ["log_density"]}
        assert table.column_names == names[kind]
    np.testing.assert_array_equal(found, expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"out{suffix}", "x.zarr"])


@pytest.mark.parametrize("name", ["day [1]", "what?", "a*b", "50%", "a#b", "a::b"])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_results_have_the_name_that_was_given(suffix, name, model, x, tmp_path):
    """No character of a local path has another meaning: Zarr would take some for parts of a URL."""
    folder = tmp_path / f"folder {name}"
    folder.mkdir()
    output = folder / f"{name}{suffix}"
    write_predictions(model, x, output)
    assert [p.name for p in folder.iterdir()] == [output.name]
    found = array_of(output)[:] if suffix == ".zarr" else pads.dataset(output).to_table()["label"].to_numpy()
    np.testing.assert_array_equal(found, model.predict(x))


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=20), n_columns=st.sampled_from([None, 1, 3000]))
@example(lengths=[2803, 1, 557, 560], n_columns=3000)  # 2803 is prime, and too many rows for one chunk
def test_zarr_tasks_write_whole_chunks(lengths, n_columns):
    stops = np.cumsum(lengths).tolist()
    source = tuple(RowRange(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        store = ZarrResults(f"{folder}/x.zarr", "label", stops[-1], n_columns, np.dtype(float))
        ranges = store.ranges(source)
        store.create(source)
        chunk = array_of(store.path).chunks[0]
    assert ranges[0].start == 0
    assert ranges[-1].stop == stops[-1]
    assert all(a.stop == b.start for a, b in pairwise(ranges))
    assert all(part.start % chunk == 0 for part in ranges)


def test_irregular_row_groups_fill_regular_chunks(model, x, tmp_path):
    """Tasks of a Parquet source end where its row groups do; what they write ends where chunks do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "in").mkdir()
    for i, (start, stop) in enumerate(pairwise([0, 401, 402, 959, 1519, 3000])):
        pq.write_table(pa.table({c: x[start:stop, j] for j, c in enumerate("abc")}), tmp_path / "in" / f"{i}.parquet")
    model.memory_limit = 3000 * 3 * 8 * 8 // 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamgmm.sources.parquet._BATCH_ROWS", 100)
        with dask.config.set(scheduler="threads", num_workers=4):
            source, output = str(tmp_path / "in"), str(tmp_path / "out.zarr")
            write_predictions(model, source, output, kind="proba", columns=["a", "b", "c"])
    found = array_of(tmp_path / "out.zarr")
    assert found.nchunks > 1
    np.testing.assert_array_equal(found[:], model.predict_proba(x))


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_of_a_task_only_a_piece_of_its_results_is_held(suffix, model, x, tmp_path, monkeypatch):
    """Responsibilities may be many times as large as the rows that they are of."""
    monkeypatch.setattr("streamgmm.predict.stores._CHUNK_BYTES", 250 * 3 * 8)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(3000, 3))
    lengths, held = [], []
    evaluate_block, in_steps = Predict.block, results._in_steps

    def seen(self, block, parameters):
        lengths.append(len(block.x))
        return evaluate_block(self, block, parameters)

    def steps(parts, n_rows):
        for values in in_steps(parts, n_rows):
            held.append(len(values))
            yield values

    monkeypatch.setattr(Predict, "block", seen)
    monkeypatch.setattr(results, "_in_steps", steps)
    output = str(tmp_path / f"out{suffix}")
    assert write_predictions(model, str(tmp_path / "x.zarr"), output, kind="proba") == 3000
    assert (set(lengths), set(held)) == ({250}, {250})
    table = pads.dataset(output).to_table() if suffix == ".parquet" else None
    found = array_of(output)[:] if table is None else np.column_stack([c.to_numpy() for c in table.columns])
    monkeypatch.undo()
    np.testing.assert_array_equal(found, model.predict_proba(x))


@given(lengths=st.lists(st.integers(0, 50), max_size=20), n_rows=st.integers(1, 60))
def test_results_come_in_steps_of_so_many_rows(lengths, n_rows):
    stops = np.cumsum([0, *lengths])
    steps = list(results._in_steps((np.arange(a, b) for a, b in pairwise(stops)), n_rows))
    np.testing.assert_array_equal(np.concatenate([np.arange(0), *steps]), np.arange(stops[-1]))
    assert all(len(step) == n_rows for step in steps[:-1])
    assert all(0 < len(step) <= n_rows for step in steps)


def test_nothing_is_left_where_writing_fails(model, x, tmp_path):
    x[100, 1] = np.nan
    for suffix in (".zarr", ".parquet"):
        with pytest.raises(MissingValuesError, match="row 100"):
            write_predictions(model, x, str(tmp_path / f"out{suffix}"))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over_unless_asked_for(model, x, tmp_path):
    for suffix in (".zarr", ".parquet"):
        output = str(tmp_path / f"out{suffix}")
        write_predictions(model, x, output)
        with pytest.raises(OutputExistsError, match="exists"):
            write_predictions(model, x, output, kind="log_density")
        write_predictions(model, x[:10], output, overwrite=True)
    np.testing.assert_array_equal(array_of(tmp_path / "out.zarr")[:], model.predict(x[:10]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "out.zarr"]


def test_mistakes_are_named(model, x, tmp_path):
    with pytest.raises(InputError, match=r"\.zarr or \.parquet"):
        write_predictions(model, x, str(tmp_path / "out.csv"))
    with pytest.raises(InputError, match="is not a folder"):
        write_predictions(model, x, str(tmp_path / "nowhere" / "out.zarr"))
    with pytest.raises(InputError, match="'labels', 'proba', 'log_density'"):
        write_predictions(model, x, str(tmp_path / "out.zarr"), kind="label")
    import dask.array as da

    with pytest.raises(InputError, match="Dask collection"):
        write_predictions(model, da.from_array(x), str(tmp_path / "out.zarr"))


@pytest.mark.parametrize("there", ["a file", "a folder", "a link to a folder"])
@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_whatever_was_there_is_replaced(there, suffix, model, x, tmp_path):
    output = tmp_path / f"out{suffix}"
    if there == "a file":
        output.write_bytes(b"old")
    else:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "old").write_bytes(b"old")
        (tmp_path / "elsewhere").rename(output) if there == "a folder" else output.symlink_to(tmp_path / "elsewhere")
    assert write_predictions(model, x, str(output), overwrite=True) == len(x)
    assert output.is_dir()
    assert not output.is_symlink()
    assert not (output / "old").exists()
    assert there != "a link to a folder" or (tmp_path / "elsewhere" / "old").exists()
    assert not list(tmp_path.glob(".*"))


def test_what_was_there_stays_where_the_new_one_cannot_come(tmp_path, monkeypatch):
    from streamgmm.storage import atomic_output as replacing

    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "old").write_bytes(b"old")

    def fail(*_):
        raise PermissionError("no")

    monkeypatch.setattr(replacing.os, "replace", fail)
    with pytest.raises(OutputError, match="no"), replacing.atomic_output(str(tmp_path / "out.zarr")) as temporary:
        os.mkdir(temporary)
    assert (tmp_path / "out.zarr" / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
