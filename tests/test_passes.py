"""A pass is one compute of one graph: a fixed tree, the same bits on every scheduler, one BLAS thread."""

import threading
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

from streamgmm import GaussianMixture, passes
from streamgmm.blas import one_blas_thread
from streamgmm.cluster import Workers
from streamgmm.passes import Parts, run_here, run_pass
from streamgmm.rows.arrays import ArrayRows
from streamgmm.rows.base import RowRange
from streamgmm.rows.open import open_rows
from streamgmm.threads import at_once
from streamgmm.tree import GROUP
from tests.conftest import clusters


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
    n_leaves = rows.n_tasks * (2 if lazy else 1)
    assert counting.tasks[0] <= n_leaves + n_tree + 2


@pytest.mark.parametrize("n_tasks", [1, 63, 64, 65, 512, 513, 5000])
def test_parts_are_the_same_wherever_a_pass_runs(n_tasks, monkeypatch):
    """A checkpoint's parts are found again on a cluster that is given several leaves in one task."""
    rows = open_rows(np.zeros((n_tasks, 1))).recut(tuple(RowRange(i, i + 1) for i in range(n_tasks)))
    rows.in_memory = False
    monkeypatch.setattr(passes, "workers_of", lambda client: Workers(1, 1, None, 0))
    on_a_cluster = passes._together(rows, object())
    assert on_a_cluster == (GROUP if n_tasks > 64 else 1)
    found = []
    for together in (1, on_a_cluster):
        parts = {}
        monkeypatch.setattr(passes, "_together", lambda rows, client, n=together: n)
        total = run_pass(rows, trace_leaf, 1, Parts(keep=parts.__setitem__))
        found.append((total, sorted(parts.items())))
    assert found[0] == found[1]
    assert len(found[0][1]) <= 64
    # What has come is not computed again.
    some = dict(found[0][1][::2])
    kept = {}
    assert run_pass(rows, trace_leaf, 1, Parts(some, kept.__setitem__)) == found[0][0]
    assert set(kept) == set(dict(found[0][1])) - set(some)


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
        inner = at_once([threading.get_ident] * 2, work=MUCH)
        return number, threading.get_ident(), set(inner)

    with dask.config.set(scheduler="threads", num_workers=2):
        found = at_once([lambda: call(0), lambda: call(1)], work=MUCH)
    assert [number for number, _, _ in found] == [0, 1]
    assert found[0][1] != found[1][1]
    # Each has one thread, its own.
    assert all(inner == {outer} for _, outer, inner in found)


@pytest.mark.parametrize(("scheduler", "work"), [("synchronous", MUCH), ("threads", 1.0)])
def test_calls_that_are_not_worth_threads_are_made_here(scheduler, work):
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert at_once([threading.get_ident] * 3, work=work) == [threading.get_ident()] * 3


def test_the_first_error_of_calls_at_once_is_raised():
    def fail(message):
        raise ValueError(message)

    with dask.config.set(scheduler="threads", num_workers=2), pytest.raises(ValueError, match="second"):
        at_once([lambda: 1, lambda: fail("second"), lambda: fail("third")], work=MUCH)


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
