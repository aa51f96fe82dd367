"""Checkpoints: a fit that was stopped, however, ends with the same bits; what is of another is refused by name."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from streamgmm import GaussianMixture, load, save
from streamgmm.checkpoint import parts as part_buffer
from streamgmm.checkpoint.checkpoint import Checkpoint
from streamgmm.exceptions import CheckpointError, CheckpointInUseError, CheckpointWarning, DataChangedError, InputError
from streamgmm.sources.open import open_rows
from streamgmm.sources.zarr_arrays import ZarrRows
from streamgmm.storage import lock as run_lock
from streamgmm.storage.folders import Folder
from streamgmm.storage.lock import LOCK
from tests.helpers import clusters


class StoppedError(Exception):
    pass


def stop_after(n_iter):
    def callback(state):
        if state.n_iter == n_iter:
            raise StoppedError

    return callback


@pytest.fixture
def store(rng, tmp_path):
    """Rows of which the sample holds a part, and five overlapping clusters, so that a fit takes several readings."""
    x = clusters(rng, n_rows=30_000, n_features=4, n_components=5, spread=1.2)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(3000, 4))
    return str(tmp_path / "x.zarr")


def mixture(**parameters):
    # A start that takes no time, but where the search is what is tested.
    given = {"random_state": 0, "memory_limit": "3MB", "tol": 1e-9, "init_params": "kmeans"} | parameters
    return GaussianMixture(5, **given)


def written(output):
    """The model that a command has written, without what that says of the command."""
    model = load(output)
    assert list(model.metadata_) == ["streamgmm.job"]
    model.metadata_ = {}
    return model


def bits(model, tmp_path):
    path = tmp_path / f"{uuid.uuid4().hex}.safetensors"
    save(model, path)
    return path.read_bytes()


def left_after(store, folder, n_iter, **parameters):
    with pytest.raises(StoppedError):
        mixture(checkpoint=folder, callback=stop_after(n_iter), **parameters).fit(store)


def test_the_same_bits_whichever_reading_was_the_last(store, covariance_type, tmp_path):
    expected = bits(mixture(init_params="sample", covariance_type=covariance_type).fit(store), tmp_path)
    folder, left = tmp_path / "c", []

    def leave(state):
        """Do as a process does that is killed now."""
        left.append(shutil.copytree(folder, tmp_path / f"left-{len(left)}", ignore=shutil.ignore_patterns(LOCK)))

    whole = mixture(init_params="sample", covariance_type=covariance_type, checkpoint=folder, callback=leave).fit(store)
    assert bits(whole, tmp_path) == expected
    assert len(left) > 2
    for one in left:
        again = mixture(init_params="sample", covariance_type=covariance_type, checkpoint=one, resume="must").fit(store)
        assert bits(again, tmp_path) == expected
        assert again.fit_report_.n_passes == whole.fit_report_.n_passes


@pytest.mark.parametrize("parameters", [{"accelerate": False, "tol": 1e-5}, {"init_params": "kmeans", "n_init": 3}])
def test_plain_em_and_several_candidates(store, parameters, tmp_path):
    expected = bits(mixture(**parameters).fit(store), tmp_path)
    left_after(store, tmp_path / "c", 2, **parameters)
    assert bits(mixture(checkpoint=tmp_path / "c", **parameters).fit(store), tmp_path) == expected


def test_rows_in_memory(x, tmp_path):
    expected = bits(mixture(memory_limit=None).fit(x), tmp_path)
    with pytest.raises(StoppedError):
        mixture(memory_limit=None, checkpoint=tmp_path / "c", callback=stop_after(2)).fit(x)
    assert bits(mixture(memory_limit=None, checkpoint=tmp_path / "c").fit(x), tmp_path) == expected


class Reads:
    """Counts the readings of tasks of a Zarr store, and may end the process at one, as far as the fit can tell."""

    def __init__(self, monkeypatch):
        self.n, self.last = 0, None
        read = ZarrRows.read

        def counted(rows, start, stop):
            if self.n == self.last:
                raise SystemExit
            self.n += 1
            return read(rows, start, stop)

        monkeypatch.setattr(ZarrRows, "read", counted)


@pytest.mark.parametrize("ended", ["at once", "killed"])
@pytest.mark.parametrize("random_state", [0, None])
def test_a_reading_goes_on_from_its_parts(store, random_state, ended, tmp_path, monkeypatch):
    """Nothing that a reading has given before the end is read again, in the survey as in an E-step."""
    monkeypatch.setattr(part_buffer, "PART_SECONDS", 0.0 if ended == "killed" else 60.0)
    reads = Reads(monkeypatch)
    mixture().fit(store)
    n_reads, n_tasks = reads.n, open_rows(store, memory_limit=3_000_000).n_tasks
    assert n_tasks == 4
    expected = bits(mixture().fit(store), tmp_path)
    for last in (1, 2, 3, n_tasks + 2, 2 * n_tasks + 3):
        folder = tmp_path / f"c-{last}"
        reads.n, reads.last = 0, last
        with pytest.raises(SystemExit):
            mixture(checkpoint=folder, random_state=random_state).fit(store)
        reads.n, reads.last = 0, None
        model = mixture(checkpoint=folder, random_state=random_state, resume="must").fit(store)
        if random_state == 0:
            assert reads.n == n_reads - last
            assert bits(model, tmp_path) == expected
        else:
            assert reads.n % n_tasks == -last % n_tasks
        assert not list(folder.glob("part-*"))


def test_parts_of_another_reading_are_not_taken(store, tmp_path, monkeypatch):
    """Parts are those of the parameters that were read for: of another start they are left alone."""
    reads = Reads(monkeypatch)
    reads.last = 2
    with pytest.raises(SystemExit):
        mixture(checkpoint=tmp_path / "c").fit(store)
    (part,) = (tmp_path / "c").glob("part-*")
    reads.last = None
    expected = bits(mixture(random_state=1).fit(store), tmp_path)
    (tmp_path / "d").mkdir()
    shutil.copy(part, tmp_path / "d")
    with pytest.raises(CheckpointError, match="random_state"):
        mixture(random_state=1, checkpoint=tmp_path / "d").fit(store)
    model = mixture(random_state=1, checkpoint=tmp_path / "d", resume="never").fit(store)
    assert bits(model, tmp_path) == expected


def test_an_object_store(store, tmp_path):
    folder = f"memory://{uuid.uuid4().hex}/c"
    expected = bits(mixture().fit(store), tmp_path)
    left_after(store, folder, 2)
    assert bits(mixture(checkpoint=folder, resume="must").fit(store), tmp_path) == expected
    assert LOCK not in Folder(folder).names()


def test_a_seed_that_was_not_given_is_that_of_the_checkpoint(store, tmp_path):
    """Killed in the search: the sample is there, and the search must be that of the seed that drew it."""
    whole = mixture(checkpoint=tmp_path / "c", random_state=None).fit(store)
    for kept in (tmp_path / "c").glob("pass-*"):
        kept.unlink()
    again = mixture(checkpoint=tmp_path / "c", resume="must", random_state=None).fit(store)
    assert bits(again, tmp_path) == bits(whole, tmp_path)


def test_a_reading_goes_on_from_its_own_start(store, tmp_path):
    """A process may be killed between writing a new start and removing what was there."""
    left_after(store, tmp_path / "a", 2, random_state=None)
    expected = shutil.copytree(tmp_path / "a", tmp_path / "copy")
    left_after(store, tmp_path / "b", 1, random_state=None)
    (start,) = (tmp_path / "b").glob("start-*")
    shutil.copy(start, tmp_path / "a")
    again = [mixture(checkpoint=folder, random_state=None).fit(store) for folder in (tmp_path / "a", expected)]
    assert bits(again[0], tmp_path) == bits(again[1], tmp_path)


def test_what_a_killed_process_left_half_written_is_removed(store, tmp_path):
    mine = tmp_path / "start-0123456789abcdef.safetensors.partial"
    half = tmp_path / ".start-0123456789abcdef.safetensors-01234567.partial"
    for path in (mine, half):
        path.write_bytes(b"")
    mixture(checkpoint=tmp_path, max_iter=1, tol=1e6).fit(store)
    assert mine.exists()
    assert not half.exists()


def test_arrays_in_other_stores_are_told_apart(rng, tmp_path):
    def fingerprint(array):
        return open_rows(array).fingerprint()["content"]

    x = rng.normal(size=(100, 2))
    url = f"memory://{uuid.uuid4().hex}.zarr"
    remote = zarr.create_array(url, data=x, chunks=(50, 2))
    before = fingerprint(remote)
    assert fingerprint(remote) == before
    time.sleep(0.01)
    remote[0, 0] = 3.0
    assert fingerprint(remote) != before
    with zarr.storage.ZipStore(tmp_path / "x.zip", mode="w") as zipped:
        zarr.create_array(zipped, data=x, chunks=(50, 2))
    assert fingerprint(zarr.open_array(zarr.storage.ZipStore(tmp_path / "x.zip"))) != before


def test_a_fit_that_has_ended_is_not_done_again_and_gives_way_to_another(store, tmp_path):
    model = mixture(checkpoint=tmp_path / "c").fit(store)
    again = mixture(checkpoint=tmp_path / "c", callback=stop_after(1)).fit(store)
    assert bits(again, tmp_path) == bits(model, tmp_path)
    with pytest.raises(CheckpointError, match=r"n_components \(5 there, 2 now\)"):
        GaussianMixture(2, random_state=0, memory_limit="3MB", checkpoint=tmp_path / "c", resume="must").fit(store)
    two = np.int64(2)
    other = GaussianMixture(two, random_state=0, memory_limit="3MB", checkpoint=tmp_path / "c").fit(store)
    assert bits(other, tmp_path) == bits(GaussianMixture(2, random_state=0, memory_limit="3MB").fit(store), tmp_path)


@pytest.mark.filterwarnings("ignore:the fit stopped after max_iter")
def test_more_iterations(store, tmp_path):
    first = mixture(checkpoint=tmp_path / "c", max_iter=np.int64(2)).fit(store)
    assert not first.converged_
    with pytest.raises(CheckpointError, match=r"tol \(1e-09 there, 1e-08 now\)"):
        mixture(checkpoint=tmp_path / "c", tol=1e-8).fit(store)
    assert bits(mixture(checkpoint=tmp_path / "c").fit(store), tmp_path) == bits(mixture().fit(store), tmp_path)


def test_other_rows_and_settings_are_refused_by_name(store, rng, tmp_path):
    folder = tmp_path / "c"
    left_after(store, folder, 2)
    for parameters, what in (
        ({"covariance_type": "diag"}, r"covariance_type \(full there, diag now\)"),
        ({"random_state": 1}, "random_state"),
        ({"tol": 1e-3}, "tol"),
    ):
        with pytest.raises(CheckpointError, match=what):
            mixture(checkpoint=folder, **parameters).fit(store)
    zarr.open_array(store)[0, 0] = 7.0
    with pytest.raises(CheckpointError, match=r"differs in content.*resume='never'"):
        mixture(checkpoint=folder).fit(store)
    x = clusters(rng, n_rows=100, n_features=4)
    with pytest.raises(CheckpointError, match=r"rows \(30000 there, 100 now\)"):
        mixture(checkpoint=folder).fit(x)
    expected = bits(mixture().fit(store), tmp_path)
    assert bits(mixture(checkpoint=folder, resume="never").fit(store), tmp_path) == expected


def test_another_weight_column_is_another_fit(store, tmp_path):
    x = zarr.open_array(store)[:]
    table = {"a": x[:, 0], "b": x[:, 1], "w": np.ones(len(x)), "v": np.full(len(x), 2.0)}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    given = {"columns": ["a", "b"], "sample_weight": "w"}
    with pytest.raises(StoppedError):
        mixture(checkpoint=tmp_path / "c", callback=stop_after(1)).fit(tmp_path / "x.parquet", **given)
    with pytest.raises(CheckpointError, match="content"):
        mixture(checkpoint=tmp_path / "c").fit(tmp_path / "x.parquet", **(given | {"sample_weight": "v"}))


def test_a_checkpoint_that_cannot_be_written_ends_the_fit(store, tmp_path, monkeypatch):
    expected = bits(mixture().fit(store), tmp_path)

    def no_space(_):
        monkeypatch.setattr("streamgmm.storage.folders._write", failing)

    def failing(path, data):
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"No space left.*goes on from there"):
        mixture(checkpoint=tmp_path / "c", callback=no_space).fit(store)
    monkeypatch.undo()
    assert bits(mixture(checkpoint=tmp_path / "c", resume="must").fit(store), tmp_path) == expected


def test_nothing_to_go_on_from(store, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        mixture(checkpoint=tmp_path / "c", resume="must").fit(store)
    with pytest.raises(InputError, match="checkpoint="):
        mixture(resume="must").fit(store)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match="is a file"):
        mixture(checkpoint=tmp_path / "file").fit(store)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
@pytest.mark.parametrize("what", ["pass-000002", "start"])
def test_what_is_damaged_is_left_out(store, what, damage, tmp_path):
    expected = bits(mixture().fit(store), tmp_path)
    folder = tmp_path / "c"
    left_after(store, folder, 2)
    (path,) = folder.glob(f"{what}-*")
    body = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        body[len(body) // 2] ^= 1
        path.write_bytes({"cut": body[:-100], "flip": body, "empty": b""}[damage])
    if damage == "gone" and what != "start":
        model = mixture(checkpoint=folder).fit(store)
    else:
        with pytest.warns(CheckpointWarning, match="damaged"):
            model = mixture(checkpoint=folder).fit(store)
    assert bits(model, tmp_path) == expected
    assert bits(mixture(checkpoint=folder, resume="must").fit(store), tmp_path) == expected


@pytest.mark.parametrize(("format_version", "message"), [(3, r"format 3.*upgrade"), (1, r"format 1.*earlier version")])
def test_another_format_is_refused(format_version, message, store, tmp_path, monkeypatch):
    monkeypatch.setattr("streamgmm.checkpoint.file.FORMAT_VERSION", format_version)
    left_after(store, tmp_path / "c", 1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=message):
        mixture(checkpoint=tmp_path / "c").fit(store)


def test_two_runs_on_one_folder(store, tmp_path):
    folder = tmp_path / "c"

    def second(state):
        with pytest.raises(CheckpointInUseError, match=rf"in use by another run \(process {os.getpid()}"):
            mixture(checkpoint=folder).fit(store)
        raise StoppedError

    with pytest.raises(StoppedError):
        mixture(checkpoint=folder, callback=second).fit(store)
    assert not (folder / LOCK).exists()


@pytest.mark.parametrize(
    ("owner", "lives"),
    [
        ({"machine": "elsewhere", "time": time.time() + 3600.0}, True),
        ({"machine": "elsewhere", "time": time.time() - 3600.0}, False),
        ({"process": 2**22 + 1, "born": "1", "time": time.time() + 3600.0}, False),
        ({"born": "1", "time": time.time() + 3600.0}, False),
        ({"born": run_lock._born(os.getpid()), "time": time.time() - 3600.0}, True),
    ],
)
def test_a_lock_counts_while_its_owner_lives(owner, lives, store, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    here = {"run": "other", "host": "h", "machine": run_lock._machine(), "process": os.getpid(), "born": None}
    (folder / LOCK).write_text(json.dumps(here | owner))
    model = mixture(checkpoint=folder, max_iter=1, tol=1e6)
    if lives:
        with pytest.raises(CheckpointInUseError, match="on h, last heartbeat"):
            model.fit(store)
        assert json.loads((folder / LOCK).read_text())["run"] == "other"
    else:
        model.fit(store)
        assert not (folder / LOCK).exists()


def test_a_process_that_has_ended_and_is_not_waited_for_is_dead():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        until = time.monotonic() + 30.0
        while run_lock._born(process.pid) is not None:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("content", ['{"packages": []}', "[]", "text", '{"run": 1, "time": "noon"}'])
def test_a_file_that_is_no_lock_is_left_alone(content, store, tmp_path):
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(CheckpointError, match="no lock of streamgmm"):
        mixture(checkpoint=tmp_path).fit(store)
    assert (tmp_path / LOCK).read_text() == content


def test_a_run_whose_folder_was_taken_over_stops(store, tmp_path):
    folder = tmp_path / "c"

    def take_over(state):
        (folder / LOCK).write_text(json.dumps({"run": "other", "host": "h", "time": 0.0}))

    with pytest.raises(CheckpointInUseError, match="taken over by another run"):
        mixture(checkpoint=folder, callback=take_over).fit(store)
    assert json.loads((folder / LOCK).read_text())["run"] == "other"


def test_signs_of_life(monkeypatch, tmp_path):
    monkeypatch.setattr(run_lock, "SIGN_OF_LIFE", 0.01)
    folder = Folder(str(tmp_path))
    with run_lock.lock_folder(folder):
        first = json.loads(folder.read(LOCK))["time"]
        until = time.monotonic() + 10.0
        while json.loads(folder.read(LOCK))["time"] == first:
            assert time.monotonic() < until
            time.sleep(0.01)


def command(store, folder, output):
    return [
        sys.executable, "-m", "streamgmm.cli.main", "fit", store, "--components", "5", "--checkpoint", str(folder),
        "--output", str(output), "--overwrite", "--quiet", "--memory-limit", "3MB", "--tol", "1e-9",
        "--init-params", "kmeans",
    ]  # fmt: skip


def ended_once_kept(arguments, folder, name, number):
    """Run a command, and send it a signal when a file has appeared; return its exit code and what it said."""
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120.0
        while process.poll() is None and not list(folder.glob(name)):
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        _, said = process.communicate(timeout=60.0)
    return process.returncode, said


def test_killed_and_terminated_processes(store, tmp_path):
    expected = bits(mixture().fit(store), tmp_path)
    folder, output = tmp_path / "c", tmp_path / "m.safetensors"
    code, _ = ended_once_kept(command(store, folder, output), folder, "start-*", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (folder / LOCK).exists()
    code, said = ended_once_kept(command(store, folder, output), folder, "pass-000000-*", signal.SIGTERM)
    if code != 0:  # it may have ended before the signal came
        assert code == 143
        assert f"--resume auto goes on from {folder}" in said
    assert not (folder / LOCK).exists()
    subprocess.run(command(store, folder, output), check=True)
    assert bits(written(output), tmp_path) == expected


@pytest.mark.slow
def test_killed_at_ten_random_moments(store, tmp_path):
    expected = bits(mixture().fit(store), tmp_path)
    output = tmp_path / "m.safetensors"
    began = time.monotonic()
    subprocess.run(command(store, tmp_path / "whole", output), check=True)
    whole = time.monotonic() - began
    rng = np.random.default_rng(0)
    for number, moment in enumerate(rng.uniform(0.2, 1.0, 10) * whole):
        folder = tmp_path / f"c{number}"
        output.unlink(missing_ok=True)
        with subprocess.Popen(command(store, folder, output)) as process:
            time.sleep(moment)
            process.kill()
        subprocess.run(command(store, folder, output), check=True)
        assert bits(written(output), tmp_path) == expected


def test_a_folder_inside_the_store_is_refused(store):
    """The store would change with every reading."""
    with pytest.raises(CheckpointError, match="lies inside"):
        mixture(checkpoint=f"{store}/checkpoint").fit(store)
    assert not os.path.exists(f"{store}/checkpoint")


def test_parts_of_a_store_that_changed_are_not_kept(store, tmp_path, monkeypatch):
    """They would be taken for those of the store as it was, once it is as it was again."""
    chunk = f"{store}/c/9/0"
    whole, times = Path(chunk).read_bytes(), os.stat(chunk)
    expected = bits(mixture().fit(store), tmp_path)
    monkeypatch.setattr(part_buffer, "PART_SECONDS", 0.0)
    reads = Reads(monkeypatch)

    def change(_state):
        shutil.copy(f"{store}/c/8/0", chunk)

    with pytest.raises(DataChangedError):
        mixture(checkpoint=tmp_path / "c", callback=change).fit(store)
    assert reads.n > 4
    assert not list((tmp_path / "c").glob("part-*"))
    Path(chunk).write_bytes(whole)
    os.utime(chunk, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert bits(mixture(checkpoint=tmp_path / "c", resume="must").fit(store), tmp_path) == expected


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_rows_take_the_place_of_a_fit_that_stopped_at_max_iter(store, rng, tmp_path):
    """A nightly job keeps its folder, whatever the night before was stopped by."""
    mixture(checkpoint=tmp_path / "c", max_iter=2).fit(store)
    zarr.create_array(store, data=clusters(rng, n_rows=30_000, n_features=4), chunks=(3000, 4), overwrite=True)
    fresh = bits(mixture(max_iter=3).fit(store), tmp_path)
    assert bits(mixture(checkpoint=tmp_path / "c", max_iter=3).fit(store), tmp_path) == fresh


def test_parts_read_after_a_change_are_not_kept_by_a_process_that_ends(store, tmp_path, monkeypatch):
    """Killed before the fit could find out: what it has kept must be of the store as it was."""
    monkeypatch.setattr(part_buffer, "PART_SECONDS", 0.0)
    reads = Reads(monkeypatch)

    def change(_state):
        shutil.copy(f"{store}/c/8/0", f"{store}/c/9/0")
        reads.last = reads.n + 2

    with pytest.raises(SystemExit):
        mixture(checkpoint=tmp_path / "c", callback=change).fit(store)
    assert not list((tmp_path / "c").glob("part-*"))


def test_the_error_is_the_one_that_ended_the_fit(store, tmp_path, monkeypatch):
    """A store that is out of reach can't be asked for its version either."""

    def out_of_reach(_rows):
        raise OSError("out of reach")

    held = []
    opened = Checkpoint.parts

    def parts(self, parameters):
        found = opened(self, parameters)
        if held:
            monkeypatch.setattr(ZarrRows, "stored_version", out_of_reach)
            found.keep(0, 1.0)
            raise StoppedError
        held.append(self)
        return found

    monkeypatch.setattr(Checkpoint, "parts", parts)
    with pytest.raises(StoppedError):
        mixture(checkpoint=tmp_path / "c").fit(store)


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_checkpoint_of_the_first_format_is_refused_by_name_and_stays(resume, store, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    old = folder / "reading-000002-0123456789abcdef.safetensors"
    old.write_bytes(b"a state")
    with pytest.raises(CheckpointError, match=r"streamgmm 0\.1.*resume='never'"):
        mixture(checkpoint=folder, resume=resume).fit(store)
    assert old.read_bytes() == b"a state"
    mixture(checkpoint=folder, resume="never").fit(store)
    assert not old.exists()
