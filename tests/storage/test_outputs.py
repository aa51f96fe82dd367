"""Whether an output can be written is known before the work; a failure names the output, and leaves nothing."""

import errno
import os
import pathlib
import subprocess
import threading
import time
import uuid
import warnings

import dask
import fsspec
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from streamgmm import GaussianMixture, load, save, write_predictions
from streamgmm.cli.main import main
from streamgmm.exceptions import CheckpointError, InputError, MissingValuesError, OutputError, OutputExistsError
from streamgmm.predict.zarr_output import ZarrOutput
from streamgmm.storage import outputs
from streamgmm.storage.outputs import check_output

SCORES = {"label": "label", "responsibilities": "proba", "log_density": "log_density"}


@pytest.fixture
def rows(rng):
    return rng.normal(size=(400, 2))


@pytest.fixture
def model(rows):
    return GaussianMixture(2, random_state=0, init_params="random_from_data", max_iter=2, tol=0).fit(rows)


@pytest.fixture
def store(rows, tmp_path):
    zarr.create_array(str(tmp_path / "x.zarr"), data=rows, chunks=(50, 2))
    return tmp_path / "x.zarr"


@pytest.fixture
def mounted(tmp_path):
    """Makes small file systems in memory, where the system lets us."""
    made = []

    def mount(options):
        folder = tmp_path / f"mounted-{len(made)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("no permission to mount")
        made.append(folder)
        return folder

    try:
        yield mount
    finally:
        for folder in made:
            subprocess.run(["umount", str(folder)], check=True)


def never(*_, **__):
    pytest.fail("the work had begun")


@pytest.fixture
def no_work(monkeypatch):
    """Whatever opens rows, or a model, fails the test."""
    for name in (
        "streamgmm.estimators.base.open_rows",
        "streamgmm.jobs.running.running_on",
        "streamgmm.load",
    ):
        monkeypatch.setattr(name, never)


def commands(source, output):
    """Every command that writes something, and where."""
    model, result = f"{output}.safetensors", f"{output}.zarr"
    return [
        (model, ["fit", source, "--components", 1, "--output", model]),
        (model, ["select", source, "--components", 1, "--output", model, "--overwrite"]),
        (result, ["predict", source, source, "--output", result, "--write", "responsibilities"]),
        (f"{output}.parquet", ["predict", source, source, "--output", f"{output}.parquet", "--overwrite"]),
    ]


def one_line(arguments, *words):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code in (2, 73), done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("streamgmm: ")
    for word in words:
        assert word in done.stderr


def test_a_place_that_is_read_only_is_known_before_the_work(store, no_work, mounted):
    folder = mounted("ro")
    for output, arguments in commands(store, folder / "out"):
        one_line(arguments, f"{output} can't be written: ", "read-only")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO])
def test_a_place_that_takes_nothing_is_known_before_the_work(code, store, no_work, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(outputs, "open", full, raising=False)
    for output, arguments in commands(store, tmp_path / "out"):
        one_line(arguments, f"{output} can't be written: {os.strerror(code)}")
    with pytest.raises(OutputError, match=os.strerror(code)) as caught:
        check_output(tmp_path / "out.zarr", overwrite=False, is_folder=True)
    assert caught.value.errno == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(store, no_work, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    for output, arguments in commands(store, tmp_path / "closed" / "out"):
        one_line(arguments, f"{output} can't be written: Permission denied")


def test_names_that_cannot_be(store, no_work, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    for parent, word in (("file", "is a file, not a folder"), ("nowhere", "is not a folder")):
        for output, arguments in commands(store, tmp_path / parent / "out"):
            one_line(arguments, output, word)
    for output, arguments in commands(store, tmp_path / "file" / "more" / "out"):
        one_line(arguments, output, f"{tmp_path / 'file'} is a file, not a folder")
    for output, arguments in commands(store, tmp_path / ("x" * 260)):
        one_line(arguments, output, "File name too long")
    (tmp_path / "folder").mkdir()
    for command in ("fit", "select"):
        one_line([command, store, "--components", 1, "--output", tmp_path / "folder", "--overwrite"], "is a folder")
    for name in ("", "a\0b.zarr"):
        with pytest.raises(InputError):
            check_output(name, overwrite=True, is_folder=True)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "x.zarr"]


def test_the_longest_name_that_a_file_may_have(model, rows, tmp_path):
    for suffix in (".zarr", ".parquet"):
        output = tmp_path / ("é" * 60 + "x" * (135 - len(suffix)) + suffix)
        assert len(os.fsencode(output.name)) == 255
        write_predictions(model, rows, output)
    save(model, tmp_path / ("m" * 200))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_mount_point_is_not_replaced(model, rows, mounted):
    folder = mounted("size=1m")
    with pytest.raises(OutputError, match="mount point"):
        check_output(folder, overwrite=True, is_folder=True)


def test_the_try_leaves_what_is_there_as_it_was(tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "mine").write_bytes(b"mine")
    before = (tmp_path / "out.zarr").stat()
    check_output(tmp_path / "out.zarr", overwrite=True, is_folder=True)
    with pytest.raises(OutputExistsError, match="overwrite"):
        check_output(tmp_path / "out.zarr", overwrite=False, is_folder=True)
    after = (tmp_path / "out.zarr").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [path.name for path in tmp_path.rglob("*")] == ["out.zarr", "mine"]


def test_in_an_object_store_an_object_is_put_and_removed(monkeypatch, store, no_work):
    filesystem = fsspec.filesystem("memory")
    root = f"memory://{uuid.uuid4().hex}"
    put = []
    real = type(filesystem).pipe_file

    def counted(self, path, value, **options):
        put.append(path)
        return real(self, path, value, **options)

    monkeypatch.setattr(type(filesystem), "pipe_file", counted)
    check_output(f"{root}/out.zarr", overwrite=False, is_folder=True)
    assert len(put) == 1
    assert not filesystem.exists(put[0])

    def denied(self, path, value, **options):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(filesystem), "pipe_file", denied)
    for output, arguments in commands(store, f"{root}/out"):
        one_line(arguments, f"{output} can't be written: AccessDenied")


def test_a_checkpoint_that_cannot_be_kept(rows, mounted, tmp_path):
    folder = mounted("ro")
    with pytest.raises(CheckpointError, match="can't be written there"):
        GaussianMixture(1, checkpoint=folder / "c").fit(rows)


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_a_disk_that_is_full_in_the_end(suffix, rng, model, mounted):
    """There is room for a try, and not for all results: the output is named, and none of it left."""
    folder = mounted("size=128k")
    x = rng.normal(size=(40_000, 2))
    for name, scheduler in (("a", "synchronous"), ("b", "threads")):
        with dask.config.set(scheduler=scheduler), pytest.raises(OutputError, match="can't be written") as caught:
            write_predictions(model, x, folder / f"{name}{suffix}", write="responsibilities")
        assert str(folder / f"{name}{suffix}") in str(caught.value)
        assert "partial" not in str(caught.value)
        assert list(folder.iterdir()) == []
    save(model, folder / "m")
    before = (folder / "m").read_bytes()
    model.lower_bounds_ = np.zeros(40_000)
    with pytest.raises(OutputError, match="No space left on device"):
        save(model, folder / "m")
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("m", before)]


@pytest.mark.parametrize("suffix", [".zarr", ".parquet"])
def test_an_error_while_writing_names_the_output(suffix, model, store, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere.partial")

    monkeypatch.setattr("zarr.Array.__setitem__", full)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
    output = tmp_path / f"out{suffix}"
    save(model, tmp_path / "m")
    one_line(["predict", tmp_path / "m", store, "--output", output], f"{output} can't be written: No space left")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "x.zarr"]


def test_an_error_while_a_cluster_writes_names_the_output(model, store, tmp_path, monkeypatch):
    from dask.distributed import Client, LocalCluster

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere.partial")

    monkeypatch.setattr("zarr.Array.__setitem__", full)
    output = tmp_path / "out.zarr"
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(scheduler=None),
        LocalCluster(**options) as cluster,
        Client(cluster),
        pytest.raises(OutputError, match=r"out.zarr can't be written: No space left"),
    ):
        write_predictions(model, store, output)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("out", ".out"))] == []


def test_tasks_that_still_write_have_ended_before_what_they_wrote_is_removed(model, rows, tmp_path, monkeypatch):
    """Zarr makes the folders that it writes to: a task that ended later would leave some."""
    rows[390, 0] = np.nan
    zarr.create_array(str(tmp_path / "x.zarr"), data=rows, chunks=(50, 2))
    model.memory_limit = 4 * 50 * 2 * 8 * 8
    failed, slow, ended = (threading.Event() for _ in range(3))
    write = ZarrOutput.write

    def late(parts):
        slow.set()
        failed.wait(10)
        # Long enough for what failed to be removed, were it not waited for.
        time.sleep(0.1)
        yield from parts

    def waiting(self, part, start, parts, said):
        if start == 0:
            try:
                return write(self, part, start, late(parts), said)
            finally:
                ended.set()
        slow.wait(10)
        try:
            return write(self, part, start, parts, said)
        except MissingValuesError:
            failed.set()
            raise

    monkeypatch.setattr(ZarrOutput, "write", waiting)
    with dask.config.set(scheduler="threads", num_workers=2), pytest.raises(MissingValuesError):
        write_predictions(model, str(tmp_path / "x.zarr"), tmp_path / "out.zarr")
    ended.wait(10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr"]


@pytest.mark.parametrize("score", list(SCORES))
def test_a_zarr_result_opens_in_xarray(score, model, store, tmp_path):
    xarray = pytest.importorskip("xarray")
    write_predictions(model, store, tmp_path / "out.zarr", write=score)
    predict = {"label": model.predict, "responsibilities": model.predict_proba, "log_density": model.score_samples}
    expected = predict[score](store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_zarr(tmp_path / "out.zarr") as found:
            assert list(found) == [SCORES[score]]
            array = found[SCORES[score]]
            assert array.dims == (("row", "component") if score == "responsibilities" else ("row",))
            assert array.dtype == (np.int8 if score == "label" else np.float64)
            np.testing.assert_array_equal(array.values, expected.compute())
        with xarray.open_zarr(tmp_path / "out.zarr", consolidated=False) as found:
            np.testing.assert_array_equal(found[SCORES[score]].values, expected.compute())
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert group.metadata.zarr_format == 3
    np.testing.assert_array_equal(group[SCORES[score]][:], expected.compute())


def test_missing_rows_are_missing_in_xarray_too(model, rows, tmp_path):
    """-1 and 0 are labels like others: nothing stands for a missing value but NaN."""
    xarray = pytest.importorskip("xarray")
    rows[3, 0] = np.nan
    model.missing = "drop"
    write_predictions(model, rows, tmp_path / "l.zarr")
    write_predictions(model, rows, tmp_path / "d.zarr", write="log_density")
    labels, densities = (xarray.open_zarr(tmp_path / name) for name in ("l.zarr", "d.zarr"))
    assert labels.label.dtype == np.int8
    assert set(labels.label.values.tolist()) == {-1, 0, 1}
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(densities.log_density.values)), [3])


def test_responsibilities_are_rows_too(model, store, tmp_path):
    """A group with one table in it is a source."""
    write_predictions(model, store, tmp_path / "p.zarr", write="responsibilities")
    assert model.fit(tmp_path / "p.zarr").n_features_in_ == 2


def test_paths_are_taken_wherever_names_are(rows, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    place = pathlib.Path(tmp_path)
    model = GaussianMixture(1, random_state=0, checkpoint=place / "c").fit(place / "x.npy")
    save(model, place / "m")
    for output in (place / "out.zarr", place / "out.parquet"):
        assert write_predictions(load(place / "m"), place / "x.npy", output).n_rows == len(rows)
    assert (place / "out.zarr" / "zarr.json").is_file()
