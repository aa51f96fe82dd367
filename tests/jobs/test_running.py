"""Jobs end with the exit code of the table, say one result, leave nothing half done, and do nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.dataset as pads
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamgmm import GaussianMixture, load, save
from streamgmm.jobs.exit_codes import ExitCode
from streamgmm.jobs.log import Log
from streamgmm.storage.folders import Folder
from streamgmm.storage.lock import lock_folder
from streamgmm.storage.staging import name_staging
from tests.jobs.commands import FIT, JOB, PREDICT, N, content, run


def test_a_job_of_several_steps(place):
    (place / "job.toml").write_text(JOB)
    result = run("run", "job.toml", "--json")
    found = json.loads(result.stdout)
    assert [step["step"] for step in found["steps"]] == ["fit", "predict", "score"]
    assert found["exit_code"] == 0
    model = load("new")
    assert found["steps"][2]["mean_log_likelihood"] == pytest.approx(model.score("x.parquet"), rel=1e-12)
    scored = pads.dataset("o.parquet").to_table()
    np.testing.assert_array_equal(scored["label"].to_numpy(), model.predict("x.parquet").compute())
    assert found["steps"][1]["n_outliers"] == scored["outlier"].to_numpy().sum()
    before = content(place)
    again = json.loads(run("run", "job.toml", "--json").stdout)
    assert [step["status"] for step in again["steps"]] == ["finished already", "finished already", "done"]
    assert content(place) == before


SELECT = ("select", "x.parquet", "--components", "1,2", "--columns", "a,b", "--output", "new")


@pytest.mark.parametrize("command", [FIT, PREDICT, SELECT])
def test_what_is_finished_is_not_done_again(command, place):
    run(*command, *(("--quiet",) if command[0] != "predict" else ()))
    before = content(place)
    assert "nothing was done" in run(*command).stdout
    assert content(place) == before
    run(*command, "--overwrite")
    assert content(place).keys() == before.keys()


CODES = [
    (FIT, 0),
    ((*FIT[:-1], "m"), ExitCode.CANT_WRITE),
    ((*FIT[:-1], "nowhere/m"), ExitCode.CANT_WRITE),
    ((*FIT, "--tol", "0", "--max-iter", 1, "--strict"), ExitCode.NOT_CONVERGED),
    ((*FIT, "--components", 0), ExitCode.USAGE),
    ((*FIT, "--nothing"), ExitCode.USAGE),
    ((*FIT, "--scheduler", "nowhere"), ExitCode.USAGE),
    ((*FIT, "--where", "a >"), ExitCode.USAGE),
    ((*FIT, "--where", "a = 'x'"), ExitCode.USAGE),
    ((*FIT, "--columns", "a,holes"), ExitCode.BAD_DATA),
    ((*FIT, "--columns", "a,none"), ExitCode.BAD_DATA),
    (("fit", "none.parquet", *FIT[2:]), ExitCode.BAD_DATA),
    ((*FIT, "--max-seconds", "1e-4"), ExitCode.TRY_AGAIN),
    (PREDICT, 0),
    ((*PREDICT, "--write", "labels"), ExitCode.USAGE),
    ((*PREDICT, "--keep", "none"), ExitCode.BAD_DATA),
    (("predict", "x.parquet", *PREDICT[2:]), ExitCode.BAD_DATA),
    ((*PREDICT[:-2], "--output", "o.csv"), ExitCode.USAGE),
    ((*PREDICT, "--output", "x.parquet"), ExitCode.USAGE),
    (("score", "m", "x.parquet"), 0),
    (("score", "m", "x.parquet", "--columns", "a,holes"), ExitCode.BAD_DATA),
    (("select", "x.parquet", "--components", "0:3"), ExitCode.USAGE),
    (("select", "x.parquet", "--components", "1:2", "--columns", "a,b"), 0),
    (("compare", "m", "m", "--source", "x.parquet"), 0),
    (("compare", "m", "--source", "x.parquet"), ExitCode.USAGE),
    (("run", "none.toml"), ExitCode.USAGE),
    (("run",), ExitCode.USAGE),
    (("plan", "x.parquet", "--components", 2, "--columns", "a,b", "--no-probe"), 0),
    (("info", "m"), 0),
    (("info", "x.parquet"), ExitCode.BAD_DATA),
]


@pytest.mark.parametrize(("command", "code"), CODES)
def test_exit_codes(command, code, place):
    """Those of the README's table; an error is one line, and writes nothing."""
    before = content(place)
    result = run(*command, code=int(code))
    if code not in (0, ExitCode.NOT_CONVERGED):
        assert content(place) == before
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("streamgmm: ")


def test_a_store_that_fails_and_a_run_that_is_at_work(place, monkeypatch):
    from streamgmm.sources import parquet

    with lock_folder(Folder(name_staging(str(place / "o.parquet")))):
        run(*PREDICT, code=ExitCode.TRY_AGAIN)

    def failing(*_):
        raise OSError("the disk has gone")

    monkeypatch.setenv("DASK_STREAMGMM__FIRST_WAIT", "0s")
    monkeypatch.setattr(parquet.ParquetRows, "_decoded", failing)
    import dask

    with dask.config.set({"streamgmm.first-wait": "0s"}):
        result = run("score", "m", "x.parquet", code=ExitCode.STORAGE)
    assert "the disk has gone" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_log_is_one_object_a_line(place):
    for command in (FIT, PREDICT, ("score", "m", "x.parquet")):
        result = run(*command, "--log-format", "json", "--json")
        events = [json.loads(line) for line in result.stderr.splitlines()]
        assert events[0]["event"] == "step begins"
        assert events[-1]["event"] == "job ends"
        assert all({"time", "level", "event"} <= set(event) for event in events)
        assert json.loads(result.stdout)["exit_code"] == 0
    assert "pass" in {
        json.loads(line)["event"] for line in run(*FIT[:-1], "x2", "--log-format", "json").stderr.splitlines()
    }
    result = run(*FIT, "--columns", "a,holes", "--overwrite", "--log-format", "json", code=65)
    error = json.loads(result.stderr.splitlines()[-1])
    assert (error["level"], error["exit_code"]) == ("error", 65)
    assert "holes" in error["message"] or "NaN" in error["message"]
    run(*FIT, "--columns", "a,holes", "--missing", "drop", "--overwrite", "--log-format", "json")


def test_a_dry_run_checks_everything_and_writes_nothing(place):
    (place / "job.toml").write_text(
        JOB.replace('model = "new"', 'model = "m"').replace("init_params", "tol = 0.5\ninit_params")
    )
    before = content(place)
    run("run", "job.toml", "--dry-run", code=73)  # another model is there
    output = run("run", "job.toml", "--set", "steps.0.if_exists=replace", "--dry-run").stdout
    assert "3000 rows would be fitted" in output
    for command in (
        FIT,
        PREDICT,
        ("score", "m", "x.parquet"),
        ("select", "x.parquet", "--components", "1,2", "--columns", "a,b"),
    ):
        assert "3000 rows would be" in run(*command, "--dry-run").stdout
    run(*PREDICT, "--keep", "none", "--dry-run", code=65)
    assert content(place) == before


def test_criteria_that_do_not_hold_are_bad_data(place):
    (place / "job.toml").write_text(JOB)
    result = run("run", "job.toml", "--set", "criteria.max_outliers=0.0001", "--set", "criteria.min_score=100", code=65)
    assert "are outliers, more than a share of 0.0001" in result.stderr
    assert "less than 100" in result.stderr
    assert (place / "o.parquet").exists()
    holes = ("--set", "columns=['a', 'holes']", "--set", "missing=drop", "--set", "criteria.max_missing=0.005")
    result = run("run", "job.toml", *holes, "--set", "model=other", "--set", "steps.1.output=p.parquet", code=65)
    assert "fit: 30 of 3000 rows have missing values" in result.stderr
    assert "predict: 30 of 3000 rows have missing values" in result.stderr


def test_metrics_are_prometheus_own_and_keep_the_last_success(place):
    (place / "job.toml").write_text(JOB.replace("source =", 'name = "nightly"\nsource =', 1))

    def read():
        families = list(text_string_to_metric_families((place / "m.prom").read_text()))
        return {(s.name, s.labels.get("step")): s.value for f in families for s in f.samples}

    began = time.time()
    run("run", "job.toml", "--metrics", "m.prom")
    found = read()
    assert found["streamgmm_job_exit_code", None] == 0
    assert found["streamgmm_step_rows", "1-predict"] == N
    assert found["streamgmm_step_missing_rows", "0-fit"] == 0
    assert found["streamgmm_step_passes", "0-fit"] >= 1
    assert found["streamgmm_step_read_bytes", "0-fit"] >= N * 2 * 8
    assert began <= found["streamgmm_job_last_success_timestamp_seconds", None] <= time.time()
    for name in ("streamgmm_step_duration_seconds", "streamgmm_step_log_likelihood_nats"):
        assert np.isfinite(found[name, "0-fit"])
    run("run", "job.toml", "--metrics", "m.prom", "--set", "source=none.parquet", code=65)
    later = read()
    assert later["streamgmm_job_exit_code", None] == 65
    success = "streamgmm_job_last_success_timestamp_seconds", None
    assert later[success] == found[success]
    run("run", "job.toml", "--metrics", "nowhere/m.prom", code=73)


def test_a_fit_that_runs_out_of_time_keeps_the_best_so_far(place, monkeypatch):
    """Code 75; the same command goes on from the checkpoint, to the bits of a run that was not ended."""
    from streamgmm.jobs import steps

    # A fit that takes several passes.
    options = ("--init-params", "random", "--tol", "1e-12", "--components", 3, "--quiet", "--memory-limit", "40KB")
    run(*FIT[:-1], "whole", *options, "--checkpoint", "c2")
    options = (*options, "--checkpoint", "c")
    calls = []

    def up(self):
        calls.append(1)
        self._last_pass = time.monotonic()
        return len(calls) == 1

    with monkeypatch.context() as patch:
        patch.setattr(steps.Context, "time_is_up", up)
        result = run(*FIT, *options, "--json", code=75)
    found = json.loads(result.stdout)
    assert found["stop_reason"] == "stopped when asked to"
    assert load("new").n_iter_ == 1
    run(*FIT, *options)
    assert load("new") == load("whole")


def test_compare_puts_the_better_model_in_place(place):
    GaussianMixture(1, random_state=0).fit("x.parquet", columns=["a", "b"])
    worse = GaussianMixture(1, random_state=0).fit("x.parquet", columns=["a", "b"])
    save(worse, "now")
    result = run("compare", "now", "m", "--source", "x.parquet", "--output", "now", "--json")
    found = json.loads(result.stdout)
    assert (found["best"], found["best_model"]) == (1, "m")
    gains = load("m").score_samples("x.parquet").compute() - worse.score_samples("x.parquet").compute()
    assert found["gains"][1] == pytest.approx(gains.mean(), rel=1e-9)
    assert found["standard_errors"][1] == pytest.approx(gains.std() / np.sqrt(N), rel=1e-6)
    assert (place / "now").read_bytes() == (place / "m").read_bytes()
    found = json.loads(run("compare", "m", "m", "--source", "x.parquet", "--json").stdout)
    assert found["best"] == 0
    assert "best" in run("compare", "m", "m", "--source", "x.parquet", "--min-gain", 5).stdout


def test_texts_are_checked_before_the_first_step(place):
    """A mistake in the last step is no reason to have run the first."""
    (place / "job.toml").write_text(JOB)
    before = content(place)
    for change, code in (
        ("steps.2.where=a >", 2),
        ("limits.memory=much", 2),
        ("steps.0.init_params=best", 2),
        ("steps.1.output=nowhere/o.parquet", 73),
        ("steps.1.output=o.csv", 2),
        ("reports.metrics=nowhere/m.prom", 73),
    ):
        run("run", "job.toml", "--set", change, code=code)
        assert content(place) == before
    run("run", "job.toml", "--metrics", "m.prom")
    assert 'job_name="job"' in (place / "m.prom").read_text()


def test_criteria_hold_or_fail_the_second_time_too(place):
    (place / "job.toml").write_text(JOB)
    failing = ("--set", "criteria.max_outliers=0.0001", "--metrics", "m.prom")
    for _ in range(2):
        result = run("run", "job.toml", *failing, code=65)
        assert "are outliers, more than a share of 0.0001" in result.stderr
        assert "streamgmm_job_exit_code" in (place / "m.prom").read_text()
        assert 'streamgmm_step_rows{job_name="job",step="1-predict"} 3000.0' in (place / "m.prom").read_text()
        assert "last_success" not in (place / "m.prom").read_text()
    for name, value in (
        ("max_outliers", "0.5"),
        ("max_missing", "0.5"),
        ("min_score", "-100.0"),
        ("converged", "true"),
    ):
        command = ("run", "scores.toml", "--set", f"criteria.{name}={value}")
        step = '[[steps]]\nstep = "compare"\nmodels = ["m", "m"]\nsource = "x.parquet"\n'
        (place / "scores.toml").write_text(step)
        assert f"criteria.{name} can't be checked" in run(*command, code=2).stderr


def test_a_candidate_is_not_replaced_by_the_present_model(place):
    before = content(place)
    save(load("m"), "candidate")
    run("compare", "m", "candidate", "--source", "x.parquet", "--output", "candidate", code=2)
    (place / "candidate").unlink()
    assert content(place) == before


def test_a_job_is_not_replaced_by_what_it_writes(place):
    (place / "job.toml").write_text(JOB)
    before = content(place)
    run("run", "job.toml", "--metrics", "job.toml", code=2)
    run("run", "job.toml", "--set", "steps.0.model=job.toml", "--set", "steps.0.if_exists=replace", code=2)
    assert content(place) == before


def test_a_selection_whose_time_was_up_is_gone_on_with(place, monkeypatch):
    from streamgmm.jobs.context import Context

    def up(self):
        self._last_pass, self.was_stopped = 0.0, True
        return True

    with monkeypatch.context() as patch:
        patch.setattr(Context, "time_is_up", up)
        run(*SELECT, "--max-seconds", 1000, code=75)
        assert (place / "new").exists()
        run(*SELECT, "--max-seconds", 1000, code=75)
    assert "components" in run(*SELECT).stdout
    assert "nothing was done" in run(*SELECT).stdout


def test_a_fit_whose_time_was_up_replaces_no_better_one(place):
    """Of the same job; one of another job is not replaced at all."""
    from streamgmm.em.convergence import StopReason
    from streamgmm.jobs.models import JOB, is_no_better

    model = load("m")
    for bound, stopped, job, expected in (
        (-1.0, True, "this", True),
        (-9.0, True, "this", False),
        (-1.0, True, "another", False),
        (-1.0, False, "this", False),
    ):
        before = load("m")
        before.lower_bound_, before.stop_reason_ = bound, StopReason.STOPPED if stopped else StopReason.CONVERGED
        save(before, "before", metadata={JOB: job})
        model.lower_bound_, model.stop_reason_ = -2.0, StopReason.STOPPED
        assert is_no_better(model, "before", "this") is expected
    model.stop_reason_ = StopReason.CONVERGED
    assert not is_no_better(model, "before", "this")
    assert not is_no_better(model, "nowhere", "this")


def test_texts_that_look_like_days_are_texts(place):
    (place / "job.toml").write_text(JOB)
    run("run", "job.toml", "--set", "name=2026-01-01", "--metrics", "m.prom")
    assert 'job_name="2026-01-01"' in (place / "m.prom").read_text()


def test_metrics_write_over_nothing_that_is_in_use(place):
    before = content(place)
    for metrics in ("x.parquet", "m", "o.parquet"):
        run(*PREDICT, "--metrics", metrics, code=2)
        assert content(place) == before


def test_the_schema_is_printed():
    assert json.loads(run("run", "--print-schema").stdout)["title"] == "Job"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["fit", "select", "run"])
def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(kind, how, place, rng):
    (place / "job.toml").write_text(JOB)
    command = {
        "fit": [*FIT[:-1], "OUT", "--checkpoint", "c-OUT", "--quiet"],
        "select": ["select", "x.parquet", "--components", "1:3", "--columns", "a,b", "--output", "OUT", "--quiet"],
        "run": ["run", "job.toml", "--set", "model=OUT", "--set", "steps.1.output=OUT.parquet", "--quiet"],
    }[kind]

    def called(output):
        arguments = [str(one).replace("OUT", output) for one in command]
        return [sys.executable, "-m", "streamgmm.cli.process", *arguments]

    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1000000000"}
    began = time.monotonic()
    subprocess.run(called("whole"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    took = time.monotonic() - began
    for _ in range(10):
        process = subprocess.Popen(called("out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        time.sleep(rng.uniform(0.2, 1.0) * took)
        process.send_signal(how)
        assert process.wait() in (0, 143, -15, -9)
    subprocess.run(called("out"), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    assert (place / "out").read_bytes() == (place / "whole").read_bytes()
    if kind == "run":
        assert list(content(place / "out.parquet").values()) == list(content(place / "whole.parquet").values())
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_objects_of_the_log_have_no_number_that_json_does_not_have(capsys):
    Log(as_json=True).info("pass", lower_bound=float("-inf"), more={"gap": [float("nan"), 1.0]})
    found = json.loads(capsys.readouterr().err, parse_constant=pytest.fail)
    assert (found["lower_bound"], found["more"]) == (None, {"gap": [None, 1.0]})


def test_what_clusters_log_is_an_object_too(capsys):
    import logging

    with Log(as_json=True).hearing_warnings():
        logging.getLogger("distributed.worker.memory").warning("Worker is at %d%% memory usage", 80)
    found = json.loads(capsys.readouterr().err)
    assert (found["message"], found["logger"]) == ("Worker is at 80% memory usage", "distributed.worker.memory")


def test_control_characters_are_shown_and_not_obeyed(capsys):
    Log().error("no column 'a\0b\x1b[31m'\nin x")
    assert capsys.readouterr().err == "streamgmm: no column 'a\\x00b\\x1b[31m' in x\n"
