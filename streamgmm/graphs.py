"""The graph of a pass: which parts are one task of Dask's, and the lower levels of the tree above them.

A task costs Dask some milliseconds of its worker and of the driver, which on one machine are the same processors; so
several parts are one task where a cluster has many for each of its threads. What is added up with what never depends
on that, nor on the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamgmm.rows.base import Leaf, RandomAccessRows, Rows
from streamgmm.tree import GROUP, MOST_PARTS, add_up, level, n_groups

if TYPE_CHECKING:
    from dask.delayed import Delayed

#: Parts that one task computes whose values are not added up, at most: what is lost with a worker's thread.
_MOST_TOGETHER = 4
#: Tasks for each thread that are left where parts are put together: the last ones to end should end together.
_TASKS_PER_THREAD = 8


@dataclass(frozen=True)
class LazyParts:
    """Some parts of a pass that one lazy value gives.

    Attributes
    ----------
    lazy : Delayed
        A tuple of the parts' values, or the value of the only one.
    numbers : tuple of int
    listed : bool
        Whether it is a tuple.
    n_leaves : int
        Leaves that one task of Dask's computes, at most: it begins and ends once for all of them.
    """

    lazy: Delayed
    numbers: tuple[int, ...]
    listed: bool = False
    n_leaves: int = 1

    def values(self, found: Any) -> Iterable[tuple[int, Any]]:
        """Return each part's number and value of what the lazy value has given."""
        return zip(self.numbers, found if self.listed else (found,), strict=True)


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
    if n_threads and small and isinstance(rows, RandomAccessRows) and rows.n_tasks <= _most_parts(rows):
        bundles = guided(wanted, n_threads)
        return [
            LazyParts(lazy, bundle, listed=True, n_leaves=len(bundle))
            for lazy, bundle in zip(rows.bundles(leaf, parameters, bundles, _listed), bundles, strict=True)
        ]
    # A task computes what a node of the tree's first level adds up, where that leaves each thread enough of them.
    in_groups = (
        isinstance(rows, RandomAccessRows)
        and rows.n_tasks > _most_parts(rows)
        and 0 < n_threads * _TASKS_PER_THREAD * GROUP <= rows.n_tasks
    )
    if in_groups and isinstance(rows, RandomAccessRows):
        nodes = rows.bundles(leaf, parameters, level(range(rows.n_tasks), lambda *group: group), add_up)
    else:
        nodes = rows.leaves(leaf, parameters)
    while len(nodes) > _most_parts(rows):
        nodes = level(nodes, _lazy(add_up))
    return [LazyParts(nodes[number], (number,), n_leaves=GROUP if in_groups else 1) for number in wanted]


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


def _lazy(function: Any) -> Any:
    from dask import delayed

    return delayed(function, pure=False, traverse=False)
