"""Nothing is written over what is in use, by whatever name; what lies beside it is free."""

import os
import uuid

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from streamgmm import GaussianMixture, load, save, write_predictions
from streamgmm.cli.main import main
from streamgmm.exceptions import CheckpointError, InputError
from streamgmm.storage.places import InUse, check_apart, find_place, find_places


@pytest.fixture
def rows(rng):
    return rng.normal(size=(60, 2))


@pytest.fixture
def model(rows):
    return GaussianMixture(1, random_state=0).fit(rows)


@pytest.fixture
def group(rows, tmp_path):
    """A Zarr group with the rows in it, and something else."""
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=rows)
    group.create_array("other", data=np.arange(9))
    return tmp_path / "g.zarr"


def content(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(output, source, relation, **keywords):
    with pytest.raises(InputError) as caught:
        check_apart(output, InUse("the rows", find_places(source, **keywords)))
    message = str(caught.value)
    assert f" {relation} " in message
    assert str(output) in message
    assert "the rows" in message


def allowed(output, source):
    check_apart(output, InUse("the rows", find_places(source)))


@pytest.mark.parametrize("overwrite", [False, True])
def test_rows_are_not_written_over(overwrite, model, group, tmp_path):
    before = content(tmp_path)
    for source, output, relation in (
        (f"{group}/x", f"{group}/x", "is"),
        (f"{group}/x", str(group), "contains"),
        (f"{group}/x", f"{group}/x/labels.zarr", "lies inside"),
        (group / "x", group, "contains"),
        (zarr.open_array(f"{group}/x"), group, "contains"),
    ):
        # Whatever has a suffix of its own can be asked for; places without one are refused as places, too.
        refused(output, source, relation)
        with pytest.raises(InputError):
            write_predictions(model, source, output, overwrite=overwrite)
        assert content(tmp_path) == before
    # Beside the array, inside of its group, is a place as good as any.
    assert write_predictions(model, f"{group}/x", f"{group}/labels.zarr", overwrite=overwrite).n_rows == 60
    np.testing.assert_array_equal(zarr.open_group(group)["labels.zarr/label"][:], model.predict(f"{group}/x").compute())


def test_a_store_under_other_names(model, group, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "rows.zarr").symlink_to(group)
    for name in (
        "g.zarr",
        "./g.zarr/",
        "g.zarr//",
        "../" + tmp_path.name + "/g.zarr",
        f"file://{group}",
        f"local://{group}",
        tmp_path / "link" / "link" / "g.zarr",
        "rows.zarr",
        f"simplecache::file://{group}",
    ):
        refused(name, str(group), "is")
        refused(group, name, "is")
        refused(f"{os.fspath(name).rstrip('/')}/new.zarr", str(group), "lies inside")
        refused(name, f"{group}/x", "contains")
    allowed("h.zarr", str(group))
    allowed("g.zarrs", str(group))
    allowed(tmp_path / "link" / "h.zarr", str(group))
    # A link that lies inside is inside, wherever it leads.
    (group / "away.zarr").symlink_to(tmp_path / "elsewhere.zarr")
    refused(group / "away.zarr", str(group), "lies inside")


def test_the_home_is_a_place_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    refused("~/x.npy", tmp_path / "x.npy", "is")


def test_a_file_of_another_name_that_is_the_same(tmp_path):
    """As where a file system knows no case, or is mounted twice."""
    np.save(tmp_path / "x.npy", np.zeros((2, 2)))
    os.link(tmp_path / "x.npy", tmp_path / "X.npy")
    refused(tmp_path / "X.npy", tmp_path / "x.npy", "is")


def test_arrays_that_are_mapped_or_stored(rows, group, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for source in (
        mapped,
        mapped[10:],
        np.asarray(mapped),
        mapped[:, ::-1].T.T,
        np.ma.masked_invalid(mapped, copy=False),
    ):
        refused(tmp_path / "x.npy", source, "is")
        refused(tmp_path, source, "contains")
    with zarr.storage.ZipStore(tmp_path / "x.zip", mode="w") as store:
        zarr.create_array(store, data=rows)
        refused(tmp_path / "x.zip", zarr.open_array(store), "is")
    for source in (zarr.open_group(group), zarr.open_array(group / "x"), zarr.storage.LocalStore(group)):
        refused(group, source, "contains" if isinstance(source, zarr.Array) else "is")
    wrapped = zarr.open_array(zarr.storage.LoggingStore(zarr.storage.LocalStore(group)), path="x", mode="r")
    refused(group / "x", wrapped, "is")
    allowed(group / "other", zarr.open_array(group / "x"))
    for source in (rows, rows.copy(), None, [[1.0, 2.0]], zarr.create_array({}, data=rows)):
        assert find_places(source) == ()
    # Weights are read as well; the name of their column is no place.
    refused(tmp_path / "x.npy", rows, "is", sample_weight=mapped[:, 0])
    assert find_places(rows, "x.npy") == ()


def test_files_by_lists_patterns_and_data_sets(rows, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [folder / f"{number}.parquet" for number in range(3)]
    for name in names:
        pq.write_table(pa.table({"a": rows[:, 0]}), name)
    for source in (
        names,
        tuple(map(str, names)),
        f"{folder}/*.parquet",
        pads.dataset(folder),
        f"{folder}/[0-9].parquet",
    ):
        refused(names[1], source, "is")
        refused(tmp_path, source, "contains")
        refused(names[2] / "x.parquet", source, "lies inside")
        allowed(tmp_path / "out.parquet", source)
    # What a pattern would match when it is written.
    refused(folder / "labels.parquet", f"{folder}/*.parquet", "would be one of")
    (tmp_path / "link").symlink_to(folder)
    refused(tmp_path / "link" / "labels.parquet", f"{folder}/*.parquet", "would be one of")
    refused(folder / "a" / "labels.parquet", f"{folder}/**/*.parquet", "would be one of")
    allowed(folder / "a" / "labels.parquet", f"{folder}/*.parquet")
    allowed(folder / "labels.zarr", f"{folder}/*.parquet")
    # A literal name with a bracket in it is that name.
    (tmp_path / "a[1].npy").touch()
    refused(tmp_path / "a[1].npy", tmp_path / "a[1].npy", "is")
    allowed(tmp_path / "a1.npy", tmp_path / "a[1].npy")


def test_places_in_object_stores(rows):
    root = f"memory://{uuid.uuid4().hex}"
    array = zarr.create_array(f"{root}/x.zarr", data=rows)
    for source in (f"{root}/x.zarr", f"{root}//x.zarr/", array, zarr.open_group(f"{root}", mode="a")["x.zarr"]):
        refused(f"{root}/x.zarr", source, "is")
        refused(f"{root}/x.zarr/", source, "is")
        refused(f"{root}//x.zarr", source, "is")
        refused(root, source, "contains")
        refused(f"{root}/x.zarr/y.zarr", source, "lies inside")
        refused(f"simplecache::{root}/x.zarr", source, "is")
        allowed(f"{root}/y.zarr", source)
        allowed("/x.zarr", source)
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file(f"{root}/p/0.parquet", b"")
    refused(f"{root}/p/0.parquet", f"{root}/p/*.parquet", "is")
    refused(f"{root}/p/1.parquet", f"{root}/p/*.parquet", "would be one of")
    allowed(f"{root}/q/1.parquet", f"{root}/p/*.parquet")


def test_the_same_path_on_other_hosts_is_another_place():
    pytest.importorskip("s3fs")
    assert find_place("s3://bucket/a").relation(find_place("s3a://bucket/a")) == "is"
    assert find_place("s3://bucket/a").relation(find_place("memory://bucket/a")) is None
    assert find_place("s3://bucket/a").relation(find_place("/bucket/a")) is None


def test_a_model_is_not_saved_over_its_rows(rows, group, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    before = content(tmp_path)
    for source, output in (
        (tmp_path / "x.npy", tmp_path / "x.npy"),
        (np.load(tmp_path / "x.npy", mmap_mode="r"), tmp_path / "x.npy"),
        (f"{group}/x", f"{group}/x/model.safetensors"),
        (zarr.open_array(group / "x"), group / "x" / "zarr.json"),
    ):
        fitted = GaussianMixture(1, random_state=0).fit(source)
        with pytest.raises(InputError, match="the rows of the fit"):
            save(fitted, output)
        assert content(tmp_path) == before
    save(fitted, tmp_path / "m")
    save(load(tmp_path / "m"), tmp_path / "m")  # in its own place


def test_a_model_that_is_in_use_is_not_written_over(model, rows, tmp_path):
    (tmp_path / "run.zarr").mkdir()
    save(model, tmp_path / "run.zarr" / "m")
    fitted = load(tmp_path / "run.zarr" / "m")
    with pytest.raises(InputError, match=r"contains .*the file of the model"):
        write_predictions(fitted, rows, tmp_path / "run.zarr", overwrite=True)
    assert (tmp_path / "run.zarr" / "m").is_file()
    fitted.checkpoint = tmp_path / "c.zarr"
    with pytest.raises(InputError, match="the checkpoint"):
        write_predictions(fitted, rows, tmp_path / "c.zarr", overwrite=True)


def test_a_checkpoint_is_kept_out_of_the_rows(rows, group, tmp_path):
    before = content(tmp_path)
    (tmp_path / "link").symlink_to(group)
    for source, folder in (
        (f"{group}/x", group / "x"),
        (f"{group}/x", tmp_path / "link" / "x" / "c"),
        (zarr.open_array(group / "x"), f"file://{group}/x/c"),
    ):
        with pytest.raises(CheckpointError, match="the rows: give a folder beside it"):
            GaussianMixture(1, checkpoint=folder).fit(source)
        (tmp_path / "link").unlink()
        assert content(tmp_path) == before
        (tmp_path / "link").symlink_to(group)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_on_the_command_line(overwrite, model, rows, tmp_path):
    source, output, trained = tmp_path / "x.zarr", tmp_path / "m.zarr", tmp_path / "t.zarr" / "m"
    zarr.create_array(str(source), data=rows)
    trained.parent.mkdir()
    save(model, trained)
    before = content(tmp_path)
    for arguments in (
        ["fit", source, "--components", 1, "--output", source],
        ["fit", source, "--components", 1, "--output", source / "m"],
        ["fit", source, "--components", 1, "--output", tmp_path / "c" / "m", "--checkpoint", tmp_path / "c"],
        ["fit", source, "--components", 1, "--output", tmp_path / "c", "--checkpoint", tmp_path / "c"],
        ["fit", source, "--components", 1, "--output", output, "--checkpoint", source / "c", "--quiet"],
        ["select", source, "--components", 1, "--output", source / "zarr.json"],
        ["predict", trained, source, "--output", source],
        ["predict", trained, source, "--output", f"file://{source}/labels.zarr"],
        ["predict", trained, source, "--output", trained.parent],
    ):
        done = CliRunner().invoke(main, [*map(str, arguments), *overwrite])
        assert done.exit_code == 2, arguments
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("streamgmm: ")
        assert ("refused with or without overwrite" in done.stderr) or ("give a folder beside" in done.stderr)
        assert content(tmp_path) == before
