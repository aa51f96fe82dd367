"""The graph of a pass: which parts are one task of Dask's, and the lower levels of the tree above them.

A task costs Dask some milliseconds of its worker and of the driver, which on one machine are the same processors; so
several parts are one task where a cluster has many for each of its threads. What is added up with what never depends
on that, nor on the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamgmm.execution.tasks import tasks_of
from streamgmm.execution.tree_reduce import GROUP, MOST_PARTS, LazyParts, add_up, combine_level, count_groups
from streamgmm.sources.base import BlockFunction, Rows

if TYPE_CHECKING:
    from dask.delayed import Delayed

#: Parts that one task computes whose values are not added up, at most: what is lost with a worker's thread.
_MOST_TOGETHER = 4
#: Tasks for each thread that are left where parts are put together: the last ones to end should end together.
_TASKS_PER_THREAD = 8


def count_parts(rows: Rows) -> int:
    """Return how many parts a pass has: its tasks, or the first level of the tree with few enough values."""
    return count_groups(rows.n_tasks, _most_parts(rows))


def _most_parts(rows: Rows) -> int:
    return 1 if rows.n_rows is None else MOST_PARTS


def build_parts(
    rows: Rows,
    function: BlockFunction,
    parameters: Any,
    wanted: Sequence[int],
    *,
    n_threads: int = 0,
    small: bool = False,
) -> list[LazyParts]:
    """Return lazy values of the parts wanted, in ascending order.

    Parameters
    ----------
    rows : Rows
    function : callable
    parameters : object
    wanted : sequence of int
    n_threads : int, default=0
        Of the cluster that will compute them; 0 where they had better be many.
    small : bool, default=False
        Whether a worker may hold the values of several parts until all are there.
    """
    most, tasks = _most_parts(rows), tasks_of(rows)
    if n_threads and small and rows.n_tasks <= most:
        groups = guided_groups(wanted, n_threads)
        nodes = tasks.for_groups(function, parameters, groups, _listed)
        if nodes is not None:
            return [
                LazyParts(node, group, listed=True, n_parts_of_task=len(group))
                for node, group in zip(nodes, groups, strict=True)
            ]
    elif n_threads and rows.n_tasks > most and rows.n_tasks >= n_threads * _TASKS_PER_THREAD * GROUP:
        # A task computes what a node of the tree's first level adds up.
        nodes = tasks.for_groups(function, parameters, combine_level(range(rows.n_tasks), _listed), add_up)
        if nodes is not None:
            return _reduced(nodes, most, wanted, n_parts_of_task=GROUP)
    return _reduced(tasks.for_parts(function, parameters), most, wanted, n_parts_of_task=1)


def _reduced(nodes: list[Delayed], most: int, wanted: Sequence[int], *, n_parts_of_task: int) -> list[LazyParts]:
    """Add the tree's levels up to that of the parts; return those that are wanted."""
    from dask import delayed

    combine = delayed(add_up, pure=False, traverse=False)
    while len(nodes) > most:
        nodes = combine_level(nodes, combine)
    return [LazyParts(nodes[number], (number,), n_parts_of_task=n_parts_of_task) for number in wanted]


def guided_groups(numbers: Sequence[int], n_threads: int) -> list[tuple[int, ...]]:
    """Put parts together: each bundle takes a thread's share of half of what is left, so that the last ones are small.

    Source: C. D. Polychronopoulos, D. J. Kuck, "Guided self-scheduling: a practical scheduling scheme for parallel
    supercomputers", IEEE Transactions on Computers C-36(12), 1987; here of half of what is left, and with a bound on
    the size.

    Examples
    --------
    >>> [len(group) for group in guided_groups(range(20), 2)]
    [4, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1]
    """
    bundles = []
    start = 0
    while start < len(numbers):
        size = max(1, min(_MOST_TOGETHER, (len(numbers) - start) // (2 * n_threads)))
        bundles.append(tuple(numbers[start : start + size]))
        start += size
    return bundles


def _listed(*values: Any) -> tuple[Any, ...]:
    return values
