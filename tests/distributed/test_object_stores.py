"""Rows, checkpoints, models and results in an object store, also on a bad day: the bits are those of local files."""

import itertools
import json
import os
import warnings

import dask
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import zarr

import streamgmm
from streamgmm import GaussianMixture
from streamgmm.exceptions import DataChangedError, OutputExistsError, RowsError
from streamgmm.execution.tasks import tasks_of
from tests.helpers import clusters

pytestmark = [
    pytest.mark.distributed,
    # botocore's and aiohttp's, at the end of a process that has used them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def server():
    from tests.distributed.object_store import Server

    one = Server()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def s3(server, monkeypatch):
    import s3fs

    from tests.distributed.object_store import ACCESS_KEY, SECRET_KEY

    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    server.fault, server.n_faults = lambda method, path: None, 0
    filesystem = s3fs.S3FileSystem()
    if not filesystem.exists("bucket"):
        filesystem.mkdir("bucket")
    yield filesystem
    server.fault = lambda method, path: None
    filesystem.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def x():
    return clusters(np.random.default_rng(4), n_rows=20_000, n_features=4, n_components=3)


def put(x, kind, place):
    """Rows in a store, at the same cut wherever it is."""
    if kind == "zarr":
        zarr.create_array(f"{place}/rows.zarr", data=x, chunks=(1000, 4), overwrite=True)
        return f"{place}/rows.zarr"
    if kind == "npy":
        with fsspec.open(f"{place}/rows.npy", "wb") as file:
            np.save(file, x)
        return f"{place}/rows.npy"
    table = pa.table({f"c{j}": x[:, j] for j in range(x.shape[1])})
    if "://" in str(place):
        filesystem, path = fsspec.core.url_to_fs(f"{place}/rows.parquet")
        pq.write_table(table, path, filesystem=filesystem, row_group_size=1000)
    else:
        pq.write_table(table, f"{place}/rows.parquet", row_group_size=1000)
    return f"{place}/rows.parquet"


def fitted(source, callback=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A .npy file has no pieces of its own: a smaller limit makes as many requests of it.
        limit = "500kB" if str(source).endswith(".npy") else "4MB"
        return GaussianMixture(
            3, random_state=0, max_iter=3, tol=0, init_params="random", memory_limit=limit, callback=callback, **options
        ).fit(source)


def bits(model):
    return [getattr(model, name).tobytes() for name in ("weights_", "means_", "covariances_", "lower_bounds_")]


@pytest.mark.parametrize("kind", ["zarr", "parquet", "npy"])
@pytest.mark.parametrize(
    "fault",
    ["none", "truncated", "hangs up", *(pytest.param(one, marks=pytest.mark.slow) for one in ("unavailable", "slow"))],
)
def test_the_bits_of_local_files_on_any_day(kind, fault, server, x, tmp_path):
    local = bits(fitted(put(x, kind, tmp_path)))
    source = put(x, kind, BUCKET)
    numbers = itertools.count()
    if fault != "none":
        # One of every seven answers to requests for data.
        server.fault = lambda method, path: fault if method == "GET" and next(numbers) % 7 == 3 else None
    with dask.config.set(scheduler="threads", **{"streamgmm.first-wait": "0.05s"}):
        assert bits(fitted(source)) == local
    assert fault == "none" or server.n_faults > 3


@pytest.mark.parametrize("kind", ["zarr", "parquet", "npy"])
def test_a_store_that_stays_away_is_a_clear_error(kind, server, x, monkeypatch):
    import s3fs

    # The client's own retries, with their waits, come on top of ours.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    source = put(x, kind, BUCKET)

    def go_away(_state):
        server.fault = lambda method, path: "hangs up"

    with (
        dask.config.set({"streamgmm.first-wait": "0.01s", "streamgmm.read-attempts": 2}),
        pytest.raises(RowsError, match=r"can't be read.*2 attempts"),
    ):
        fitted(source, go_away)


def test_a_stored_object_that_is_cut_short_is_named(s3, x):
    source = put(x, "zarr", BUCKET)
    chunk = "bucket/rows.zarr/c/7/0"
    s3.pipe_file(chunk, s3.cat_file(chunk)[:50])
    with (
        dask.config.set({"streamgmm.first-wait": "0.01s"}),
        pytest.raises(RowsError, match=r"rows 7000 to 7999 can't be read, chunk 7 is damaged"),
    ):
        fitted(source)


def test_a_store_that_changes_is_found_out(s3, x):
    source = put(x, "zarr", BUCKET)

    def change(_state):
        s3.pipe_file("bucket/rows.zarr/c/7/0", s3.cat_file("bucket/rows.zarr/c/6/0"))

    with pytest.raises(DataChangedError, match="has changed"):
        fitted(source, change)


@pytest.mark.parametrize("fault", ["none", pytest.param("unavailable", marks=pytest.mark.slow), "hangs up"])
def test_checkpoint_model_and_results_there(fault, server, s3, x, tmp_path):
    from tests.distributed.object_store import SECRET_KEY

    source, folder = put(x, "zarr", BUCKET), f"{BUCKET}/nightly"
    whole = fitted(source)

    class StopError(Exception):
        pass

    def stop(state):
        if state.n_iter == 2:
            raise StopError

    numbers = itertools.count()
    if fault != "none":
        server.fault = lambda method, path: fault if next(numbers) % 9 == 4 else None
    with dask.config.set({"streamgmm.first-wait": "0.05s"}):
        with pytest.raises(StopError):
            fitted(source, stop, checkpoint=folder)
        model = fitted(source, checkpoint=folder, resume="must")
        assert bits(model) == bits(whole)
        streamgmm.save(model, f"{BUCKET}/model.safetensors")
        loaded = streamgmm.load(f"{BUCKET}/model.safetensors")
        assert bits(loaded) == bits(whole)
        for score, suffix in itertools.product(("label", "responsibilities"), (".zarr", ".parquet")):
            output = f"{BUCKET}/{score}{suffix}"
            streamgmm.write_predictions(loaded, source, output, write=score)
            with pytest.raises(OutputExistsError, match="exists"):
                streamgmm.write_predictions(loaded, source, output, write="log_density")
            assert streamgmm.write_predictions(loaded, source, output, write=score).skipped
            streamgmm.write_predictions(loaded, source, output, write=score, overwrite=True)
    server.fault = lambda method, path: None
    expected = whole.predict(x)
    np.testing.assert_array_equal(zarr.open_group(f"{BUCKET}/label.zarr", mode="r")["label"][:], expected)
    s3.invalidate_cache()
    table = pads.dataset("bucket/label.parquet", filesystem=s3, format="parquet").to_table()
    np.testing.assert_array_equal(table["label"].to_numpy(), expected)
    # Nothing is left of what was begun, and no object holds a secret.
    names = s3.find("bucket")
    assert not [name for name in names if ".partial" in name or ".streamgmm" in name]
    assert not [name for name in names if SECRET_KEY.encode() in s3.cat_file(name)]
    header = s3.cat_file(next(name for name in names if "/pass-" in name))
    assert b"streamgmm-checkpoint" in header


def test_no_credentials_in_the_graph(x):
    import pickle

    import cloudpickle

    from streamgmm.sources.open import open_rows
    from tests.distributed.object_store import SECRET_KEY

    for kind in ("zarr", "parquet", "npy"):
        rows = open_rows(put(x, kind, BUCKET))
        graph = [dict(leaf.__dask_graph__()) for leaf in tasks_of(rows).for_parts(print, 1)]
        assert SECRET_KEY.encode() not in cloudpickle.dumps(graph)
        assert SECRET_KEY.encode() not in pickle.dumps(rows)
        assert SECRET_KEY not in json.dumps(rows.fingerprint())
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET_KEY


@pytest.mark.parametrize("suffix", [".parquet", ".zarr"])
def test_scores_that_were_stopped_are_gone_on_with(suffix, s3, x, tmp_path, monkeypatch):
    """Parts that are complete stay there; the objects in the end are those of a run that nothing stopped."""
    from streamgmm.predict.outputs import ScoreOutput
    from streamgmm.predict.parquet_output import ParquetOutput
    from streamgmm.predict.zarr_output import ZarrOutput

    source = put(x, "parquet", BUCKET)
    model = fitted(put(x, "parquet", tmp_path))
    model.memory_limit = "200KB"

    def write(output):
        with dask.config.set(scheduler="synchronous"):
            return streamgmm.write_predictions(model, source, output, write=["label", "log_density"])

    def objects(name):
        s3.invalidate_cache()
        return {one.removeprefix(f"bucket/{name}"): s3.cat_file(one) for one in s3.find(f"bucket/{name}")}

    n_parts = write(f"{BUCKET}/whole{suffix}").n_parts
    assert n_parts > 3
    kind: type[ScoreOutput] = ParquetOutput if suffix == ".parquet" else ZarrOutput
    original, written = kind.write, []

    def stopped(self, part, start, pieces, said):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(start)
        original(self, part, start, pieces, said)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            write(f"{BUCKET}/out{suffix}")
    assert objects(f"out{suffix}") == {}
    assert write(f"{BUCKET}/out{suffix}").n_resumed == 2
    assert objects(f"out{suffix}") == objects(f"whole{suffix}")
    assert write(f"{BUCKET}/out{suffix}").skipped
    assert not [name for name in s3.find("bucket") if ".streamgmm" in name]
