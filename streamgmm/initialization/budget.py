"""What the search on the sample may cost, and how much it tries: all of its numbers, and what each rests on.

Costs are in steps: an EM step on the search's rows costs n_components * n_terms multiplications for each row, with
n_terms the length of a row's features phi. `tests.benchmarks.passes` and `tests.benchmarks.endtoend` measure the search
on a dozen data sets; where a number was chosen by them, that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Effort:
    """How much one search tries.

    Attributes
    ----------
    n_seeds : int
        In two batches.
    n_kept : int
        Seeds of each batch whose runs are converged.
    n_improved : int
        Of the fits that were found so, those that are improved.
    part : int
        Seeds are run at first on one of so many parts of the rows.
    """

    n_seeds: int
    n_kept: int
    n_improved: int
    part: int


@dataclass(frozen=True)
class SearchBudget:
    """The numbers of a search.

    Attributes
    ----------
    rows_per_parameter : int
        Rows of the sample for each free parameter, on which a search ends. Measured: with about 11 it ends at optima
        that are the sample's alone.
    search_rows_per_parameter : int
        The same while it goes on: half of it tells good optima from bad ones, at half the cost.
    largest_share : float
        Where these are a large part of all rows, a search takes at most this share of them, but
    fewest_per_parameter : int
        so many for each parameter.
    least_step_work, most_step_work : int
        Multiplications of one step: fewer than the first cost hardly less (some milliseconds on one core), more than
        the second make a search longer than it is worth.
    n_passes, work : int
        What a search may cost: so many passes over the full data, or so many multiplications, whatever is more. A
        search that costs 20 passes saves more than that: from a random start EM takes a hundred.
    steps_before : int
        EM steps that seeds, growth and the first fits take, about.
    steps_of_growth : int
        Those of growing a fit again.
    steps_where_agreed : int
        Those to improve a fit that all the first ones agree on: in the benchmarks nothing better came later.
    n_seed_steps : int
        EM steps after which the worse seeds leave: by then their order is nearly that of their optima.
    growth_part : int
        The part of a search's rows on which mixtures are grown.
    most_growths, failed_growths : int
        A fit is grown again so often at most, in half of the steps, and until that has failed so many times in a row.
    most_undecided : int
        Fits that go on together on the full data, at most, where the sample can't tell them apart.
    tol : float
        Nats per row to which the runs of a search are converged.
    effort, more_effort : Effort
        How much is tried; more where it may take `many_steps`.
    many_steps : int
    """

    rows_per_parameter: int = 100
    search_rows_per_parameter: int = 50
    largest_share: float = 1 / 8
    fewest_per_parameter: int = 10
    least_step_work: int = 10_000_000
    most_step_work: int = 300_000_000
    n_passes: int = 20
    work: int = 40_000_000_000
    steps_before: int = 100
    steps_of_growth: int = 60
    steps_where_agreed: int = 360
    n_seed_steps: int = 10
    growth_part: int = 8
    most_growths: int = 8
    failed_growths: int = 3
    most_undecided: int = 3
    tol: float = 1e-4
    effort: Effort = field(default=Effort(8, 2, 2, part=8))
    more_effort: Effort = field(default=Effort(16, 4, 2, part=2))
    many_steps: int = 1000

    def count_rows(self, rows_per_parameter: int, *, n_parameters: int, work_per_row: int, n_rows: int) -> int:
        """Return how many rows a search runs on, where the sample has them.

        Parameters
        ----------
        rows_per_parameter : int
            Of the end of the search, or of while it goes on.
        n_parameters : int
            Free parameters of the mixture.
        work_per_row : int
            Multiplications of a step for one row.
        n_rows : int
            Of the full data.
        """
        share = rows_per_parameter / self.search_rows_per_parameter
        wanted = max(rows_per_parameter * n_parameters, share * self.least_step_work / work_per_row)
        few = share * max(
            self.largest_share * n_rows,
            self.fewest_per_parameter * n_parameters,
            self.least_step_work / (2.0 * work_per_row),
        )
        affordable = share * self.most_step_work / work_per_row
        return int(min(wanted, few, affordable))

    def count_steps(self, *, work_per_row: int, n_search_rows: int, n_rows: int) -> int:
        """Return how many EM steps are left to improve what seeds and growth have found."""
        work = max(self.work, self.n_passes * n_rows * work_per_row)
        return int(work / (work_per_row * n_search_rows)) - self.steps_before

    def choose_effort(self, n_steps: int) -> Effort:
        """Return how much is tried where a search may take so many steps."""
        return self.effort if n_steps < self.many_steps else self.more_effort


#: What a search has where nothing else is said.
DEFAULT_BUDGET = SearchBudget()
