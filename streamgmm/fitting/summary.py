"""What a model file says of the fit that its parameters come from."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

from streamgmm._version import __version__
from streamgmm.execution.passes import PassCost
from streamgmm.fitting.prepare import Preparation
from streamgmm.storage.fingerprint import digest

#: Packages whose versions may matter to the last bit.
_PACKAGES = ("numpy", "scipy", "numba", "scikit-learn", "dask")


@dataclass(frozen=True)
class TrainingSummary:
    """Where a mixture's parameters come from.

    Attributes
    ----------
    fitted_at : str
        When the fit was over: ISO 8601, UTC.
    fingerprint : str
        A digest of what the first pass has found: the number of rows, the sum of their weights, their means. The same
        rows, cut into the same tasks, have the same.
    store : str or None
        A digest of the files that held the rows, by their names, sizes and times; None where there were none.
    n_rows, n_missing : int
        Rows that counted, and those that were left out because of a missing value.
    sum_weight : float
    n_passes : int
        Readings of all rows.
    gap : float
        Estimated distance to the optimum at the end, nats per row.
    versions : dict of str
        Of Python, this package and those that it computes with.
    table : str or None
        Which table of a lake the rows were of, and at which version; without its place.
    where : str or None
        The condition by which they were those that were meant.
    """

    fitted_at: str
    fingerprint: str
    store: str | None
    n_rows: int
    n_missing: int
    sum_weight: float
    n_passes: int
    gap: float
    versions: dict[str, str]
    table: str | None = None
    where: str | None = None


def summarize_training(prepared: Preparation, cost: PassCost, gap: float) -> TrainingSummary:
    """Return the summary of a fit that is over now.

    Now is `SOURCE_DATE_EPOCH`, in seconds since 1970, where the environment has it: then the same fit gives the same
    file.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(int(epoch), UTC)
    found = prepared.surveyed
    counts = [str(found.n_rows), str(found.n_used), float(found.sum_weight).hex()]
    return TrainingSummary(
        fitted_at=now.isoformat(timespec="seconds"),
        fingerprint=digest([*counts, found.mean.tobytes()]),
        store=prepared.version,
        n_rows=found.n_used,
        n_missing=found.n_missing,
        sum_weight=found.sum_weight,
        n_passes=cost.n_passes,
        gap=gap,
        versions=dict(_versions()),
        table=prepared.rows.version,
        where=prepared.rows.where,
    )


@cache
def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "streamgmm": __version__}
    return own | {name: version(name) for name in _PACKAGES}
