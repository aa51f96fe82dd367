"""A pass is one compute of one graph: a fixed tree, the same bits on every scheduler, one BLAS thread."""

import threading
import time
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info

from streamgmm import GaussianMixture
from streamgmm.exceptions import ClusterError
from streamgmm.execution.blas import one_blas_thread
from streamgmm.execution.broadcast import broadcast_task
from streamgmm.execution.cluster import get_workers
from streamgmm.execution.graph import build_parts, count_parts, guided_groups
from streamgmm.execution.passes import Parts, run_here, run_pass
from streamgmm.execution.threads import run_at_once
from streamgmm.execution.tree_reduce import GROUP
from streamgmm.sources.base import RowRange
from streamgmm.sources.numpy_arrays import ArrayRows
from streamgmm.sources.open import open_rows
from tests.helpers import clusters


class Trace(str):
    """A value whose sum shows how it was formed."""

    def __add__(self, other):
        return Trace(f"({self}+{other})")


def trace_leaf(blocks, parameters):
    (block,) = blocks
    return Trace(block.start // parameters)


def expected_tree(n):
    values = [Trace(i) for i in range(n)]
    while len(values) > 1:
        groups = [values[i : i + GROUP] for i in range(0, len(values), GROUP)]
        values = []
        for group in groups:
            total = group[0]
            for value in group[1:]:
                total = total + value
            values.append(total)
    return values[0]


@settings(max_examples=15, deadline=None)
@given(n_tasks=st.integers(1, 80))
def test_the_tree_is_groups_of_eight_by_index(n_tasks):
    assert run_pass(open_rows(da.zeros((n_tasks * 2, 1), chunks=(2, 1))), trace_leaf, 2) == expected_tree(n_tasks)
    array_rows = open_rows(np.zeros((n_tasks * 256, 1)), memory_limit=8 * 256 * 8)
    with dask.config.set(scheduler="threads"):
        assert run_pass(array_rows, trace_leaf, 256) == expected_tree(n_tasks)


def bits(model):
    return [getattr(model, f"{name}_").tobytes() for name in ("weights", "means", "covariances", "lower_bounds")]


@pytest.fixture
def store(rng, tmp_path):
    x = clusters(rng, n_rows=30_000, n_features=4)
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(1000, 4))
    return str(tmp_path / "x.zarr")


def small_fit(source, covariance_type="full", tol=0.0, **options):
    # The limit makes many tasks of few rows, and a sample of some of them; tol=0 is plain EM.
    model = GaussianMixture(
        3,
        covariance_type=covariance_type,
        random_state=0,
        max_iter=4,
        tol=tol,
        memory_limit=8 * 1000 * 4 * 8,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(source)


def test_without_a_graph_the_same_bits(rng):
    """On one thread and on two, of 70 tasks: more than two levels of the tree."""
    x = rng.normal(size=(70 * 256, 3)) * 10.0 ** rng.integers(-8, 8, (70 * 256, 1))
    rows = ArrayRows(x, target_bytes=256 * 3 * 8)
    assert rows.n_tasks == 70

    def total(blocks, _):
        return sum(block.x.sum() for block in blocks)

    def places(blocks, _):
        return [block.start for block in blocks]

    whole = run_pass(rows, total, None)
    for config in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 2}, {}):
        with dask.config.set(**config):
            assert run_here(rows, total, None) == whole
            assert run_here(rows, places, None) == [part.start for part in rows.ranges]


@pytest.mark.parametrize("tol", [0.0, 1e-12])
def test_same_bits_on_every_local_scheduler(store, covariance_type, tol):
    fits = []
    for config in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 1}, {"scheduler": "threads"}):
        with dask.config.set(**config):
            fits.append(bits(small_fit(store, covariance_type, tol)))
    assert fits[0] == fits[1] == fits[2]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_same_bits_on_a_cluster_of_any_size(store):
    from dask.distributed import Client, LocalCluster

    serial, accelerated = bits(small_fit(store)), bits(small_fit(store, tol=1e-12))
    lazy = da.from_zarr(store)
    serial_lazy = bits(small_fit(lazy))
    for n_workers in (1, 2):
        with (
            dask.config.set(scheduler=None),
            # With dashboard_address=None the scheduler asks for port 8787, which another cluster may have.
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", processes=True
            ) as cluster,
            Client(cluster),
        ):
            for persist in (True, False, "auto"):
                assert bits(small_fit(store, persist=persist)) == serial
            assert bits(small_fit(store, tol=1e-12)) == accelerated
            assert bits(small_fit(lazy)) == serial_lazy
            # Rows of this process's memory are computed here, and are never sent.
            assert small_fit(np.asarray(lazy)).converged_ is False


@pytest.fixture
def one_thread():
    """A cluster in this process that runs one task at a time."""
    from dask.distributed import Client, LocalCluster

    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with dask.config.set(scheduler=None), LocalCluster(n_workers=1, **options) as cluster, Client(cluster):
        yield


def test_a_cluster_begins_with_the_large_bundles(one_thread):
    """What is left at the end is shared in small portions, so that workers end at about the same time."""
    assert run_pass(rows_of_one(40), _count_rows, None, small=True) == 40
    ORDER.clear()
    run_pass(rows_of_one(40), _note_order, None, small=True)
    # Dask may take neighbours in any order.
    assert np.abs(np.array(ORDER) - np.arange(40)).max() <= 8


def test_workers_are_counted_while_the_client_refreshes_what_it_knows():
    """What the client keeps has no workers in it, and may come between question and answer."""
    from dask.distributed import Client, LocalCluster

    options = {"processes": False, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    every = {"distributed.client.scheduler-info-interval": "1ms"}
    with dask.config.set(every), LocalCluster(n_workers=1, **options) as cluster, Client(cluster) as client:
        assert {get_workers(client).n_threads for _ in range(500)} == {1}
    with pytest.raises(OSError, match="closed"):
        get_workers(client)


def test_what_has_come_is_kept_when_another_part_fails(one_thread):
    kept = {}
    with pytest.raises(ZeroDivisionError):
        run_pass(rows_of_one(40), _divide, None, Parts(keep=kept.__setitem__), small=True)
    # Each of the bundles before the last one, which fails.
    assert set(kept) >= set(range(30))


def test_who_takes_the_parts_may_fail_too(one_thread):
    """That is no fault of the cluster, which would be given the parts again."""
    calls = []

    def keep(number, value):
        calls.append(number)
        raise PermissionError("the checkpoint's folder")

    with pytest.raises(PermissionError, match="folder"):
        run_pass(rows_of_one(40), _count_rows, None, Parts(keep=keep), small=True)
    assert len(calls) == 1


def test_a_task_may_be_silent_as_long_as_all_its_parts_may(one_thread, monkeypatch):
    monkeypatch.setattr("streamgmm.execution.cluster._POLL", 0.05)
    with dask.config.set({"streamgmm.stall-timeout": "0.4s", "streamgmm.pass-attempts": 1}):
        assert run_pass(rows_of_one(8), _rest, None, small=True) == 8
        with pytest.raises(ClusterError, match="done nothing"):
            run_pass(rows_of_one(1), _rest, 2.0, small=True)


def _rest(blocks, seconds):
    time.sleep(seconds or 0.2)
    return 1


def test_large_parameters_leave_leaves_to_the_scheduler_s_queue():
    """Dask queues, and spreads, tasks whose dependencies' groups hold fewer than five tasks together."""
    (first, *_) = build_parts(rows_of_one(100), trace_leaf, np.zeros(10**6), range(count_parts(rows_of_one(100))))
    graph = dict(first.lazy.__dask_graph__())
    leaves = [task for key, task in graph.items() if isinstance(key, tuple)]
    assert len(leaves) == 8
    assert all(len(task.dependencies) == 2 for task in leaves)
    assert not any("add_up" in str(key) for task in leaves for key in task.dependencies)


def _divide(blocks, _parameters):
    return [1 / (39 - block.start) for block in blocks]


ORDER = []


def _note_order(blocks, _parameters):
    ORDER.extend(block.start for block in blocks)
    return 0


class Counting(Callback):
    """Counts computes, and the tasks of each."""

    def __init__(self):
        super().__init__(start=lambda graph: self.tasks.append(0), pretask=self._task)
        self.tasks = []

    def _task(self, key, graph, state):
        self.tasks[-1] += 1


def test_one_compute_per_pass_and_none_before(store):
    with Counting() as counting:
        # The limit leaves room for a sample of some of the rows.
        model = GaussianMixture(2, random_state=0, max_iter=3, tol=0, memory_limit=8 * 1000 * 4 * 8)
        lazy = da.from_zarr(store)
        assert counting.tasks == []
        model.fit(lazy)
        assert len(counting.tasks) == 4  # the survey and three iterations
        counting.tasks.clear()
        labels, density = model.predict(lazy), model.score_samples(store)
        assert counting.tasks == []
        assert labels.chunks == (lazy.chunks[0],)
        assert isinstance(density, da.Array)
        model.score(store)
        assert len(counting.tasks) == 1


@pytest.mark.parametrize("lazy", [False, True])
def test_loading_and_computing_are_one_task(store, lazy):
    """A graph has one task per chunk and the tree: nothing that only loads."""
    rows = open_rows(da.from_zarr(store)) if lazy else open_rows(store, memory_limit=8 * 1000 * 4 * 8)
    with Counting() as counting:
        assert run_pass(rows, _count_rows, None) == 30_000
    assert rows.n_tasks == 30
    n_tree = 4 + 1
    # Taking the value out of an array of one is a task of its own for Dask arrays.
    n_parts_of_task = rows.n_tasks * (2 if lazy else 1)
    assert counting.tasks[0] <= n_parts_of_task + n_tree + 2


def rows_of_one(n_tasks, sample_weight=None):
    rows = open_rows(np.arange(float(n_tasks))[:, np.newaxis], sample_weight=sample_weight)
    rows = rows.repartition(tuple(RowRange(i, i + 1) for i in range(n_tasks)))
    rows.in_memory = False
    return rows


@pytest.mark.parametrize("n_tasks", [1, 2, 63, 64, 65, 512, 513, 5000])
def test_parts_are_the_same_on_every_cluster(n_tasks):
    """A checkpoint's parts are found again on a cluster that is given several of them in one task."""
    rows = rows_of_one(n_tasks)
    found = []
    for n_threads, small in ((0, False), (1, False), (1, True), (3, True), (1000, True)):
        lazy = build_parts(rows, trace_leaf, 1, range(count_parts(rows)), n_threads=n_threads, small=small)
        values = dask.compute(*(parts.lazy for parts in lazy), scheduler="sync")
        found.append([one for parts, value in zip(lazy, values, strict=True) for one in parts.values(value)])
    assert all(one == found[0] for one in found)
    assert [number for number, _ in found[0]] == list(range(count_parts(rows)))
    assert len(found[0]) <= 64


@pytest.mark.parametrize("n_tasks", [1, 64, 513])
def test_parts_that_have_come_are_not_computed_again(n_tasks):
    rows = rows_of_one(n_tasks)
    parts, kept = {}, {}
    total = run_pass(rows, trace_leaf, 1, Parts(keep=parts.__setitem__))
    some = dict(sorted(parts.items())[::2])
    assert run_pass(rows, trace_leaf, 1, Parts(some, kept.__setitem__)) == total
    assert set(kept) == set(parts) - set(some)


def test_some_parts_together_read_their_own_rows_and_weights():
    wanted = [0, 1, 2, 5, 6, 30, 39]
    weights = np.arange(40.0) * 100
    lazy = build_parts(rows_of_one(40, weights), _rows_and_weights, None, wanted, n_threads=1, small=True)
    assert len(lazy) < len(wanted)
    values = dask.compute(*(parts.lazy for parts in lazy), scheduler="sync")
    found = dict(one for parts, value in zip(lazy, values, strict=True) for one in parts.values(value))
    assert found == {number: [(number, 100 * number)] for number in wanted}


@given(numbers=st.lists(st.integers(0, 1000), unique=True).map(sorted), n_threads=st.integers(1, 100))
def test_bundles_get_smaller_and_none_is_large(numbers, n_threads):
    bundles = guided_groups(numbers, n_threads)
    assert [number for bundle in bundles for number in bundle] == numbers
    sizes = [len(bundle) for bundle in bundles]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size == 1 or size * 2 * n_threads <= len(numbers) for size in sizes)
    assert max(sizes, default=1) <= 4
    # The tasks that end a pass are the smallest there are, one for each thread at least.
    assert sizes[-n_threads:] == [1] * min(n_threads, len(numbers))


def test_what_tasks_share_is_in_each_where_it_is_small_and_else_in_the_graph_once():
    def numbers_of_values(shared, n_tasks):
        task = broadcast_task(np.multiply, shared, n_tasks=n_tasks)
        tasks = [task(i) for i in range(n_tasks)]
        assert [np.max(value) for value in dask.compute(*tasks, scheduler="sync")] == list(range(n_tasks))
        return len(set().union(*(task.__dask_graph__().keys() for task in tasks)))

    assert numbers_of_values(np.ones(1000), 10) == 10
    assert numbers_of_values(np.ones(100_000), 10) == 11
    assert numbers_of_values(np.ones(1000), 1000) == 1001


def test_what_pickle_can_not_send_is_left_to_dask():
    shared = lambda: 3  # noqa: E731
    task = broadcast_task(_call, shared, n_tasks=1)(2)
    assert task.compute(scheduler="sync") == 6


def _call(function, number):
    return function() * number


def _rows_and_weights(blocks, _parameters):
    return [(block.x[0, 0], block.sample_weight[0]) for block in blocks]


def _count_rows(blocks, _parameters):
    return sum(len(block.x) for block in blocks)


def _blas_threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def _threads_leaf(blocks, _parameters):
    return sum(1 for block in blocks) * max(_blas_threads())


MUCH = 1e9


def test_calls_at_once_keep_their_order_and_share_the_threads():
    both = threading.Barrier(2, timeout=30.0)

    def call(number):
        both.wait()
        inner = run_at_once([threading.get_ident] * 2, work=MUCH)
        return number, threading.get_ident(), set(inner)

    with dask.config.set(scheduler="threads", num_workers=2):
        found = run_at_once([lambda: call(0), lambda: call(1)], work=MUCH)
    assert [number for number, _, _ in found] == [0, 1]
    assert found[0][1] != found[1][1]
    # Each has one thread, its own.
    assert all(inner == {outer} for _, outer, inner in found)


@pytest.mark.parametrize(("scheduler", "work"), [("synchronous", MUCH), ("threads", 1.0)])
def test_calls_that_are_not_worth_threads_are_made_here(scheduler, work):
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert run_at_once([threading.get_ident] * 3, work=work) == [threading.get_ident()] * 3


def test_the_first_error_of_calls_at_once_is_raised():
    def fail(message):
        raise ValueError(message)

    with dask.config.set(scheduler="threads", num_workers=2), pytest.raises(ValueError, match="second"):
        run_at_once([lambda: 1, lambda: fail("second"), lambda: fail("third")], work=MUCH)


def test_blas_has_one_thread_in_tasks_and_its_own_number_after():
    before = _blas_threads()
    rows = open_rows(da.zeros((40, 1), chunks=(2, 1)))
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            assert run_pass(rows, _threads_leaf, None) == 20
    assert _blas_threads() == before


def test_blas_limits_of_threads_that_overlap():
    before = _blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        inside.wait(10)
        with one_blas_thread():
            pass
        leave.set()
        thread.join()
        assert _blas_threads() == {1}
    assert _blas_threads() == before
