"""What a job has done, as a text file for Prometheus' node exporter, written when the job ends, whole."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from streamgmm.exceptions import OutputError
from streamgmm.storage.outputs import write_whole

#: Names, units last, as Prometheus asks; what a step says under a name, and what it is.
_GAUGES = {
    "n_rows": ("streamgmm_step_rows", "Rows that counted."),
    "n_missing": ("streamgmm_step_missing_rows", "Rows with missing values."),
    "n_outliers": ("streamgmm_step_outlier_rows", "Rows that are outliers."),
    "n_bytes": ("streamgmm_step_read_bytes", "Bytes that were read, once decoded."),
    "n_passes": ("streamgmm_step_passes", "Readings of all rows."),
    "lower_bound": ("streamgmm_step_log_likelihood_nats", "Mean log-likelihood of a row."),
    "gap": ("streamgmm_step_gap_nats", "Estimated distance of a row's log-likelihood to the optimum."),
    "seconds": ("streamgmm_step_duration_seconds", "Time that the step took."),
}
_LAST_SUCCESS = "streamgmm_job_last_success_timestamp_seconds"


def write_metrics(path: str, job: str, exit_code: int, seconds: float, steps: Sequence[Mapping[str, Any]]) -> None:
    """Write what a job has done.

    Parameters
    ----------
    path : str
        What is there is replaced; the time of the last success stays where this job has none.
    job : str
    exit_code : int
    seconds : float
    steps : sequence of mapping
        Results of the steps.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float, **labels: str) -> None:
        labels = {"job_name": job, **labels}
        if name not in made:
            made[name] = Gauge(name, text, list(labels), registry=registry)
        made[name].labels(**labels).set(value)

    made: dict[str, Gauge] = {}
    gauge("streamgmm_job_duration_seconds", "Time that the job took.", seconds)
    gauge("streamgmm_job_exit_code", "Exit code of the job.", exit_code)
    success = time.time() if exit_code == 0 else _last_success(path, job)
    if success is not None:
        gauge(_LAST_SUCCESS, "When the job last succeeded.", success)
    for number, step in enumerate(steps):
        for name, (metric, text) in _GAUGES.items():
            value = step.get(name)
            if isinstance(value, (int, float)) and math.isfinite(value):
                gauge(metric, text, value, step=f"{number}-{step['step']}")
    try:
        write_whole(path, generate_latest(registry))
    except OSError as error:
        raise OutputError(f"the metrics can't be written: {error}") from error


def _last_success(path: str, job: str) -> float | None:
    from prometheus_client.parser import text_string_to_metric_families

    if not os.path.exists(path):
        return None
    with suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            families = list(text_string_to_metric_families(file.read()))
        for family in families:
            for sample in family.samples:
                if sample.name == _LAST_SUCCESS and sample.labels.get("job_name") == job:
                    return float(sample.value)
    return None
