"""What a fit did and what it cost, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from streamgmm.em.convergence import StopReason
from streamgmm.em.state import State
from streamgmm.execution.passes import PassCost
from streamgmm.fitting.display import show_facts, show_table
from streamgmm.typing import Floats
from streamgmm.units import show_size

#: The share of a variance above which regularisation is reported, and how many components are named.
_NOTICED, _MOST_NAMED = 0.01, 5


@dataclass(frozen=True)
class PassReport:
    """One iteration.

    Attributes
    ----------
    label : str
        What proposed its parameters: "start", "EM", "Anderson", "surrogate", "reseed".
    kernel : str
        The arithmetic: "float32", "float64", "centered".
    lower_bound : float
        The bound at the best parameters after it, nats per row.
    accepted : bool
        Whether its parameters were kept.
    """

    label: str
    kernel: str
    lower_bound: float
    accepted: bool


@dataclass(frozen=True)
class FitReport:
    """What a fit did and what it cost; ``print(model.fit_report_)``.

    Attributes
    ----------
    n_passes : int
        Readings of all rows, the first one, which draws the sample, included.
    n_rows, n_bytes : int
        Rows read in all passes, and their decoded bytes.
    seconds : float
        Of the whole fit.
    seconds_in_passes : float
        From the beginning to the end of each pass.
    seconds_reading, seconds_computing : float
        Summed over the tasks of all passes. (What Dask collections read before a task is not seen.)
    sample_size : int
        Rows of the sample.
    in_memory : bool
        Whether the sample held all rows, so that nothing was read after it.
    n_rejected : int
        Proposals that were thrown away, each at the cost of a pass.
    gap : float
        Estimated distance to the optimum at the end, nats per row.
    tol : float
        The distance at which the fit was to stop.
    smallest_weight : float
        Mixing proportion of the smallest component.
    regularized : tuple of (int, float)
        The components of whose variance, in some direction, more than 1 % is regularisation, and that share of it.
    stop_reason : StopReason
    iterations : tuple of PassReport
    """

    n_passes: int
    n_rows: int
    n_bytes: int
    seconds: float
    seconds_in_passes: float
    seconds_reading: float
    seconds_computing: float
    sample_size: int
    in_memory: bool
    n_rejected: int
    gap: float
    tol: float
    smallest_weight: float
    regularized: tuple[tuple[int, float], ...]
    stop_reason: StopReason
    iterations: tuple[PassReport, ...]

    def __str__(self) -> str:
        where = "all rows in memory" if self.in_memory else f"a sample of {self.sample_size:,} rows"
        facts = [
            ("optimum", f"{self.gap:.0e} nats per row away, estimated; the fit was to stop under {self.tol:g}"),
            ("data", f"{_times(self.n_passes)}: {self.n_rows:,} rows, {show_size(self.n_bytes)} once decoded"),
            (
                "time",
                f"{self.seconds:.2f} s: {self.seconds_in_passes:.2f} s in passes (their tasks: "
                f"{self.seconds_reading:.2f} s reading, {self.seconds_computing:.2f} s computing), the rest on {where}",
            ),
            ("smallest component", f"{self.smallest_weight:.2%} of the rows"),
            ("steps taken back", f"{self.n_rejected} of {len(self.iterations)}"),
            *([("regularized", self._regularized())] if self.regularized else []),
        ]
        table = show_table(
            [("iteration", True), ("step", False), ("arithmetic", False), ("nats per row", True), ("", False)],
            [
                (str(number), one.label, one.kernel, f"{one.lower_bound:.9f}", "" if one.accepted else "taken back")
                for number, one in enumerate(self.iterations, 1)
            ],
        )
        return f"{show_facts(f'{self.stop_reason.value}: {self.stop_reason.advice}', facts)}\n\n{table}"

    def _regularized(self) -> str:
        """Name the components that regularization has changed, the most changed first."""
        most = sorted(self.regularized, key=lambda one: -one[1])
        named = ", ".join(f"{component} ({share:.0%})" for component, share in most[:_MOST_NAMED])
        more = f" and {len(most) - _MOST_NAMED} more" if len(most) > _MOST_NAMED else ""
        return f"components {named}{more}: the share of a variance that comes from reg_covar"


def make_report(
    state: State,
    *,
    regularized: Floats,
    tol: float,
    sample_size: int,
    in_memory: bool,
    cost: PassCost,
    seconds: float,
) -> FitReport:
    """Make the report of a fit that is over."""
    if state.stop_reason is None:
        raise ValueError("the fit is not over")
    iterations = tuple(
        PassReport(label, kernel.value, bound, accepted)
        for label, kernel, bound, accepted in zip(
            state.labels, state.kernels, state.lower_bounds, state.accepted, strict=True
        )
    )
    return FitReport(
        n_passes=cost.n_passes,
        n_rows=cost.n_rows,
        n_bytes=cost.n_bytes,
        seconds=seconds,
        seconds_in_passes=cost.elapsed,
        seconds_reading=cost.reading,
        seconds_computing=cost.computing,
        sample_size=sample_size,
        in_memory=in_memory,
        n_rejected=state.n_rejected,
        gap=state.gap,
        tol=tol,
        smallest_weight=float(state.safe.weights.min()),
        regularized=tuple((k, float(share)) for k, share in enumerate(regularized) if share > _NOTICED),
        stop_reason=state.stop_reason,
        iterations=iterations,
    )


def _times(n: int) -> str:
    return "read once" if n == 1 else f"read {n} times"
