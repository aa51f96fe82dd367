"""Samples: rows drawn by keys that depend on the rows alone, whatever the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.serialization import serializable
from streamgmm.typing import Floats

#: Rows that are kept while a sample is drawn, as a multiple of its size. (To sort them each time costs more.)
_MOST_KEPT = 1.5


@serializable
@dataclass(frozen=True)
class Sample:
    """Rows with the smallest keys; any number of the first are a sample too.

    Two kinds are drawn, and `Survey.chosen_sample` picks one.

    By value: the key is a hash of a row's values, and equal rows are one, with the sum of their weights. Neither the
    order of the rows nor their cut into parts makes a difference, not even for its bits.

    By place: the key is a hash of a row's index, turned into an exponential variable of rate w where rows have weights
    (Efraimidis & Spirakis, Inf. Process. Lett. 97, 2006), so that rows of large weight are rarely missed. The cut makes
    no difference. It is the better one where few values stand for many rows: drawn by value, each of those is in with
    all its rows, or out.

    Attributes
    ----------
    keys : ndarray of shape (n,), uint64 or float64
    x : ndarray of shape (n, n_features), float64, or float32 where the data are
    weight : ndarray of shape (n,), float64
    """

    keys: npt.NDArray[Any]
    x: npt.NDArray[Any]
    weight: Floats

    def __len__(self) -> int:
        return len(self.keys)

    def in_float64(self) -> Sample:
        """Return the sample with its rows in float64."""
        return replace(self, x=np.asarray(self.x, dtype=np.float64))

    @property
    def design_effect(self) -> float:
        """How many times as many rows are needed as of equal weight (Kish, Survey Sampling, 1965)."""
        return float(len(self) * (self.weight**2).sum() / self.weight.sum() ** 2)


@serializable
@dataclass(frozen=True)
class Draw:
    """Rows that a sample may be made of, in parts as they came: they are put in order once, at the end.

    Attributes
    ----------
    parts : tuple of Sample
        In no order.
    """

    parts: tuple[Sample, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def sum_weight(self) -> float:
        """Sum of the rows' weights."""
        return float(sum(part.weight.sum() for part in self.parts))

    def smallest(self, size: int) -> Sample:
        """Return the `size` rows with the smallest keys, in their order; rows with equal keys become one."""
        keys, weight = (np.concatenate([getattr(part, name) for part in self.parts]) for name in ("keys", "weight"))
        order = np.argsort(keys, kind="stable")
        keys, weight = keys[order], weight[order]
        first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
        if len(first) < len(order):
            weight = np.add.reduceat(weight, first)
            order, keys = order[first], keys[first]
        return Sample(keys[:size], self._rows(order[:size]), weight[:size])

    def _rows(self, which: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Return rows by their numbers over all parts, without putting the parts together."""
        dtype = np.result_type(*(part.x.dtype for part in self.parts))
        rows = np.empty((len(which), self.parts[0].x.shape[1]), dtype)
        places = np.argsort(which)
        bounds = np.cumsum([0, *(len(part) for part in self.parts)])
        cuts = np.searchsorted(which, bounds, sorter=places)
        for part, offset, start, stop in zip(self.parts, bounds, cuts, cuts[1:], strict=False):
            mine = places[start:stop]
            rows[mine] = part.x[which[mine] - offset]
        return rows

    @classmethod
    def merged(cls, draws: Sequence[Draw], size: int) -> Draw:
        """Return the rows of several draws: all, or those with the smallest keys where they are far too many."""
        together = cls(tuple(part for draw in draws for part in draw.parts))
        return together if len(together) <= _MOST_KEPT * size else cls((together.smallest(size),))


def hash_index(index: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Hash row indices: the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), a bijection for each seed."""
    with np.errstate(over="ignore"):
        z = index + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def hash_values(x: Floats, seed: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Hash the values of each row of x (n, n_features), and tell which rows have finite values only."""
    from streamgmm.gaussian import kernels

    keys, finite = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=np.bool_)
    kernels.hash_rows(np.ascontiguousarray(x), seed, keys, finite)
    return keys.view(np.uint64), finite
