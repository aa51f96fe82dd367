"""A run that is stopped is gone on with, and ends with the bytes of a run that nothing stopped."""

import os
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from streamgmm import GaussianMixture, save, write_predictions
from streamgmm.exceptions import InUseError, MissingValuesError, OutputExistsError
from streamgmm.predict.parquet_output import ParquetOutput
from streamgmm.predict.scores import SCORES
from streamgmm.predict.zarr_output import ZarrOutput
from streamgmm.storage import staging
from streamgmm.storage.folders import Folder
from streamgmm.storage.lock import lock_folder
from streamgmm.storage.staging import name_staging

OUTPUTS = {".parquet": ParquetOutput, ".zarr": ZarrOutput}
OPTIONS = {"write": SCORES, "keep": ["id"], "outlier_threshold": -6.0}


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def model(x):
    return GaussianMixture(3, random_state=0, init_params="kmeans", max_iter=3, tol=0, memory_limit="100KB").fit(x)


@pytest.fixture
def source(x, tmp_path):
    """A file whose row groups are tasks of their own."""
    table = pa.table({"id": np.arange(len(x)), **{name: x[:, j] for j, name in enumerate("abc")}})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=401)
    return str(tmp_path / "in.parquet")


def write(model, source, output, **options):
    with dask.config.set(scheduler="synchronous"):
        return write_predictions(model, source, output, columns=list("abc"), **{**OPTIONS, **options})


class Stop:
    """Stops a run where the n-th part is written, before it or when a part of it is there."""

    def __init__(self, original, after, *, inside):
        self.original, self.after, self.inside, self.calls = original, after, inside, 0

    def __get__(self, output, _):
        def stopped(part, start, pieces, said):
            self.calls += 1
            if self.calls == self.after + 1:
                if self.inside:
                    self.original(output, part, start, interrupted(pieces), said)
                raise KeyboardInterrupt
            return self.original(output, part, start, pieces, said)

        return stopped


def interrupted(pieces):
    yield next(iter(pieces))
    raise KeyboardInterrupt


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("suffix", list(OUTPUTS))
def test_what_is_complete_is_not_computed_again(suffix, inside, model, source, tmp_path, monkeypatch):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    n_parts = write(model, source, whole).n_parts
    assert n_parts > 4
    original = OUTPUTS[suffix].write
    with monkeypatch.context() as patch:
        patch.setattr(OUTPUTS[suffix], "write", Stop(original, 3, inside=inside))
        with pytest.raises(KeyboardInterrupt):
            write(model, source, output)
    assert not output.exists()
    written = []
    monkeypatch.setattr(
        OUTPUTS[suffix],
        "write",
        lambda self, *part: (written.append(part[1]), original(self, *part)),
    )
    found = write(model, source, output)
    assert (found.n_parts, found.n_resumed, len(written)) == (n_parts, 3, n_parts - 3)
    assert found.n_rows == 3000
    assert content(output) == content(whole)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["model", "rows", "options", "keep"])
def test_another_job_starts_afresh(change, model, source, x, tmp_path, monkeypatch):
    """What an earlier run of other rows, with another model or other options, has completed is not taken over."""
    output, options = tmp_path / "out.parquet", {}
    with monkeypatch.context() as patch:
        patch.setattr(ParquetOutput, "write", Stop(ParquetOutput.write, 3, inside=False))
        with pytest.raises(KeyboardInterrupt):
            write(model, source, output)
    if change == "model":
        model.means_ = model.means_ + 1e-9
    elif change == "rows":
        table = pq.read_table(source)
        pq.write_table(table.set_column(1, "a", pa.array(x[:, 0] + 1.0)), source, row_group_size=401)
    else:
        options = {"float_type": "float32"} if change == "options" else {"keep": []}
    found = write(model, source, output, **options)
    assert found.n_resumed == 0
    write(model, source, tmp_path / "whole.parquet", **options)
    assert content(output) == content(tmp_path / "whole.parquet")
    assert not list(tmp_path.glob(".*"))


def test_bad_data_leave_nothing_and_a_failing_store_what_is_complete(model, source, x, tmp_path, monkeypatch):
    from streamgmm.exceptions import ReadError

    output = tmp_path / "out.parquet"
    original = ParquetOutput.write
    for error, left in ((MissingValuesError("no"), []), (ReadError("no"), [".out.parquet.streamgmm"])):
        calls = []

        def failing(self, part, start, pieces, said, calls=calls, error=error):
            calls.append(start)
            if len(calls) == 3:
                raise error
            return original(self, part, start, pieces, said)

        with monkeypatch.context() as patch:
            patch.setattr(ParquetOutput, "write", failing)
            with pytest.raises(type(error)):
                write(model, source, output)
        assert [path.name for path in tmp_path.glob("*out*")] == left
    assert write(model, source, output).n_resumed == 2


@pytest.mark.parametrize("suffix", list(OUTPUTS))
def test_what_is_finished_is_not_done_again(suffix, model, source, tmp_path):
    output = tmp_path / f"out{suffix}"
    assert not write(model, source, output).skipped
    before = content(output)
    assert write(model, source, output).skipped
    assert content(output) == before
    with pytest.raises(OutputExistsError, match="exists"):
        write(model, source, output, keep=[])
    assert content(output) == before
    assert write(model, source, output, overwrite=True).n_rows == 3000
    assert content(output) == before


def test_one_run_at_a_time(model, source, tmp_path):
    output = tmp_path / "out.parquet"
    with lock_folder(Folder(name_staging(str(output)))), pytest.raises(InUseError, match="in use by another run"):
        write(model, source, output)
    assert write(model, source, output).n_rows == 3000


@pytest.mark.parametrize("stage", ["before the old is aside", "before the new is there", "before all is cleared"])
@pytest.mark.parametrize("suffix", list(OUTPUTS))
def test_a_run_stopped_while_old_and_new_change_places(stage, suffix, model, source, tmp_path, monkeypatch):
    """Nothing is lost: the old one or the new one is there, or comes back with the next run."""
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    write(model, source, whole)
    output.mkdir()
    (output / "old").write_bytes(b"old")
    rename, clear = os.rename, staging._clear

    def stopping(old, new):
        if str(new if stage == "before the old is aside" else old).endswith(
            "/old" if stage == "before the old is aside" else "/data"
        ):
            os._exit(9)
        rename(old, new)

    def stopping_to_clear(folder, lock):
        if output.exists() and not (output / "old").exists():
            os._exit(9)
        clear(folder, lock)

    child = os.fork()
    if child == 0:
        if stage == "before all is cleared":
            staging._clear = stopping_to_clear
        else:
            staging.os.rename = stopping
        write(model, source, output, if_exists="replace")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    if stage == "before all is cleared":
        assert content(output) == content(whole)
    found = write(model, source, output, if_exists="fail" if stage == "before all is cleared" else "replace")
    assert found.skipped == (stage == "before all is cleared")
    assert found.n_resumed == found.n_parts
    assert content(output) == content(whole)
    assert not list(tmp_path.glob(".*"))


def test_what_was_aside_comes_back_for_another_job(model, source, tmp_path):
    """The next run may be of another job, which must not replace what is there."""
    output = tmp_path / "out.parquet"
    folder = tmp_path / ".out.parquet.streamgmm"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "precious").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="exists"):
        write(model, source, output)
    assert (output / "precious").read_bytes() == b"old"
    assert not folder.exists()


def test_what_is_kept_tells_one_job_from_another(model, x, tmp_path):
    """Of arrays beside the rows, and of keys in folders' names, the values are in no file of the rows."""
    group = zarr.open_group(tmp_path / "in.zarr", mode="w")
    group.create_array("x", data=x, chunks=(500, 3))
    group.create_array("id", data=np.arange(len(x)))
    source, output = f"{tmp_path}/in.zarr/x", tmp_path / "o.zarr"
    write_predictions(model, source, output, keep=["id"])
    group["id"][:] = np.arange(len(x)) + 1000
    with pytest.raises(OutputExistsError):
        write_predictions(model, source, output, keep=["id"])
    (tmp_path / "hive" / "day=1").mkdir(parents=True)
    table = pa.table({name: x[:, j] for j, name in enumerate("abc")})
    pq.write_table(table, tmp_path / "hive" / "day=1" / "0.parquet")
    options = {"keep": ["day"], "columns": list("abc")}
    write_predictions(model, str(tmp_path / "hive"), tmp_path / "h.parquet", **options)
    (tmp_path / "hive" / "day=1").rename(tmp_path / "hive" / "day=2")
    with pytest.raises(OutputExistsError):
        write_predictions(model, str(tmp_path / "hive"), tmp_path / "h.parquet", **options)


def test_half_of_an_output_in_an_object_store_is_none(model, source, monkeypatch):
    """A run that is killed while it copies is completed by the next."""
    import fsspec

    store = fsspec.filesystem("memory")

    def copy_one(filesystem, here, there):
        first = sorted(filesystem.find(here))[0]
        filesystem.copy(first, first.replace(here, there))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(staging, "copy_objects", copy_one)
        patch.setattr(staging, "remove_objects", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            write(model, source, "memory://b/out.parquet")
        left = store.find("/b/out.parquet")
    assert len(left) == 1
    found = write(model, source, "memory://b/out.parquet")
    assert not found.skipped
    assert len([name for name in store.find("/b/out.parquet") if name.endswith(".parquet")]) == found.n_parts
    assert write(model, source, "memory://b/out.parquet").skipped
    store.rm("/b", recursive=True)


def test_a_run_that_was_stopped_leaves_what_is_there_to_others(model, source, monkeypatch):
    """One that was to replace an output in an object store, and had only begun, gives nobody leave to."""
    import fsspec

    store, output = fsspec.filesystem("memory"), "memory://c/out.parquet"
    write(model, source, output)
    before = {name: store.cat_file(name) for name in store.find("/c/out.parquet")}
    with monkeypatch.context() as patch:
        patch.setattr(ParquetOutput, "write", Stop(ParquetOutput.write, 3, inside=False))
        with pytest.raises(KeyboardInterrupt):
            write(model, source, output, keep=[], if_exists="replace")
    with pytest.raises(OutputExistsError):
        write(model, source, output, keep=[])
    assert {name: store.cat_file(name) for name in store.find("/c/out.parquet")} == before
    store.rm("/c", recursive=True)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("suffix", list(OUTPUTS))
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(suffix, how, x, rng, tmp_path):
    table = pa.table({"id": np.arange(300_000), **{name: rng.normal(size=300_000) for name in "abc"}})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=10_000)
    model = GaussianMixture(3, random_state=0, init_params="kmeans", max_iter=2, tol=0)
    model.fit(pd.DataFrame(x, columns=list("abc")))
    save(model, tmp_path / "m")
    command = [sys.executable, "-m", "streamgmm.cli.process", "predict", "m", "in.parquet", "--memory-limit", "2MB"]
    command += ["--write", "label,log_density", "--keep", "id", "--output"]
    began = time.monotonic()
    subprocess.run([*command, f"whole{suffix}"], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    for _ in range(10):
        process = subprocess.Popen(
            [*command, f"out{suffix}"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.3, 1.0) * took)
        process.send_signal(how)
        code = process.wait()
        # The interpreter itself may have been starting.
        assert code in (0, 143, -15) if how == signal.SIGTERM else code in (0, -9)
        if code == 0:
            break
    if not (tmp_path / f"out{suffix}").exists():
        subprocess.run([*command, f"out{suffix}"], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert content(tmp_path / f"out{suffix}") == content(tmp_path / f"whole{suffix}")
    assert not list(tmp_path.glob(".*"))
