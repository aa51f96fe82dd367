"""Data that many tests use. Dask runs synchronously unless a test asks for something else.

Tests run side by side, on as many processes as there are processors (`-n 0` runs them in this one). STREAMGMM_EXAMPLES
in the environment is how many examples a property test tries that does not say so itself.
"""

import os

import dask
import hypothesis
import numpy as np
import pytest

from tests.helpers import FAMILY_NAMES, clusters

# How long an example takes says little where other tests run beside it.
hypothesis.settings.register_profile(
    "streamgmm",
    max_examples=int(os.environ.get("STREAMGMM_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("streamgmm")

# Model files say when the model was fitted: with one time for all, the same fit gives the same bytes.
os.environ.setdefault("SOURCE_DATE_EPOCH", "1700000000")

#: Processes that run tests, at most: each takes half a gigabyte.
_MOST_PROCESSES = 16


def pytest_xdist_auto_num_workers():
    from dask.system import CPU_COUNT  # a container's share counts

    return min(CPU_COUNT, _MOST_PROCESSES)


def pytest_configure(config):
    """Give each process that runs tests one thread for matrix products: more would wait for each other, and spin."""
    if getattr(config.option, "numprocesses", None):
        for library in ("OPENBLAS", "MKL", "OMP"):
            os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_collection_modifyitems(items):
    """Keep tests of one file that start clusters in one process, one after the other; begin with the longest tests.

    In the end a process would run one of these while others have nothing left.
    """
    items.sort(key=lambda item: item.path.parts[-2:] != ("estimators", "test_search.py"))
    for item in items:
        if item.get_closest_marker("distributed") is not None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True, scope="session")
def _kernels_compiled_once(tmp_path_factory):
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tests.compiled import compile_once

        compile_once(tmp_path_factory.getbasetemp().parent / "kernels.lock")


@pytest.fixture(autouse=True)
def _synchronous_dask():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(params=FAMILY_NAMES)
def covariance_type(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture
def x(rng):
    return clusters(rng)


@pytest.fixture
def three_clusters(rng):
    return np.concatenate([rng.normal(c, 1.0, (700, 2)) for c in ((12.0, 0.0), (-6.0, 6.0), (-6.0, -6.0))])
