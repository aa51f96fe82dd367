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

from streamgmm.components.grow import CONVERGED_STEPS, FEWEST_ROWS, grown, regrown
from streamgmm.components.relocate import relocated
from streamgmm.em import iteration as em
from streamgmm.em.anderson import Anderson
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import Problem, State
from streamgmm.exceptions import SingularCovarianceError
from streamgmm.execution.threads import at_once
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.precision import SEARCH_TOLERANCE
from streamgmm.gaussian.whitening import Frame
from streamgmm.initialization.comparison import close, different, n_at_the_same_optimum, well_described
from streamgmm.initialization.seeding import GivenStart, start
from streamgmm.typing import Integers

#: The kinds of seeds, in turn: how centres are drawn, and whether distances are those of the white frame.
_KINDS = (("k-means++", False), ("kmeans", True), ("k-means++", True), ("kmeans", False))
#: EM steps after which the worse seeds leave.
_STEPS = 10
#: The part of a search's rows on which mixtures are grown.
_GROWTH_PART = 8
#: A fit is grown again so often at most, in half of the steps, and until that has failed so many times in a row.
_MOST_GROWTHS, _FAILED_GROWTHS = 8, 3
#: Rows of the sample for each free parameter, at the end of a search and while it goes on. (About 11 at the end were
#: seen to lead to spurious optima.)
ROWS_PER_PARAMETER, _SEARCH_ROWS_PER_PARAMETER = 100, 50
#: Where these are a large part of all rows, a search takes fewer: at most this share, but so many for each parameter,
#: and as many as half of the least work of a step allows.
_LARGEST_SHARE, _FEWEST_PER_PARAMETER = 1 / 8, 10
#: K * F * rows of one step of a search: at least, where there are so many rows, a few thousandths of a second (fewer
#: cost hardly less), and at most some hundredths.
_LEAST_STEP_WORK, _STEP_WORK = 10_000_000, 300_000_000
#: What a search may cost: so many passes over the full data, or this much (K * F * rows), whatever is more.
_SEARCH_PASSES, _SEARCH_WORK = 20, 40_000_000_000
#: EM steps that seeds, growth and the first fits take, and those of growing a fit again, about.
_STEPS_BEFORE, _STEPS_OF_GROWTH = 100, 60
#: EM steps to improve a fit that all the first ones agree on.
_STEPS_WHERE_AGREED = 360
#: Nats per row to which the runs of a search are converged.
_SEARCH_TOL = 1e-4


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


#: Of a search; more where it may take so many steps.
_EFFORT, _MORE_EFFORT, _MANY_STEPS = Effort(8, 2, 2, part=8), Effort(16, 4, 2, part=2), 1000
#: Fits that go on together on the full data, at most, where the sample can't tell them apart.
_MOST_UNDECIDED = 3


@dataclass(frozen=True)
class Search:
    """What is to be started, and from which rows.

    Attributes
    ----------
    problem : Problem
    covariance_type : str
    n_components : int
    init_params : str
        One of `INIT_PARAMS`.
    rows : RowsInMemory
        The sample; any number of its first rows are one too.
    measure : Frame
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
    """

    problem: Problem
    covariance_type: str
    n_components: int
    init_params: str
    rows: RowsInMemory
    measure: Frame
    given: GivenStart
    n_init: int
    seed: int
    n_rows: int
    sum_weight: float
    grown: MixtureParameters | None = None

    @property
    def looks_for_the_start(self) -> bool:
        """Whether the optimum of the sample is searched for: else a start is given, or made from one seed."""
        return self.init_params == "sample" and self.given.empty and self.n_components > 1

    @property
    def work_per_row(self) -> int:
        """K * F: multiplications of one product of an E-step for one row."""
        n_features = self.problem.frame.n_features
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
        return start(
            FAMILIES[self.covariance_type],
            self.n_components,
            init_params,
            self.given,
            z=rows.in_frame(self.problem.frame),
            coordinates=rows.in_frame(self.problem.frame if white else self.measure),
            sample_weight=rows.weight,
            frame=self.problem.frame,
            m_step=self.on(rows).m_step,
            seed=seed,
        )


def n_search_rows(search: Search, rows_per_parameter: int) -> int:
    """Return how many rows a search runs on, where the sample has them."""
    n_components, n_features = search.n_components, search.problem.frame.n_features
    n_parameters = n_free_parameters(search.covariance_type, n_components, n_features)
    share = rows_per_parameter / _SEARCH_ROWS_PER_PARAMETER
    wanted = max(rows_per_parameter * n_parameters, share * _LEAST_STEP_WORK / search.work_per_row)
    few = share * max(
        _LARGEST_SHARE * search.n_rows,
        _FEWEST_PER_PARAMETER * n_parameters,
        _LEAST_STEP_WORK / (2.0 * search.work_per_row),
    )
    affordable = share * _STEP_WORK / search.work_per_row
    return max(FEWEST_ROWS, int(min(wanted, few, affordable)))


def n_free_parameters(covariance_type: str, n_components: int, n_features: int) -> int:
    """Return the number of free parameters of a mixture."""
    family = FAMILIES[covariance_type]
    return family.n_covariance_parameters(n_components, n_features) + n_components * (n_features + 1) - 1


def best_starts(search: Search) -> list[MixtureParameters]:
    """Return where to start on the full data, the best first; others only where the sample can't tell them apart.

    With several restarts the first are those of one alone, whether or not there is a better.
    """
    rows = search.rows.first(n_search_rows(search, ROWS_PER_PARAMETER))
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
    return [first, *(state.safe for state in _undecided(search.on(rows), [first, *others], rows))]


def _more_seeds(search: Search) -> list[int]:
    """Return the seeds of all starts but the first, which has that of the search itself."""
    return [int(seed) for seed in np.random.RandomState(search.seed).randint(2**31 - 1, size=search.n_init - 1)]


def _searched_again(search: Search, rows: RowsInMemory) -> list[State]:
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
    best = _undecided(problem, [state.safe for state in found], rows)
    return [*first, *(state for state in best if n_at_the_same_optimum(problem, state, first, rows) == 0)]


def converge_on_sample(search: Search, beginning: MixtureParameters) -> tuple[State, RowsInMemory]:
    """Run EM from a mixture on the rows that a search ends on; return where it ends, and those rows.

    Raises
    ------
    SingularCovarianceError
    """
    rows = search.rows.first(n_search_rows(search, ROWS_PER_PARAMETER))
    return _converged(search.on(rows), beginning, rows), rows


def _searched(search: Search, rows: RowsInMemory) -> list[State]:
    """Return the best fits of the sample, the best first."""
    part = rows.first(n_search_rows(search, _SEARCH_ROWS_PER_PARAMETER))
    problem = search.on(part)
    work = max(_SEARCH_WORK, _SEARCH_PASSES * search.n_rows * search.work_per_row)
    n_steps = int(work / (search.work_per_row * len(part))) - _STEPS_BEFORE
    effort = _EFFORT if n_steps < _MANY_STEPS else _MORE_EFFORT
    seeds = np.random.RandomState(search.seed).randint(2**31 - 1, size=effort.n_seeds)
    early, late = np.split(seeds, 2)
    # The first fits, and where they lead to, are told apart on fewer rows.
    few = part.first(2 * len(_one_part(part, effort.part)))
    from_one = grow_on_sample(search) if search.grown is None else search.grown
    runs = [] if from_one is None else [em.init(from_one)]
    runs += _best_seeds(search, part, early, effort, required=not runs)
    rough = replace(search.on(few), rough=True)
    ended = _all_converged(rough, runs, few)
    apart = _finalists(rough, ended, few)
    best, n_same = apart[0], n_at_the_same_optimum(rough, apart[0], ended, few)
    # From seeds of different kinds, and grown, to one optimum: where all agree, a better one is hardly worth its time;
    # where most do, if there is nothing left to describe, or not even time to grow a mixture again.
    all_agree, most_agree = n_same == len(ended) > effort.n_kept, n_same >= max(2, 1 + effort.n_kept // 2)
    short = n_steps < 2 * _STEPS_OF_GROWTH
    if (all_agree and n_steps < _MANY_STEPS) or (most_agree and (short or well_described(rough, best, few))):
        return [_converged(replace(problem, rough=True), best.safe, part)]
    apart += _all_converged(rough, _best_seeds(search, part, late, effort, required=False), few)
    finalists = _finalists(problem, _all_converged(problem, apart, part), part)
    if len(finalists) == 1:
        n_steps = min(n_steps, _STEPS_WHERE_AGREED)
    improved: list[State] = []
    for number, state in enumerate(finalists[: effort.n_improved]):
        if improved and n_steps < _STEPS_OF_GROWTH:
            break
        better, n_steps = _improved(search, state, part, seed=search.seed + number, n_steps=n_steps)
        improved.append(better)
    # What was improved on may still be the better one on more rows.
    pool = close(problem, different(problem, [*improved, *finalists], part), part)
    return _undecided(search.on(rows), [state.safe for state in pool], rows)


def _finalists(problem: Problem, states: list[State], rows: RowsInMemory) -> list[State]:
    """Return fits that differ, the best first; one that has lost components is second to any that has not."""
    most = max(state.safe.n_components for state in states)
    return different(problem, [state for state in states if state.safe.n_components == most], rows)


def _complete(search: Search, state: State, rows: RowsInMemory) -> State:
    """Split components where some were lost to groups of too few rows."""
    if state.safe.n_components == search.n_components:
        return state
    return grown(search.on(rows), state, rows, search.n_components, seed=search.seed)


def _improved(search: Search, state: State, rows: RowsInMemory, *, seed: int, n_steps: int) -> tuple[State, int]:
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
    problem = search.on(rows)
    n_growths = int(np.clip(n_steps // (2 * _STEPS_OF_GROWTH), 1, _MOST_GROWTHS))
    part = _one_part(rows, _GROWTH_PART)
    failed = 0
    for number in range(n_growths):
        again = regrown(problem, state, rows, part, tol=_SEARCH_TOL, seed=_MOST_GROWTHS * seed + number)
        n_steps -= _STEPS_OF_GROWTH
        failed = failed + 1 if again is state else 0
        state = again
        if failed == _FAILED_GROWTHS:
            break
    return relocated(problem, state, rows, tol=_SEARCH_TOL, seed=seed, n_steps=max(n_steps, 1))


def _undecided(problem: Problem, beginnings: list[MixtureParameters], rows: RowsInMemory) -> list[State]:
    """Converge fits, and keep the best and those that the rows can't tell from it, a few at most."""
    states = _all_converged(problem, [em.init(beginning) for beginning in beginnings], rows)
    return close(problem, different(problem, states, rows), rows)[:_MOST_UNDECIDED]


def _one_part(rows: RowsInMemory, of: int) -> RowsInMemory:
    return rows.first(max(len(rows) // of, FEWEST_ROWS))


def grow_on_sample(search: Search) -> MixtureParameters | None:
    """Grow a mixture from one component; None where the rows don't let it grow so far."""
    part = _one_part(search.rows.first(n_search_rows(search, _SEARCH_ROWS_PER_PARAMETER)), _GROWTH_PART)
    one = replace(search, n_components=1).begin(part, "random_from_data", white=False, seed=search.seed)
    state = grown(search.on(part), em.init(one), part, search.n_components, seed=search.seed)
    return state.safe if state.safe.n_components == search.n_components else None


def _best_seeds(search: Search, rows: RowsInMemory, seeds: Integers, effort: Effort, *, required: bool) -> list[State]:
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
    found = at_once(calls, work=search.work_per_row * len(part))
    states = [one for one in found if isinstance(one, State)]
    if required and not states:
        raise next(one for one in found if isinstance(one, SingularCovarianceError))
    return sorted(states, key=lambda state: -state.lower_bound)[: effort.n_kept]


def _short_run(search: Search, beginning: MixtureParameters, rows: RowsInMemory) -> State:
    problem = replace(search.on(rows), rough=True)
    return em.run(problem, em.init(beginning), rows.read, em.PlainEM(), tol=_SEARCH_TOL, max_iter=_STEPS)


def _converged(problem: Problem, beginning: MixtureParameters, rows: RowsInMemory) -> State:
    return em.run(problem, em.init(beginning), rows.read, Anderson(), tol=_SEARCH_TOL, max_iter=CONVERGED_STEPS)


def _all_converged(problem: Problem, states: list[State], rows: RowsInMemory) -> list[State]:
    work = max((state.safe.natural_parameters().size for state in states), default=0) * len(rows)
    return at_once([partial(_converged, problem, state.safe, rows) for state in states], work=work)
