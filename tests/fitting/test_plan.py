"""A plan names what a fit takes, refuses what a worker can't hold, and keeps rows only where there is room."""

import json
from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from streamgmm import GaussianMixture, search
from streamgmm.estimators.settings import settings_of
from streamgmm.exceptions import MemoryLimitError
from streamgmm.execution.tasks import tasks_of
from streamgmm.fitting import probe as planning
from streamgmm.fitting.plan import Machine, project
from streamgmm.fitting.probe import sample_size
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.sources.open import open_rows
from tests.helpers import clusters

GB = 10**9


@pytest.fixture
def x(rng):
    return clusters(rng, n_rows=20_000, n_features=4)


@pytest.fixture
def store(x, tmp_path):
    zarr.create_array(str(tmp_path / "x.zarr"), data=x, chunks=(1000, 4))
    return str(tmp_path / "x.zarr")


def planned(rows, machine, **options):
    given = {"n_components": 8, "covariance_type": "full", "sample_rows": 1000} | options
    return project(rows, machine, **given)


def test_a_plan_says_what_the_rows_say(store, x):
    with dask.config.set(scheduler="threads", num_workers=3):
        found = GaussianMixture(5, covariance_type="diag", memory_limit="3MB").plan(store)
    assert (found.n_rows, found.n_features, found.n_bytes) == (20_000, 4, x.nbytes)
    assert found.n_tasks == open_rows(store, memory_limit=3_000_000).n_tasks
    assert found.statistics_bytes == 5 * 9 * 8
    assert found.machine.n_threads == 3
    assert found.speed is not None
    assert found.speed.n_rows > 0
    assert found.speed.pass_seconds > 0
    assert str(found).startswith(f"Plan of a fit to {store}")
    assert "20,000 rows of 4 features, float64" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["n_tasks"] == found.n_tasks


@pytest.mark.parametrize("kind", ["npy", "parquet", "array", "dask", "dataframe"])
def test_rows_of_every_kind_can_be_probed(kind, x, tmp_path):
    names = [f"c{j}" for j in range(4)]
    source = {
        "npy": lambda: np.save(tmp_path / "x.npy", x) or str(tmp_path / "x.npy"),
        "parquet": lambda: (
            pq.write_table(pa.table(list(x.T), names=names), tmp_path / "x.parquet", row_group_size=1000)
            or str(tmp_path / "x.parquet")
        ),
        "array": lambda: x,
        "dask": lambda: da.from_array(x, chunks=(1000, 4)),
        "dataframe": lambda: da.from_array(x, chunks=(1000, 4)).to_dask_dataframe(columns=names),
    }[kind]()
    model = GaussianMixture(3, covariance_type="tied")
    found = model.plan(source)
    assert found.speed.n_rows > 0
    assert not hasattr(model, "n_features_in_")  # a plan leaves the estimator as it was


def test_what_does_not_fit_is_refused_with_the_numbers(store):
    rows = open_rows(store)
    assert planned(rows, Machine("a cluster", 2, 2, GB)).check() is None
    with pytest.raises(MemoryLimitError, match=r"a worker of a cluster is projected .* may use 200\.0 MB: give"):
        planned(rows, Machine("a cluster", 2, 2, 200 * 10**6)).check()
    # Threads, components and rows that stay each take their share.
    few = planned(rows, Machine("a cluster", 2, 2, GB)).worker_bytes
    assert planned(rows, Machine("a cluster", 2, 16, GB)).worker_bytes > few
    assert planned(rows, Machine("a cluster", 2, 2, GB), n_components=5000).worker_bytes > few
    assert planned(rows, Machine("a cluster", 2, 2, GB), n_unlikely=1000).worker_bytes > few
    kept = planned(rows, Machine("a cluster", 2, 2, GB), persist=True)
    assert kept.worker_bytes == few + rows.n_rows * (32 + 8) // 2


def test_a_fit_is_refused_before_it_reads(store, monkeypatch):
    monkeypatch.setattr(planning, "machine_now", lambda rows: Machine("a cluster", 2, 2, 200 * 10**6))
    monkeypatch.setattr("streamgmm.execution.passes.run_pass", lambda *_: pytest.fail("rows were read"))
    with pytest.raises(MemoryLimitError, match="projected"):
        GaussianMixture(3).fit(store)


def test_rows_stay_where_there_is_twice_the_room(store):
    rows = open_rows(store)
    n_bytes = rows.n_rows * (32 + 8)  # with weights, where there are any
    for free, kept in ((2 * n_bytes, True), (2 * n_bytes - 1, False), (0, False)):
        found = planned(rows, Machine("a cluster", 2, 2, GB, free), persist="auto")
        assert found.kept is kept
    # One reading is all there is.
    assert not planned(rows, Machine("a cluster", 2, 2, GB, GB), persist="auto", sample_rows=rows.n_rows).kept
    assert not planned(rows, Machine("a cluster", 2, 2, GB, GB), persist=False).kept


def test_rows_that_stay_are_read_once_and_give_the_same_bits(store, monkeypatch):
    from streamgmm.sources.zarr_arrays import ZarrRows

    n_reads = []
    read = ZarrRows.read
    monkeypatch.setattr(ZarrRows, "read", lambda *args: n_reads.append(1) or read(*args))
    fits = []
    for persist in (False, True):
        n_reads.clear()
        fits.append(GaussianMixture(3, random_state=0, memory_limit="3MB", tol=1e-9, persist=persist).fit(store))
        n_tasks = open_rows(store, memory_limit=3_000_000).n_tasks
        assert len(n_reads) == n_tasks * (1 if persist else fits[-1].fit_report_.n_passes)
    assert fits[0].means_.tobytes() == fits[1].means_.tobytes()
    assert fits[0].lower_bounds_.tobytes() == fits[1].lower_bounds_.tobytes()


def test_rows_that_stay_in_less_memory_than_they_take_are_refused(store, x, monkeypatch):
    """On threads too, where nothing but `memory_limit` bounds what a process may use."""
    monkeypatch.setattr("streamgmm.execution.passes.run_pass", lambda *_: pytest.fail("rows were read"))
    words = r"with persist=True 800\.0 kB of rows and weights stay in this .* memory_limit= is 500\.0 kB: use"
    model = GaussianMixture(3, persist=True, memory_limit=500_000)
    with dask.config.set(scheduler="threads"):
        with pytest.raises(MemoryLimitError, match=words):
            model.fit(store)
        with pytest.raises(MemoryLimitError, match=words):
            search(store, [1, 2], persist=True, memory_limit=500_000)
        with pytest.raises(MemoryLimitError, match=words):
            model.plan(store, probe=False).check()
        with pytest.raises(MemoryLimitError, match="of rows and weights stay"):
            GaussianMixture(3, persist=True, memory_limit="1.8MB").fit(da.from_array(x, chunks=(10_000, 4)))
        # What is in memory anyway, or is not to stay, or has the room, is not refused.
        for persist, limit in ((False, 500_000), ("auto", 500_000), (True, 2_000_000), (True, None)):
            project = GaussianMixture(3, persist=persist, memory_limit=limit).plan(store, probe=False)
            project.check()
            assert project.kept is (persist is True)
        GaussianMixture(3, persist=True, memory_limit=500_000).plan(x, probe=False).check()
    # The workers of a cluster have limits of their own.
    planned(open_rows(store, memory_limit=500_000), Machine("a cluster", 1, 1, GB), persist=True).check()


def test_a_chunk_of_a_dask_array_that_does_not_fit_is_refused():
    with pytest.raises(MemoryLimitError, match=r"one piece decodes to 40\.0 MB"):
        GaussianMixture(2, memory_limit="100MB").fit(da.zeros((10**7, 1), chunks=(5 * 10**6, 1)))


def test_threads_are_as_many_as_the_limit_has_room_for(store):
    from streamgmm.execution.passes import _most_threads

    rows = open_rows(store, memory_limit=4 * 4 * 1000 * 32)
    rows.memory_limit = 3 * 4 * rows.piece_bytes
    with dask.config.set(scheduler="threads", num_workers=16):
        assert _most_threads(rows) == 3
        rows.memory_limit = None
        assert _most_threads(rows) == 16


def test_dask_weighs_kept_rows_as_what_they_are(x):
    from dask.sizeof import sizeof

    from streamgmm.sources.base import Block

    block = Block(x, np.ones(len(x)), 0)
    assert sizeof((block,)) > x.nbytes + 8 * len(x)


def test_rows_that_are_mapped_are_read_when_they_are_kept(x, tmp_path):
    from streamgmm.execution.persisted import PersistedRows

    np.save(tmp_path / "x.npy", x)
    rows = PersistedRows(open_rows(str(tmp_path / "x.npy")))
    before = dask.compute(*tasks_of(rows).for_parts(_total, None))
    np.save(tmp_path / "x.npy", 2 * x)
    assert dask.compute(*tasks_of(rows).for_parts(_total, None)) == before


def _total(blocks, _parameters):
    return sum(float(block.x.sum()) for block in blocks)


def test_a_plan_looks_for_a_part_with_rows(x):
    whitening = da.from_array(x, chunks=(2000, 4)).to_dask_dataframe(columns=list("abcd"))
    limit = np.sort(x[:2000, 0])[1000]
    some = whitening[(whitening.a < limit) & (whitening.index < 2000)]  # all other partitions are empty
    assert GaussianMixture(2).plan(some).speed is not None
    assert GaussianMixture(2).plan(whitening[whitening.a > 1e9]).speed is None
    holes = da.from_array(x[:1000], chunks=((0, 500, 0, 500), (4,)))
    assert GaussianMixture(2).plan(holes).speed is not None


@pytest.mark.parametrize("n_features", [50_000, 200_000])
def test_many_features_are_projected_and_refused_with_the_numbers(n_features, covariance_type, monkeypatch):
    """By formulas alone, whether or not there is a memory limit; no array of the model's size is made for it."""
    monkeypatch.setattr(planning, "get_process_memory", lambda: 8 * GB)
    rows = da.zeros((1000, n_features), chunks=(10, n_features))
    model = GaussianMixture(2, covariance_type=covariance_type)
    found = model.plan(rows, probe=covariance_type in ("full", "tied"))
    n_terms = {
        "full": (n_features + 1) * (n_features + 2) // 2,
        "tied": n_features + 1,
        "diag": 2 * n_features + 1,
        "spherical": n_features + 2,
    }
    assert found.statistics_bytes == 8 * 2 * n_terms[covariance_type]
    if covariance_type in ("diag", "spherical"):
        assert found.refusal() is None
        return
    assert found.leaving_bytes >= 8 * n_features**2
    with pytest.raises(MemoryLimitError, match=r"covariance_type='diag' or use fewer features"):
        found.check()
    with pytest.raises(MemoryLimitError, match=rf"{n_features:,} features need at least .* and there are 8\.0 GB"):
        model.fit(rows)


def test_a_count_of_terms_is_that_of_the_terms(covariance_type):
    family = FAMILIES[covariance_type]
    for n_features in (1, 2, 7):
        assert family.n_terms(n_features) == len(family.factor_pairs(n_features)[0])


def test_only_what_helps_is_recommended(store):
    rows = open_rows(store)
    one = planned(rows, Machine("a cluster", 1, 1, 200 * 10**6))
    assert one.refusal().endswith(": give workers more memory")
    threads = planned(rows, Machine("a cluster", 1, 64, GB)).refusal()
    assert "fewer threads" in threads
    assert "components" not in threads
    many = planned(rows, Machine("a cluster", 1, 1, GB), n_components=1_000_000).refusal()
    assert "fit fewer components" in many
    assert "threads," not in many
    here = planned(rows, Machine("this process", 1, 1, None, driver_memory=10**9), n_components=10**7)
    assert here.refusal().endswith(": fit fewer components or use fewer features")


def test_a_sample_has_room_for_a_row_of_each_component():
    """However wide rows are; under a limit the error says which would do."""
    rows = open_rows(da.zeros((1000, 400_000), chunks=(10, 400_000)), memory_limit=None)
    settings = settings_of(GaussianMixture(60, covariance_type="diag"), rows)
    assert sample_size(rows, [settings]) >= 60
    with pytest.raises(MemoryLimitError, match=f"to {8 * 60 * 8 * 400_002} bytes"):
        sample_size(rows, [replace(settings, memory_limit=10**9)])
    assert sample_size(rows, [replace(settings, memory_limit=8 * 60 * 8 * 400_002)]) == 60
