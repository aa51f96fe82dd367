"""What befalls a cluster changes nothing in the model: the bytes of an undisturbed fit, or a clear error in time."""

import os
import signal
import threading
import time
import warnings
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

from streamgmm import GaussianMixture, save
from streamgmm.exceptions import ClusterError, DataChangedError, RowsError
from tests.distributed.processes import Cluster, Wire, kill_tree, processes_of, wait_until, worker_of
from tests.helpers import clusters

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

N_TASKS = 60


@pytest.fixture(scope="module")
def x():
    return clusters(np.random.default_rng(4), n_rows=N_TASKS * 500, n_features=4, n_components=3)


@pytest.fixture(scope="module")
def store(x, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("faults") / "rows.zarr")
    zarr.create_array(path, data=x, chunks=(500, 4))
    return path


@pytest.fixture
def cluster(tmp_path):
    one = Cluster(tmp_path)
    one.start_scheduler()
    yield one
    one.close()


@contextmanager
def connected(cluster, n_workers=2, **settings):
    """A client of a cluster with its workers there; its time-outs and ours are short."""
    from dask.distributed import Client

    configuration = {
        "scheduler": None,
        "distributed.comm.timeouts.connect": "20s",
        "distributed.comm.timeouts.tcp": "12s",
        **{f"streamgmm.{name.replace('_', '-')}": value for name, value in settings.items()},
    }
    with dask.config.set(configuration):
        client = Client(cluster.address, timeout="20s", set_as_default=True)
        try:
            client.wait_for_workers(n_workers, timeout=60)
            yield client
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client.close(timeout=2)


def slow(x):
    """Rows that take their time: some parts of a pass are done, others not, whenever something happens."""
    time.sleep(0.05)
    return x


def rows_of(store):
    return da.from_zarr(store).map_blocks(slow, meta=np.empty((0, 0)))


def fitted(rows, callback=None, **options):
    """A fit of some readings that takes about N_TASKS times 0.05 s for each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return GaussianMixture(
            3, random_state=0, max_iter=2, tol=0, init_params="random", memory_limit=500 * 4 * 8 * 16,
            callback=callback, **{"persist": False} | options,
        ).fit(rows)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "model.safetensors"
    with dask.config.set(scheduler="synchronous"):
        save(fitted(da.from_zarr(store)), path)
    return path.read_bytes()


def same_bytes(model, undisturbed, folder):
    save(model, folder / "model.safetensors")
    return (folder / "model.safetensors").read_bytes() == undisturbed


class After:
    """Does something in a thread some seconds after the survey began; joined at the end, its error is the test's."""

    def __init__(self, seconds, action):
        self.error = None

        def run():
            time.sleep(seconds)
            try:
                action()
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(timeout=120)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("persist", [False, True])
def test_a_worker_that_is_killed(cluster, store, undisturbed, persist, tmp_path):
    nannies = [cluster.start_worker() for _ in range(2)]
    with connected(cluster):

        def kill():
            for nanny in nannies:
                worker_of(nanny).kill()
                time.sleep(1.0)

        with After(0.7, kill):
            assert same_bytes(fitted(rows_of(store), persist=persist), undisturbed, tmp_path)


@pytest.mark.slow
def test_a_worker_that_goes_for_good(cluster, store, undisturbed, tmp_path):
    nannies = [cluster.start_worker() for _ in range(2)]
    with connected(cluster), After(0.7, lambda: kill_tree(nannies[0])):
        assert same_bytes(fitted(rows_of(store)), undisturbed, tmp_path)


def test_a_worker_that_freezes(cluster, store, undisturbed, tmp_path):
    nannies = [cluster.start_worker() for _ in range(2)]
    with connected(cluster), After(0.7, lambda: worker_of(nannies[0]).send_signal(signal.SIGSTOP)):
        assert same_bytes(fitted(rows_of(store)), undisturbed, tmp_path)


@pytest.mark.slow
def test_a_worker_that_is_cut_off(cluster, store, undisturbed, tmp_path):
    wire = Wire(cluster.port)
    cluster.start_worker()
    cluster.start_worker("--no-nanny", address=f"tcp://127.0.0.1:{wire.port}")
    with connected(cluster), After(0.7, wire.cut.set):
        assert same_bytes(fitted(rows_of(store)), undisturbed, tmp_path)
    wire.close()


@pytest.mark.slow
def test_all_workers_gone_and_others_come(cluster, store, undisturbed, tmp_path):
    for _ in range(2):
        cluster.start_worker()

    def change():
        cluster.kill_all_workers()
        time.sleep(2.0)
        cluster.start_worker()

    with connected(cluster), After(0.7, change):
        assert same_bytes(fitted(rows_of(store)), undisturbed, tmp_path)


@pytest.mark.parametrize("persist", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_scheduler_that_is_started_again(cluster, store, undisturbed, persist, tmp_path):
    cluster.start_worker()

    def restart():
        kill_tree(cluster.scheduler)
        cluster.kill_all_workers()
        cluster.start_scheduler()
        cluster.start_worker()

    with connected(cluster, 1), After(0.7, restart):
        assert same_bytes(fitted(rows_of(store), persist=persist), undisturbed, tmp_path)


@pytest.mark.slow
def test_a_scheduler_that_is_gone_leaves_a_checkpoint(cluster, store, undisturbed, tmp_path):
    cluster.start_worker()
    checkpoint = tmp_path / "checkpoint"

    def kill_after_a_reading(state):
        if state.n_iter == 1:
            kill_tree(cluster.scheduler)

    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}):
        client = connected_for(cluster, "3s")
        began = time.monotonic()
        with client, pytest.raises(ClusterError, match=r"scheduler is gone.*goes on from the checkpoint"):
            fitted(rows_of(store), kill_after_a_reading, checkpoint=checkpoint)
        assert time.monotonic() - began < 60
    with dask.config.set(scheduler="synchronous"):
        again = fitted(rows_of(store), checkpoint=checkpoint, resume="must")
    assert same_bytes(again, undisturbed, tmp_path)


@contextmanager
def connected_for(cluster, timeout):
    from dask.distributed import Client

    with dask.config.set(scheduler=None):
        client = Client(cluster.address, timeout=timeout)
        try:
            client.wait_for_workers(1, timeout=60)
            yield client
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client.close(timeout=2)


@pytest.mark.slow
def test_a_cluster_that_does_nothing(cluster, store):
    nanny = cluster.start_worker("--no-nanny")
    with connected(cluster, 1, stall_timeout="6s", pass_attempts=1):
        for process in processes_of(nanny):
            process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(ClusterError, match=r"done nothing for 6 s\b.*(no workers|1 workers)"):
            fitted(rows_of(store))
        assert time.monotonic() - began < 60


def dies_until(marker, n_times):
    """A chunk's function that ends its worker the first times, as the system does when memory is short."""

    def function(x):
        with open(marker, "ab") as file:
            file.write(b".")
            n = file.tell()
        if n <= n_times:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    return function


def one_deadly_chunk(store, marker, n_times):
    x = da.from_zarr(store)
    deadly = x[:500].map_blocks(dies_until(str(marker), n_times), meta=x._meta)
    return da.concatenate([deadly, x[500:]])


def test_a_task_that_runs_out_of_memory_now_and_then(cluster, store, undisturbed, tmp_path):
    """Five deaths of one task: more than Dask allows, fewer than we do."""
    for _ in range(2):
        cluster.start_worker()
    with connected(cluster):
        model = fitted(one_deadly_chunk(store, tmp_path / "deaths", 5))
    assert same_bytes(model, undisturbed, tmp_path)
    assert len((tmp_path / "deaths").read_bytes()) > 5


@pytest.mark.slow
def test_a_task_that_always_runs_out_of_memory(cluster, store, tmp_path):
    for _ in range(2):
        cluster.start_worker()
    with connected(cluster, pass_attempts=2), pytest.raises(ClusterError, match="ran out of memory: give memory_limit"):
        fitted(one_deadly_chunk(store, tmp_path / "deaths", 10**6))


def test_a_chunk_that_does_not_decode(cluster, x, tmp_path):
    path = str(tmp_path / "rows.zarr")
    zarr.create_array(path, data=x, chunks=(500, 4))
    (tmp_path / "rows.zarr" / "c" / "7" / "0").write_bytes(b"no chunk")
    cluster.start_worker()
    with connected(cluster, 1), pytest.raises(RowsError, match=r"rows 3500 to 3999 can't be read, chunk 7 is damaged"):
        fitted(path)


def test_a_store_that_changes_between_readings(cluster, x, tmp_path):
    path = str(tmp_path / "rows.zarr")
    array = zarr.create_array(path, data=x, chunks=(500, 4))

    def change(_state):
        array[:1] = 0.0

    cluster.start_worker()
    with connected(cluster, 1), pytest.raises(DataChangedError, match="has changed since the fit began"):
        fitted(path, change)


def test_rows_that_the_tasks_read_from_files(cluster, store, tmp_path):
    """Rows that tasks read from the store themselves, with workers killed at any time."""
    nannies = [cluster.start_worker() for _ in range(2)]
    with dask.config.set(scheduler="synchronous"):
        expected = fitted(store)
    save(expected, tmp_path / "expected.safetensors")
    with connected(cluster):
        for nanny in nannies:
            with After(0.1, lambda nanny=nanny: worker_of(nanny).kill()):
                assert same_bytes(fitted(store), (tmp_path / "expected.safetensors").read_bytes(), tmp_path)
            wait_until(lambda nanny=nanny: worker_of(nanny).is_running(), "the worker is back")
