"""Prefect 3: the job of every night as a flow, `python prefect_flow.py` serves it."""

import json
import os
import subprocess
from datetime import date, timedelta

from prefect import flow, task

#: Usage, bad data, an output that can't be written: another attempt would end alike.
FINAL = {2, 65, 73}


class JobFailedError(RuntimeError):
    """The job has ended with a code that is not 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"streamgmm ended with {code}")
        self.code = code


def may_pass(_task, _run, state) -> bool:
    """Whether another attempt makes sense."""
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, JobFailedError) and error.code in FINAL)


@task(retries=5, retry_delay_seconds=600, retry_condition_fn=may_pass)
def run_job(path: str, day: date) -> dict:
    """Run the job file for a day."""
    environment = {**os.environ, "DAY": f"{day:%Y-%m-%d}", "WEEK_AGO": f"{day - timedelta(days=7):%Y-%m-%d}"}
    done = subprocess.run(
        ["streamgmm", "run", path, "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise JobFailedError(done.returncode)
    return json.loads(done.stdout)


@flow(name="streamgmm-visits")
def visits(path: str = "/etc/streamgmm/nightly.toml", day: date | None = None) -> dict:
    """Score yesterday's visits, fit those of the week, keep the better model."""
    return run_job(path, day or date.today() - timedelta(days=1))


if __name__ == "__main__":
    visits.serve(name="every-night", cron="0 2 * * *", limit=1)
