"""On worker processes: a chunk that is not as Dask says, and a store that workers can't see, are one error at once."""

import os
import shutil

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from streamgmm import GaussianMixture
from streamgmm.exceptions import RowsError
from streamgmm.execution import cluster

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

X = np.random.default_rng(0).normal(100.0, 1.0, size=(400, 2))


@pytest.fixture(scope="module")
def client():
    """Of a worker process that was started in another folder."""
    from dask.distributed import Client, LocalCluster

    with (
        dask.config.set({"scheduler": None}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as local,
        Client(local, set_as_default=False) as found,
    ):
        found.run(os.chdir, "/")
        yield found


@pytest.fixture(autouse=True)
def attempts(client, monkeypatch):
    """How often parts of a pass were given to the cluster."""
    made = []
    attempt = cluster._attempt
    monkeypatch.setattr(cluster, "_attempt", lambda *rest: (made.append(1), attempt(*rest))[1])
    with dask.config.set({"scheduler": None}), client.as_current():
        yield made


def wider(block, block_id=None):
    return np.hstack([block, block]) if block_id[0] == 2 else block


def narrower(block, block_id=None):
    return block[:, :1] if block_id[0] == 2 else block


def shorter(block, block_id=None):
    return block[1:] if block_id[0] == 2 else block


@pytest.mark.parametrize("change", [wider, narrower, shorter])
def test_a_wrong_chunk_is_one_error_and_the_cluster_goes_on(change, attempts):
    good = da.from_array(X, chunks=(100, 2))
    wrong = da.map_blocks(change, good, dtype=float, chunks=good.chunks, meta=np.empty((0, 0)))
    model = GaussianMixture(1).fit(X)
    commands = [
        lambda: GaussianMixture(1).fit(wrong),
        lambda: GaussianMixture(1, persist=True).fit(wrong),
        lambda: model.score(wrong),
    ]
    for number, command in enumerate(commands, start=1):
        with pytest.raises(RowsError, match=r"chunk 2 of the Dask array X has .*where Dask says \(100, 2\)"):
            command()
        # Not tried again, as what a cluster's failures stop is.
        assert len(attempts) == number
    for lazy in (model.predict(wrong), model.predict_proba(wrong), model.score_samples(wrong)):
        with pytest.raises(RowsError, match="chunk 2 of the Dask array X"):
            lazy.compute()
    np.testing.assert_allclose(GaussianMixture(1).fit(good).means_, model.means_)
    assert model.score(good) == pytest.approx(model.score(X))


def test_columns_by_name_on_workers(tmp_path):
    import dask.dataframe as dd
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b"])
    frame[:200].to_csv(tmp_path / "0.csv", index=False)
    frame[200:][["b", "a"]].to_csv(tmp_path / "1.csv", index=False)
    read = dd.read_csv(f"{tmp_path}/*.csv")
    np.testing.assert_allclose(GaussianMixture(1).fit(read).means_[0], X.mean(axis=0))
    frame[200:][["b"]].to_csv(tmp_path / "1.csv", index=False)
    with pytest.raises(RowsError, match="partition 1 of the Dask DataFrame X has no column 'a'"):
        GaussianMixture(1).fit(read)


@pytest.mark.parametrize("given", ["path", "array", "group"])
def test_a_relative_store_is_the_same_for_workers_elsewhere(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.open_group("g.zarr", mode="w").create_array("x", data=X, chunks=(100, 2))
    source = {"path": "g.zarr", "array": zarr.open("g.zarr/x", mode="r"), "group": zarr.open("g.zarr", mode="r")}[given]
    np.testing.assert_allclose(GaussianMixture(1).fit(source).means_[0], X.mean(axis=0))


def test_a_store_that_only_this_process_has_is_an_error(attempts):
    """In memory, by a URL: workers have such a store too, and it is empty."""
    url = "memory://only_this_process_has.zarr"
    array = zarr.create_array(url, shape=X.shape, dtype=X.dtype, chunks=(100, 2))
    array[:] = X
    with dask.config.set(scheduler="synchronous"):
        model = GaussianMixture(1).fit(url)
    np.testing.assert_allclose(model.means_[0], X.mean(axis=0))
    for source in (url, array):
        for command in (GaussianMixture(1).fit, model.score, lambda rows: model.score_samples(rows).compute()):
            with pytest.raises(RowsError, match="is not there for the process that came to read it"):
                command(source)
    assert len(attempts) == 4


@pytest.mark.parametrize("read_before", [False, True])
def test_a_store_that_has_gone_when_a_worker_comes_to_read(read_before, tmp_path):
    path = str(tmp_path / "x.zarr")
    zarr.create_array(path, data=X, chunks=(100, 2))
    model = GaussianMixture(1).fit(path if read_before else X)
    # Seen by a link when it is opened, and not when it is read.
    os.rename(path, tmp_path / "y.zarr")
    os.symlink(tmp_path / "y.zarr", path)
    lazy = model.score_samples(path)
    os.remove(path)
    with pytest.raises(RowsError, match=r"x\.zarr is not there for the process.*same name"):
        lazy.compute()
    shutil.move(tmp_path / "y.zarr", path)
    np.testing.assert_allclose(lazy.compute(), model.score_samples(X), rtol=1e-9)


def by_dask(path, way):
    """The rows of a store as a Dask collection that reads them itself."""
    if way == "from_zarr":
        return da.from_zarr(path)
    if way == "from_array":
        # Zeros would not be zeros any more.
        return da.from_array(zarr.open(path, mode="r"))[:, ::-1] + da.arange(len(X), chunks=100)[:, np.newaxis]
    import xarray

    return xarray.open_zarr(os.path.dirname(path), consolidated=False)["x"]


def test_a_store_that_dask_reads_and_that_is_another_one_by_now(tmp_path):
    """Where it is read by this process for the first time."""
    zarr.create_array(f"{tmp_path}/x.zarr", data=X, chunks=(100, 2), fill_value=1.0)
    source = da.from_zarr(f"{tmp_path}/x.zarr")
    shutil.rmtree(tmp_path / "x.zarr")
    zarr.create_array(f"{tmp_path}/x.zarr", data=X, chunks=(100, 2), fill_value=2.0)
    with pytest.raises(RowsError, match="from which Dask reads, is not the array that was opened"):
        GaussianMixture(1).fit(source)


@pytest.mark.parametrize("way", ["from_zarr", "from_array", "xarray"])
def test_a_store_that_dask_reads_and_workers_cannot_see(way, tmp_path):
    """To Zarr it would be full of zeros."""
    group = zarr.open_group(tmp_path / "g.zarr", mode="w")
    group.create_array("x", data=X, chunks=(100, 2), dimension_names=("row", "feature"))
    model = GaussianMixture(1).fit(X)
    # Seen by a link when it is opened, and not when it is read.
    os.rename(tmp_path / "g.zarr", tmp_path / "h.zarr")
    os.symlink(tmp_path / "h.zarr", tmp_path / "g.zarr")
    source = by_dask(f"{tmp_path}/g.zarr/x", way)
    expected = GaussianMixture(1).fit(source)
    np.testing.assert_allclose(expected.means_[0], np.asarray(source).mean(axis=0))
    lazy = model.score_samples(source)
    os.remove(tmp_path / "g.zarr")
    with pytest.raises(RowsError, match="from which Dask reads, is not there for the process"):
        lazy.compute()
    with pytest.raises(RowsError, match="from which Dask reads, is not there for the process"):
        GaussianMixture(1).fit(source)
    shutil.move(tmp_path / "h.zarr", tmp_path / "g.zarr")
    np.testing.assert_array_equal(GaussianMixture(1).fit(source).means_, expected.means_)


def test_a_relative_store_that_dask_reads_on_workers_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zarr.create_array("x.zarr", data=X, chunks=(100, 2))
    with pytest.raises(RowsError, match="from which Dask reads, is not there for the process"):
        GaussianMixture(1).fit(da.from_array(zarr.open("x.zarr", mode="r")))
