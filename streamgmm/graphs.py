"""The graph of a pass: which parts are one task of Dask's, and the lower levels of the tree above them.

A task costs Dask some milliseconds of its worker and of the driver, which on one machine are the same processors; so
several parts are one task where a cluster has many for each of its threads. What is added up with what never depends
on that, nor on the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamgmm.rows.base import Leaf, RandomAccessRows, Rows
from streamgmm.tree import GROUP, MOST_PARTS, LazyParts, add_up, level, n_groups

if TYPE_CHECKING:
    from dask.delayed import Delayed

#: Parts that one task computes whose values are not added up, at most: what is lost with a worker's thread.
_MOST_TOGETHER = 4
#: Tasks for each thread that are left where parts are put together: the last ones to end should end together.
_TASKS_PER_THREAD = 8


def n_parts(rows: Rows) -> int:
    """Return how many parts a pass has: its tasks, or the first level of the tree with few enough values."""
    return n_groups(rows.n_tasks, _most_parts(rows))


def _most_parts(rows: Rows) -> int:
    return 1 if rows.n_rows is None else MOST_PARTS


def lazy_parts(
    rows: Rows, leaf: Leaf, parameters: Any, wanted: Sequence[int], *, n_threads: int = 0, small: bool = False
) -> list[LazyParts]:
    """Return lazy values of the parts wanted, in ascending order.

    Parameters
    ----------
    rows : Rows
    leaf : callable
    parameters : object
    wanted : sequence of int
    n_threads : int, default=0
        Of the cluster that will compute them; 0 where they had better be many.
    small : bool, default=False
        Whether a worker may hold the values of several parts until all are there.
    """
    most = _most_parts(rows)
    if isinstance(rows, RandomAccessRows) and n_threads:
        if small and rows.n_tasks <= most:
            bundles = guided(wanted, n_threads)
            nodes = rows.bundles(leaf, parameters, bundles, _listed)
            return [
                LazyParts(node, one, listed=True, n_leaves=len(one)) for node, one in zip(nodes, bundles, strict=True)
            ]
        if rows.n_tasks > most and rows.n_tasks >= n_threads * _TASKS_PER_THREAD * GROUP:
            # A task computes what a node of the tree's first level adds up.
            groups = level(range(rows.n_tasks), _listed)
            return _reduced(rows.bundles(leaf, parameters, groups, add_up), most, wanted, n_leaves=GROUP)
    return _reduced(rows.leaves(leaf, parameters), most, wanted, n_leaves=1)


def _reduced(nodes: list[Delayed], most: int, wanted: Sequence[int], *, n_leaves: int) -> list[LazyParts]:
    """Add the tree's levels up to that of the parts; return those that are wanted."""
    from dask import delayed

    combine = delayed(add_up, pure=False, traverse=False)
    while len(nodes) > most:
        nodes = level(nodes, combine)
    return [LazyParts(nodes[number], (number,), n_leaves=n_leaves) for number in wanted]


def guided(numbers: Sequence[int], n_threads: int) -> list[tuple[int, ...]]:
    """Put parts together: each bundle takes a thread's share of half of what is left, so that the last ones are small.

    Source: C. D. Polychronopoulos, D. J. Kuck, "Guided self-scheduling: a practical scheduling scheme for parallel
    supercomputers", IEEE Transactions on Computers C-36(12), 1987; here of half of what is left, and with a bound on
    the size.

    Examples
    --------
    >>> [len(bundle) for bundle in guided(range(20), 2)]
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
