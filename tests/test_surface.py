"""The public surface: names, examples that run, imports that cost nothing, one direction of imports."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import streamgmm
from streamgmm import exceptions

MODULES = sorted(module.name for module in pkgutil.walk_packages(streamgmm.__path__, "streamgmm."))


def test_all_names_are_there():
    for name in streamgmm.__all__:
        assert getattr(streamgmm, name) is not None
    assert set(streamgmm.__all__) <= set(dir(streamgmm))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = streamgmm.no_such_name


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_docstring_and_its_examples_run(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("command", [["-c", "import streamgmm"], ["-m", "streamgmm.cli.main", "--help"]])
def test_importing_loads_nothing_heavy(command):
    code = ["-X", "importtime", *command]
    done = subprocess.run([sys.executable, *code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    heavy = {"numpy", "numba", "distributed", "pyarrow", "zarr", "sklearn", "scipy", "dask", "pandas"}
    assert not loaded & heavy


def test_the_estimator_loads_neither_numba_nor_distributed():
    code = "import sys; from streamgmm import GaussianMixture; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"numba", "distributed", "zarr"} & set(done.stdout.split())


ERRORS = [one for one in vars(exceptions).values() if isinstance(one, type) and issubclass(one, BaseException)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_errors_of_workers_arrive_as_what_they_are(error):
    """Dask sends an error that can't be unpickled as a plain Exception, which nobody here would know."""
    from distributed.core import error_message
    from distributed.protocol.pickle import loads

    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as cause:
            raise error("what happened") from cause
    except error as caught:
        message = error_message(caught)
    found = loads(message["exception"].data)
    assert type(found) is error
    assert str(found) == "what happened"
