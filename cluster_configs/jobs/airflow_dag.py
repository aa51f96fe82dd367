"""Airflow 3: the job of every night as a DAG. Codes that another attempt can't change fail at once."""

import json
import os
import subprocess
from datetime import datetime, timedelta

from airflow.exceptions import AirflowFailException
from airflow.sdk import dag, get_current_context, task

#: Usage, bad data, an output that can't be written: somebody has to look.
FINAL = {2, 65, 73}


@dag(
    dag_id="streamgmm_visits",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Two runs at once: the second would be refused, with 75.
    max_active_runs=1,
    default_args={"retries": 5, "retry_delay": timedelta(minutes=10)},
    tags=["streamgmm"],
)
def visits():
    """Score yesterday's visits, fit those of the week, keep the better model."""

    @task
    def run_job(path: str = "/etc/streamgmm/nightly.toml") -> dict:
        day = get_current_context()["logical_date"]
        environment = {
            **os.environ,
            "DAY": f"{day - timedelta(days=1):%Y-%m-%d}",
            "WEEK_AGO": f"{day - timedelta(days=8):%Y-%m-%d}",
        }
        # The log goes to standard error, and so to the task's; the result is the task's value.
        done = subprocess.run(
            ["streamgmm", "run", path, "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode in FINAL:
            raise AirflowFailException(f"streamgmm ended with {done.returncode}: see its last line above")
        if done.returncode:
            raise RuntimeError(f"streamgmm ended with {done.returncode}: the next attempt goes on from what is kept")
        return json.loads(done.stdout)

    run_job()


visits()
