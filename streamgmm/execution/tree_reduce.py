"""Values that add up with `+`, added in groups by their place: the same bits in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask.delayed import Delayed

#: Values that one node of the tree adds up.
GROUP = 8
#: Parts of a pass that come to the process that runs it one by one. Of rows of an unknown number there is one: each may
#: hold a whole sample, since none can tell its share.
MOST_PARTS = 64


def add_up(*values: Any) -> Any:
    """Add values up: all at once where their class has `merged`, else one by one."""
    if len(values) == 1:
        return values[0]
    merged = getattr(type(values[0]), "merged", None)
    return reduce(add, values) if merged is None else merged(values)


def combine_level(values: Sequence[Any], combine: Callable[..., Any]) -> list[Any]:
    """Combine values in groups: one level of the tree."""
    return [combine(*values[start : start + GROUP]) for start in range(0, len(values), GROUP)]


def count_groups(n: int, most: int) -> int:
    """Return how many values are left at the first level of the tree that has no more than `most`."""
    while n > most:
        n = -(-n // GROUP)
    return n


def reduce_tree(values: Sequence[Any]) -> Any:
    """Add values up until one is left."""
    while len(values) > 1:
        values = combine_level(values, add_up)
    return values[0]


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
    n_parts_of_task : int
        Leaves that one task of Dask's computes, at most: it begins and ends once for all of them.
    """

    lazy: Delayed
    numbers: tuple[int, ...]
    listed: bool = False
    n_parts_of_task: int = 1

    def values(self, found: Any) -> Iterable[tuple[int, Any]]:
        """Return each part's number and value of what the lazy value has given."""
        return zip(self.numbers, found if self.listed else (found,), strict=True)


class TreeReduction:
    """Adds up `n` values that come in any order; holds no more of them than are waiting for others of their group.

    Attributes
    ----------
    total : object
        Once all have come, what `reduce_tree` gives for them.
    """

    def __init__(self, n: int) -> None:
        self.total: Any = None
        self._sizes = [n]
        while self._sizes[-1] > 1:
            self._sizes.append(-(-self._sizes[-1] // GROUP))
        self._waiting: dict[tuple[int, int], dict[int, Any]] = {}

    def put(self, number: int, value: Any) -> None:
        """Take the value of a place."""
        for depth, size in enumerate(self._sizes):
            if size == 1:
                self.total = value
                return
            group = number // GROUP
            waiting = self._waiting.setdefault((depth, group), {})
            waiting[number] = value
            if len(waiting) < min(GROUP, size - group * GROUP):
                return
            del self._waiting[depth, group]
            number, value = group, add_up(*(waiting[place] for place in sorted(waiting)))
