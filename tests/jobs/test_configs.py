"""What cluster_configs/jobs has for cron, systemd, Airflow, Prefect and Kubernetes is what each understands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from streamgmm import GaussianMixture, load, save
from streamgmm.cli.main import main
from streamgmm.jobs.exit_codes import ExitCode
from streamgmm.jobs.reading import read_job

JOBS = Path(__file__).parent.parent.parent / "cluster_configs" / "jobs"
VARIABLES = {"STORE": "/srv/visits", "DAY": "2026-01-31", "WEEK_AGO": "2026-01-23"}


def test_the_job_file_is_right_and_runs(tmp_path, monkeypatch):
    """With the variables that each of the others sets; the new model takes the place of the present one."""
    job = read_job(str(JOBS / "nightly.toml"), environment=VARIABLES)
    assert [step.step for step in job.steps] == ["predict", "fit", "compare"]
    rng = np.random.default_rng(0)
    for day in range(24, 32):
        place = tmp_path / "visits" / f"day=2026-01-{day}"
        place.mkdir(parents=True)
        x = rng.normal(size=(400, 2)) + 8 * rng.integers(0, 4, size=400)[:, None]
        table = pa.table({"id": np.arange(400) + 1000 * day, "minutes": x[:, 0], "pages": x[:, 1]})
        pq.write_table(table, place / "0.parquet")
    (tmp_path / "models").mkdir()
    (tmp_path / "scored").mkdir()
    (tmp_path / "checkpoints").mkdir()
    present = GaussianMixture(1, random_state=0).fit(tmp_path / "visits", columns=["minutes", "pages"])
    save(present, tmp_path / "models" / "visits.safetensors")
    for name, value in {**VARIABLES, "STORE": str(tmp_path), "METRICS": str(tmp_path / "m.prom")}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(
        main,
        [
            "run",
            str(JOBS / "nightly.toml"),
            "--json",
            "--set",
            "steps.1.components=4",
            "--set",
            "steps.0.outlier_rate=0.01",
        ],
    )
    assert result.exit_code == 0, result.output
    steps = json.loads(result.stdout)["steps"]
    assert steps[0]["n_rows"] == 400
    assert steps[2]["best"] == 1
    assert len(load(tmp_path / "models" / "visits.safetensors").weights_) == 4
    scored = pads.dataset(tmp_path / "scored" / "day=2026-01-31.parquet").to_table()
    assert scored["day"].unique().to_pylist() == ["2026-01-31"]
    assert "streamgmm_step_rows" in (tmp_path / "m.prom").read_text()


@pytest.mark.parametrize(
    "name", ["crontab", "streamgmm-visits.service", "airflow_dag.py", "prefect_flow.py", "cronjob.yaml"]
)
def test_each_sets_the_variables_that_the_job_needs_and_runs_it(name):
    text = (JOBS / name).read_text()
    for variable in ("DAY", "WEEK_AGO"):
        assert re.search(rf"\b{variable}\b", text)
    assert "nightly.toml" in text


def test_codes_that_another_attempt_cannot_change_are_final_everywhere():
    final = {ExitCode.USAGE, ExitCode.BAD_DATA, ExitCode.CANT_WRITE}
    for name in ("airflow_dag.py", "prefect_flow.py"):
        found = re.search(r"FINAL = \{([\d, ]+)\}", (JOBS / name).read_text())
        assert set(map(int, found[1].split(","))) == final
    (job,) = [one for one in yaml.safe_load_all((JOBS / "cronjob.yaml").read_text()) if one["kind"] == "CronJob"]
    rules = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert set(rules[1]["onExitCodes"]["values"]) == final
    service = (JOBS / "streamgmm-visits.service").read_text()
    assert set(map(int, re.search(r"RestartPreventExitStatus=([\d ]+)", service)[1].split())) == final
    assert "Restart=on-failure" in service


@pytest.mark.parametrize("unit", ["service", "timer"])
def test_systemd_understands_the_units(unit, tmp_path):
    # Containers seldom have systemd.
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for one in ("service", "timer"):
        shutil.copy(JOBS / f"streamgmm-visits.{one}", tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"streamgmm-visits.{unit}")],
        capture_output=True, text=True, check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "streamgmm" in line]
    assert (done.returncode, said) == (0, []), done.stderr
    wrong = tmp_path / "wrong.service"
    wrong.write_text((tmp_path / "streamgmm-visits.service").read_text().replace("RestartSec=10min", "RestartSec=soon"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(wrong)], capture_output=True, text=True, check=False
    )
    assert "soon" in done.stderr


def test_kubernetes_understands_the_job():
    validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all((JOBS / "cronjob.yaml").read_text()):
        for version in ("1.29", "1.33", "1.35"):
            validate.validate(document, version, strict=True)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Python of an environment with a scheduler in it, by its package."""
    uv = Path(sys.executable).with_name("uv")
    # Environments with the tests' packages alone make no others.
    if not uv.exists():
        pytest.skip("needs uv: the extra dev")

    def made(*packages):
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([uv, "venv", "-q", folder], check=True)
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        subprocess.run([uv, "pip", "install", "-q", *packages], check=True, env=environment)
        return folder / "bin" / "python"

    return made


@pytest.mark.slow
def test_airflow_loads_the_dag_and_cron_the_line(scheduler, tmp_path):
    """In an environment of its own: it goes with few other packages."""
    python = scheduler("apache-airflow>=3.1", "croniter")
    (tmp_path / "dags").mkdir()
    shutil.copy(JOBS / "airflow_dag.py", tmp_path / "dags")
    environment = {
        **os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
    }  # fmt: skip
    code = (
        "try:\n    from airflow.dag_processing.dagbag import DagBag\n"
        "except ImportError:\n    from airflow.models.dagbag import DagBag\n"
        f"bag = DagBag({str(tmp_path / 'dags')!r})\n"
        "assert not bag.import_errors, bag.import_errors\n"
        "dag = bag.dags['streamgmm_visits']\n"
        "print([task.task_id for task in dag.tasks], dag.tasks[0].retries, dag.max_active_runs)\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "['run_job'] 5 1" in done.stdout, done.stderr
    (line,) = [one for one in (JOBS / "crontab").read_text().splitlines() if one[:1].isdigit()]
    times, command = " ".join(line.split()[:5]), line.split(maxsplit=5)[5]
    code = f"import croniter; print(croniter.croniter.is_valid({times!r}))"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
    assert re.search(r"(?<!\\)%", command) is None  # a percent sign would end the command


@pytest.mark.slow
def test_prefect_runs_the_flow(scheduler, tmp_path):
    """With a `streamgmm` in front that says what it was given: the flow's own retries and result."""
    python = scheduler("prefect>=3.4")
    stand_in = tmp_path / "streamgmm"
    stand_in.write_text('#!/bin/sh\n[ -z "$CODE" ] || exit $CODE\necho "{\\"day\\": \\"$DAY $WEEK_AGO\\"}"\n')
    stand_in.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true", "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }  # fmt: skip
    code = (
        f"import sys; sys.path.insert(0, {str(JOBS)!r})\nimport datetime, prefect_flow\n"
        "print(prefect_flow.visits('job.toml', datetime.date(2026, 1, 31)))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert "{'day': '2026-01-31 2026-01-24'}" in done.stdout, done.stderr
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, env={**environment, "CODE": "65"}
    )
    assert "streamgmm ended with 65" in done.stderr
