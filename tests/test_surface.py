"""The public surface: names, examples that run, imports that cost nothing; the house: its order and its sizes."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

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


def test_every_error_and_warning_can_be_imported_from_the_root():
    assert {error.__name__ for error in ERRORS} <= set(streamgmm.__all__)


PACKAGE = Path(streamgmm.__file__).parent
FILES = {path.relative_to(PACKAGE): path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}


def test_no_file_is_longer_than_400_lines():
    assert {str(path): n for path, n in FILES.items() if n > 400} == {}


def test_no_room_has_more_than_a_fifth_of_the_code():
    lines = Counter()
    for path, n in FILES.items():
        lines[path.parts[0]] += n
    total = sum(lines.values())
    assert {room: f"{n / total:.1%}" for room, n in lines.items() if n > 0.2 * total} == {}


def test_imports_run_one_way():
    """The order of the rooms in pyproject.toml: none imports one above it, and there is no circle."""
    importlinter = pytest.importorskip("importlinter.cli")
    repository = PACKAGE.parent
    if not (repository / "pyproject.toml").exists():
        pytest.skip("not in the repository")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        capture_output=True, text=True, cwd=repository, timeout=120,
    )  # fmt: skip
    assert importlinter
    assert done.returncode == 0, done.stdout
