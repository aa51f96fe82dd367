"""`streamgmm plan` says what a fit takes, for people and for programs, and fails where it would not fit."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from streamgmm.cli.main import main
from streamgmm.fitting import probe as planning
from streamgmm.fitting.plan import Machine


@pytest.fixture
def store(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.normal(size=(5000, 3)))
    return str(tmp_path / "x.npy")


def run(*args):
    return CliRunner().invoke(main, ["plan", *args])


def test_for_people(store):
    done = run(store, "--components", "4")
    assert done.exit_code == 0, done.output
    for word in ("5,000 rows of 3 features, float64", "4 components, full", "tasks", "a pass"):
        assert word in done.stdout


def test_for_programs(store):
    done = run(store, "--components", "4", "--covariance-type", "diag", "--no-probe", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["n_rows"] == 5000
    assert found["statistics_bytes"] == 4 * 7 * 8
    assert found["speed"] is None


def test_what_does_not_fit_is_an_error_after_the_numbers(store, monkeypatch):
    monkeypatch.setattr(planning, "machine_now", lambda rows: Machine("a cluster", 1, 1, 10**8))
    done = run(store, "--components", "4", "--no-probe")
    assert done.exit_code == 2
    assert "worker" in done.stdout
    assert done.stderr.startswith(f"streamgmm: {store}: a worker of a cluster is projected to use up to")
    assert done.stderr.count("\n") == 1
