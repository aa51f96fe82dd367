"""The start of a fit on a sample in memory: a mixture that is grown, many seeds in short runs, the best improved.

The likelihood of a mixture has many optima. Where seeds end is a matter of chance: of many, run for a few steps, the
worse leave. Another run is grown from one component, split by split. The best are grown again from fewer components,
and single components relocated, until that gains nothing more, which mostly leads to the same optimum from wherever it
began.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from streamgmm.components.grow import CONVERGED_STEPS, FEWEST_ROWS, grow, regrow
from streamgmm.components.relocate import relocate
from streamgmm.em.anderson import Anderson
from streamgmm.em.iteration import PlainEM, run_em, start_state
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.execution.threads import run_at_once
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters, count_free_parameters
from streamgmm.gaussian.precision import SEARCH_TOLERANCE
from streamgmm.gaussian.whitening import Whitening
from streamgmm.initialization.budget import DEFAULT_BUDGET, Effort, SearchBudget
from streamgmm.initialization.comparison import compare_fits, is_well_described
from streamgmm.initialization.seeding import GivenStart, start_from_seed
from streamgmm.typing import Integers

#: The kinds of seeds, in turn: how centres are drawn, and whether distances are whitened.
_KINDS = (("k-means++", False), ("kmeans", True), ("k-means++", True), ("kmeans", False))


@dataclass(frozen=True)
class SampleSearch:
    """What is to be started, and from which rows.

    Attributes
    ----------
    problem : Problem
    covariance_type : str
    n_components : int
    init_params : str
        "sample", or how a seed is made.
    rows : RowsInMemory
        The sample; any number of its first rows are one too.
    measure : Whitening
        Coordinates in which distances are measured.
    given : GivenStart
        What the user gives.
    n_init : int
        Restarts that are asked for.
    seed : int
    n_rows, sum_weight : int, float
        Of the full data.
    grown : MixtureParameters, optional
        What `grow_on_sample` gives, where that is known.
    budget : SearchBudget
    """

    problem: Problem
    covariance_type: str
    n_components: int
    init_params: str
    rows: RowsInMemory
    measure: Whitening
    given: GivenStart
    n_init: int
    seed: int
    n_rows: int
    sum_weight: float
    grown: MixtureParameters | None = None
    budget: SearchBudget = DEFAULT_BUDGET

    @property
    def looks_for_the_start(self) -> bool:
        """Whether the optimum of the sample is searched for: else a start is given, or made from one seed."""
        return self.init_params == "sample" and self.given.empty and self.n_components > 1

    @property
    def work_per_row(self) -> int:
        """K * F: multiplications of one product of an E-step for one row."""
        n_features = self.problem.whitening.n_features
        return self.n_components * FAMILIES[self.covariance_type].n_terms(n_features)

    def on(self, rows: RowsInMemory) -> Problem:
        """Return the problem of fitting some of the rows: with the optimum of the full data, but for chance."""
        return replace(
            self.problem,
            m_step=self.problem.m_step.scale(rows.sum_weight / self.sum_weight),
            # The kernel rounds to float32 after it has whitened: for a search that is good enough with any rows.
            float32_rows=True,
            tolerance=SEARCH_TOLERANCE,
        )

    def begin(self, rows: RowsInMemory, init_params: str, *, white: bool, seed: int) -> MixtureParameters:
        """Make one start from some rows."""
        return start_from_seed(
            FAMILIES[self.covariance_type],
            self.n_components,
            init_params,
            self.given,
            z=rows.whiten(self.problem.whitening),
            coordinates=rows.whiten(self.problem.whitening if white else self.measure),
            sample_weight=rows.weight,
            whitening=self.problem.whitening,
            m_step=self.on(rows).m_step,
            seed=seed,
        )


def _search_rows(search: SampleSearch, rows_per_parameter: int) -> RowsInMemory:
    """Return the first rows of the sample, as many as a search runs on."""
    n_features = search.problem.whitening.n_features
    wanted = search.budget.count_rows(
        rows_per_parameter,
        n_parameters=count_free_parameters(search.covariance_type, search.n_components, n_features),
        work_per_row=search.work_per_row,
        n_rows=search.n_rows,
    )
    return search.rows.first(max(FEWEST_ROWS, wanted))


def find_starts(search: SampleSearch) -> list[MixtureParameters]:
    """Return where to start on the full data, the best first; others only where the sample can't tell them apart.

    With several restarts the first are those of one alone, whether or not there is a better.
    """
    rows = _search_rows(search, search.budget.rows_per_parameter)
    if search.init_params == "sample" and search.given.empty:
        if search.n_components == 1:
            return [search.begin(rows, "random_from_data", white=False, seed=search.seed)]
        # Which seed wins can depend on rounding; the order of the components is to depend on the optimum alone.
        return [_complete(search, state, rows).safe.largest_first() for state in _searched_again(search, rows)]
    init_params = "k-means++" if search.init_params == "sample" else search.init_params
    first = search.begin(search.rows, init_params, white=False, seed=search.seed)
    if search.n_init == 1 or search.given.complete:
        return [first]
    others = [search.begin(rows, init_params, white=False, seed=seed) for seed in _more_seeds(search)]
    # The first goes on whatever the sample says, and in its place: more starts never end lower.
    return [first, *(state.safe for state in _undecided(search, search.on(rows), [first, *others], rows))]


def _more_seeds(search: SampleSearch) -> list[int]:
    """Return the seeds of all starts but the first, which has that of the search itself."""
    return [int(seed) for seed in np.random.RandomState(search.seed).randint(2**31 - 1, size=search.n_init - 1)]


def _searched_again(search: SampleSearch, rows: RowsInMemory) -> list[State]:
    """Search once for each restart; return what one search alone returns, and then what is better or as good."""
    first = _searched(search, rows)
    if search.n_init == 1:
        return first
    found = list(first)
    for seed in _more_seeds(search):
        # Where the first search finds a start, others need not.
        with suppress(SingularCovarianceError):
            found += _searched(replace(search, seed=seed, grown=None), rows)
    problem = search.on(rows)
    best = _undecided(search, problem, [state.safe for state in found], rows)
    return [
        *first,
        *(state for state in best if compare_fits(problem, [state, *first], rows).count_same(state) == 1),
    ]


def converge_on_sample(search: SampleSearch, beginning: MixtureParameters) -> tuple[State, RowsInMemory]:
    """Run EM from a mixture on the rows that a search ends on; return where it ends, and those rows.

    Raises
    ------
    SingularCovarianceError
    """
    rows = _search_rows(search, search.budget.rows_per_parameter)
    return _converged(search, search.on(rows), beginning, rows), rows


def _searched(search: SampleSearch, rows: RowsInMemory) -> list[State]:
    """Return the best fits of the sample, the best first."""
    part = _search_rows(search, search.budget.search_rows_per_parameter)
    part = part if len(part) < len(rows) else rows
    problem = search.on(part)
    budget = search.budget
    n_steps = budget.count_steps(work_per_row=search.work_per_row, n_search_rows=len(part), n_rows=search.n_rows)
    effort = budget.choose_effort(n_steps)
    seeds = np.random.RandomState(search.seed).randint(2**31 - 1, size=effort.n_seeds)
    early, late = np.split(seeds, 2)
    # The first fits, and where they lead to, are told apart on fewer rows.
    few = part.first(2 * len(_one_part(part, effort.part)))
    from_one = grow_on_sample(search) if search.grown is None else search.grown
    runs = [] if from_one is None else [start_state(from_one)]
    runs += _best_seeds(search, part, early, effort, required=not runs)
    rough = replace(search.on(few), rough=True)
    ended = _all_converged(search, rough, runs, few)
    compared = compare_fits(rough, ended, few)
    apart = compared.complete().distinct()
    best, n_same = apart.best, compared.count_same(apart.best)
    # From seeds of different kinds, and grown, to one optimum: where all agree, a better one is hardly worth its time;
    # where most do, if there is nothing left to describe, or not even time to grow a mixture again.
    all_agree, most_agree = n_same == len(ended) > effort.n_kept, n_same >= max(2, 1 + effort.n_kept // 2)
    short = n_steps < 2 * budget.steps_of_growth
    if (all_agree and n_steps < budget.many_steps) or (most_agree and (short or is_well_described(rough, best, few))):
        return [_converged(search, replace(problem, rough=True), best.safe, part)]
    more = _all_converged(search, rough, _best_seeds(search, part, late, effort, required=False), few)
    ended = _all_converged(search, problem, [*apart.states, *more], part)
    finalists = compare_fits(problem, ended, part).complete().distinct().states
    if len(finalists) == 1:
        n_steps = min(n_steps, budget.steps_where_agreed)
    improved: list[State] = []
    for number, state in enumerate(finalists[: effort.n_improved]):
        if improved and n_steps < budget.steps_of_growth:
            break
        better, n_steps = _improved(search, state, part, seed=search.seed + number, n_steps=n_steps)
        improved.append(better)
    # What was improved on may still be the better one on more rows.
    pool = compare_fits(problem, [*improved, *finalists], part).distinct().indistinguishable()
    return _undecided(search, search.on(rows), [state.safe for state in pool.states], rows)


def _complete(search: SampleSearch, state: State, rows: RowsInMemory) -> State:
    """Split components where some were lost to groups of too few rows."""
    if state.safe.n_components == search.n_components:
        return state
    return grow(search.on(rows), state, rows, search.n_components, seed=search.seed)


def _improved(search: SampleSearch, state: State, rows: RowsInMemory, *, seed: int, n_steps: int) -> tuple[State, int]:
    """Grow a fit again from fewer components until that fails, then relocate components one by one.

    Parameters
    ----------
    search : Search
    state : State
        A fit to these rows.
    rows : RowsInMemory
    seed : int
    n_steps : int
        EM steps that this may take, about.

    Returns
    -------
    state : State
    n_steps : int
        Those that are left.
    """
    problem, budget = search.on(rows), search.budget
    n_growths = int(np.clip(n_steps // (2 * budget.steps_of_growth), 1, budget.most_growths))
    part = _one_part(rows, budget.growth_part)
    failed = 0
    for number in range(n_growths):
        again = regrow(problem, state, rows, part, tol=search.budget.tol, seed=budget.most_growths * seed + number)
        n_steps -= budget.steps_of_growth
        failed = failed + 1 if again is state else 0
        state = again
        if failed == budget.failed_growths:
            break
    return relocate(problem, state, rows, tol=search.budget.tol, seed=seed, n_steps=max(n_steps, 1))


def _undecided(
    search: SampleSearch, problem: Problem, beginnings: list[MixtureParameters], rows: RowsInMemory
) -> list[State]:
    """Converge fits, and keep the best and those that the rows can't tell from it, a few at most."""
    states = _all_converged(search, problem, [start_state(beginning) for beginning in beginnings], rows)
    undecided = compare_fits(problem, states, rows).distinct().indistinguishable()
    return list(undecided.states[: search.budget.most_undecided])


def _one_part(rows: RowsInMemory, of: int) -> RowsInMemory:
    return rows.first(max(len(rows) // of, FEWEST_ROWS))


def grow_on_sample(search: SampleSearch) -> MixtureParameters | None:
    """Grow a mixture from one component; None where the rows don't let it grow so far."""
    part = _one_part(_search_rows(search, search.budget.search_rows_per_parameter), search.budget.growth_part)
    one = replace(search, n_components=1).begin(part, "random_from_data", white=False, seed=search.seed)
    state = grow(search.on(part), start_state(one), part, search.n_components, seed=search.seed)
    return state.safe if state.safe.n_components == search.n_components else None


def _best_seeds(
    search: SampleSearch, rows: RowsInMemory, seeds: Integers, effort: Effort, *, required: bool
) -> list[State]:
    """Run seeds for a few steps on some of the rows, and keep the best.

    Raises
    ------
    SingularCovarianceError
        If every seed ends so, and any is `required`.
    """
    part = _one_part(rows, effort.part)

    def run(number: int, seed: int) -> State | SingularCovarianceError:
        init_params, white = _KINDS[number % len(_KINDS)]
        try:
            return _short_run(search, search.begin(part, init_params, white=white, seed=seed), part)
        except SingularCovarianceError as error:
            return error

    calls = [partial(run, number, int(seed)) for number, seed in enumerate(seeds)]
    found = run_at_once(calls, work=search.work_per_row * len(part))
    states = [one for one in found if isinstance(one, State)]
    if required and not states:
        raise next(one for one in found if isinstance(one, SingularCovarianceError))
    return sorted(states, key=lambda state: -state.lower_bound)[: effort.n_kept]


def _short_run(search: SampleSearch, beginning: MixtureParameters, rows: RowsInMemory) -> State:
    problem = replace(search.on(rows), rough=True)
    return run_em(
        problem,
        start_state(beginning),
        rows.read,
        PlainEM(),
        tol=search.budget.tol,
        max_iter=search.budget.n_seed_steps,
    )


def _converged(search: SampleSearch, problem: Problem, beginning: MixtureParameters, rows: RowsInMemory) -> State:
    return run_em(
        problem, start_state(beginning), rows.read, Anderson(), tol=search.budget.tol, max_iter=CONVERGED_STEPS
    )


def _all_converged(search: SampleSearch, problem: Problem, states: list[State], rows: RowsInMemory) -> list[State]:
    work = max((state.safe.natural_parameters().size for state in states), default=0) * len(rows)
    return run_at_once([partial(_converged, search, problem, state.safe, rows) for state in states], work=work)
