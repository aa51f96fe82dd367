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

#: Parts that one task computes whose values are not added up, at most: what is lost with a worker.
_MOST_TOGETHER = 4
#: Tasks for each thread that are left where parts are put together: the last ones to end should end together.
_TASKS_PER_THREAD = 8


@dataclass(frozen=True)
class LazyParts:
    """Some parts of a pass that one lazy value gives: their tuple, or the value itself of a single one."""

    lazy: Delayed
    numbers: tuple[int, ...]

    def values(self, found: Any) -> Iterable[tuple[int, Any]]:
        """Return each part's number and value of what the lazy value has given."""
        return zip(self.numbers, (found,) if len(self.numbers) == 1 else found, strict=True)


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
        bundles = factored(wanted, n_threads)
        return [
            LazyParts(lazy, bundle)
            for lazy, bundle in zip(rows.bundles(leaf, parameters, bundles, _listed), bundles, strict=True)
        ]
    nodes = _summed(rows, leaf, parameters, n_threads)
    while len(nodes) > _most_parts(rows):
        nodes = level(nodes, _lazy(add_up))
    return [LazyParts(nodes[number], (number,)) for number in wanted]


def _summed(rows: Rows, leaf: Leaf, parameters: Any, n_threads: int) -> list[Delayed]:
    """Return the leaves, or the level above them where a task can compute what one of its nodes adds up."""
    enough = 0 < n_threads * _TASKS_PER_THREAD * GROUP <= rows.n_tasks
    if not enough or not isinstance(rows, RandomAccessRows) or rows.n_tasks <= _most_parts(rows):
        return rows.leaves(leaf, parameters)
    numbers = range(rows.n_tasks)
    return rows.bundles(leaf, parameters, level(numbers, lambda *group: group), add_up)


def factored(numbers: Sequence[int], n_threads: int) -> list[tuple[int, ...]]:
    """Put parts together: in each step half of what is left is shared out, so that large tasks come before small ones.

    Source: S. F. Hummel, E. Schonberg, L. E. Flynn, "Factoring: a method for scheduling parallel loops", CACM 35(8),
    1992; here with a bound on the size.

    Examples
    --------
    >>> [len(bundle) for bundle in factored(range(20), 2)]
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
