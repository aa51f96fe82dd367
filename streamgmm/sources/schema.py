"""Names: which columns of a table are features and weights, by what was asked for and by what a model was fitted to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.where import RowFilter

#: Names that JSON gives back as they were.
_PLAIN = (str, int, float, bool, type(None))
#: Names that errors list, at most.
_LISTED = 20


@dataclass(frozen=True)
class FeatureSchema:
    """The columns that a fit has used; made once, when its rows are opened, and kept with the model.

    Attributes
    ----------
    columns : tuple of hashable, or None
        The columns that are features, in the order of the model's features; None where the rows had no names.
    weight : hashable, or None
        The column that held the weights: it is no feature where the same table is opened again.
    embedding : bool
        Whether the features are the elements of the lists in one column.
    dimension : hashable, or None
        The dimension along which a grid has the features.
    """

    columns: tuple[Hashable, ...] | None = None
    weight: Hashable | None = None
    embedding: bool = False
    dimension: Hashable | None = None

    @property
    def feature_names(self) -> tuple[Hashable, ...] | None:
        """A name for each feature, or None."""
        return None if self.embedding else self.columns

    @property
    def named(self) -> bool:
        """Whether the features have names as scikit-learn understands it: texts."""
        names = self.feature_names
        return names is not None and all(isinstance(name, str) for name in names)

    def taken_by_place(self, found: FeatureSchema, estimator: str) -> str | None:
        """Return scikit-learn's warning where a fit and other rows don't both have names, and None where they do."""
        if self.named and found.columns is None:
            return f"X does not have valid feature names, but {estimator} was fitted with feature names"
        by_name = self.named or self.embedding or _texts(found.columns) == _texts(self.columns)
        if found.named and not by_name:
            return f"X has feature names, but {estimator} was fitted without feature names"
        return None

    def select(self, features: Sequence[int] | None) -> FeatureSchema:
        """Return the schema of some of the features; of all where None, or where one column holds all."""
        if features is None or self.embedding or self.columns is None:
            return self
        return replace(self, columns=tuple(self.columns[at] for at in features))

    @property
    def _numbered(self) -> bool:
        """Whether the names are the places 0, 1, ... that pandas gives where there are no names."""
        return not self.embedding and self.columns is not None and self.columns == tuple(range(len(self.columns)))


@dataclass(frozen=True)
class ColumnRequest:
    """What is asked of a table.

    Attributes
    ----------
    columns : tuple of hashable, or None
        The features, where they were named.
    weight : str, or None
        The column that holds the weights.
    fitted : FeatureSchema, or None
        What a fitted model takes its features by.
    keep : tuple of hashable, or "all"
        The columns that go with the rows as they are stored.
    where : RowFilter, or None
        Which rows are meant.
    """

    columns: tuple[Hashable, ...] | None = None
    weight: Hashable | None = None
    fitted: FeatureSchema | None = None
    keep: tuple[Hashable, ...] | Literal["all"] = ()
    where: RowFilter | None = None

    @classmethod
    def of(
        cls,
        columns: Any,
        weight: Hashable | None,
        fitted: FeatureSchema | None = None,
        keep: Any = (),
        where: Any = None,
    ) -> ColumnRequest:
        """Check what a user gave for `columns`, `keep` and `where`.

        Raises
        ------
        RowsError
            If it is no sequence of names, or has one twice; if it is no condition.
        """
        if keep is None or (not isinstance(keep, str) and not len(keep)):
            keep = ()
        elif not isinstance(keep, str) or keep != "all":
            keep = check_names(keep, "keep")
        return cls(None if columns is None else check_names(columns), weight, fitted, keep, RowFilter.of(where))

    @property
    def names_features(self) -> bool:
        """Whether it says by names which columns are features."""
        return self.columns is not None or (self.fitted is not None and self.fitted.columns is not None)

    def choose(
        self,
        available: Sequence[Hashable],
        what: str,
        default: Sequence[Hashable] | None = None,
        index: Sequence[Hashable] = (),
    ) -> Chosen:
        """Choose the columns of a table: those that were named, else those of the fit, else all but the weights.

        Parameters
        ----------
        available : sequence of hashable
            The table's columns.
        what : str
            The table, as errors name it.
        default : sequence of hashable, optional
            Those of them that are features without being named; all where not given.
        index : sequence of hashable
            What can be kept beside the columns: the names of an index.

        Raises
        ------
        RowsError
            If a column is not there, or there more than once, or none is left.
        """
        features, weight = self._choose_numbers(available, what, default)
        table = _Names((*available, *(name for name in index if name not in available)), what)
        kept = available if self.keep == "all" else map(table.find, self.keep)
        by = () if self.where is None else map(table.find, self.where.names)
        return Chosen(features, weight, tuple(dict.fromkeys(kept)), tuple(by))

    def _choose_numbers(
        self, available: Sequence[Hashable], what: str, default: Sequence[Hashable] | None
    ) -> tuple[tuple[Hashable, ...], Hashable | None]:
        """Return the features and the weights."""
        table = _Names(tuple(available), what)
        weight = None if self.weight is None else table.find(self.weight)
        fitted = self.fitted or FeatureSchema()
        asked = self.columns if self.columns is not None else fitted.columns
        if self.columns is not None and fitted.columns is not None:
            asked = in_order_of(fitted.columns, self.columns)
        if self.columns is None and fitted.columns is not None:
            lacking = [name for name in fitted.columns if table.label(name) is None]
            if fitted._numbered and len(lacking) == len(fitted.columns):
                asked = None
            elif lacking:
                raise RowsError(_lacks(fitted, lacking, table))
        if asked is not None:
            return tuple(map(table.find, asked)), weight
        before = None if fitted.weight is None else table.label(fitted.weight)
        left_out = [name for name in (weight, before) if name is not None]
        features = tuple(name for name in (available if default is None else default) if name not in left_out)
        if not features:
            raise RowsError(f"{what} has no column left to be a feature; name some with columns=")
        return tuple(map(table.find, features)), weight


@dataclass(frozen=True)
class Chosen:
    """Columns that a table has.

    Attributes
    ----------
    features : tuple of hashable
    weight : hashable, or None
    kept : tuple of hashable
    filtered_by : tuple of hashable
        The columns by which rows are left out.
    """

    features: tuple[Any, ...]
    weight: Any | None
    kept: tuple[Any, ...] = ()
    filtered_by: tuple[Any, ...] = ()

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The features and the weights, each once."""
        return self.features if self.weight is None or self.weight in self.features else (*self.features, self.weight)

    @property
    def all(self) -> tuple[Any, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.numbers, *self.kept, *self.filtered_by)))


def check_names(columns: Any, what: str = "columns") -> tuple[Hashable, ...]:
    """Return the names that a user gave for `columns`, or another argument.

    Raises
    ------
    RowsError
        If it is no sequence of names, or has one twice.
    """
    if isinstance(columns, (str, bytes)):
        raise RowsError(f"{what}={columns!r} is one text; give a list of names: {what}=[{columns!r}]")
    if isinstance(columns, (set, frozenset)) or not isinstance(columns, Iterable):
        raise RowsError(
            f"{what} must be a sequence of names, got a {type(columns).__name__}: give a list, {what}=['a', 'b']"
        )
    names = tuple(columns.tolist() if isinstance(columns, np.ndarray) else columns)
    if not names:
        raise RowsError(f"{what}= names no column: give at least one, or leave it out")
    for name in names:
        if not isinstance(name, Hashable):
            raise RowsError(f"{what} must be a sequence of names, and {name!r} is a {type(name).__name__}, no name")
    for name, times in Counter(names).items():
        if times > 1:
            raise RowsError(f"{what}= names {name!r} {times} times: name each column once")
    return names


@dataclass(frozen=True)
class _Names:
    """The names of a table's columns: there may be many, and many are looked for."""

    names: tuple[Hashable, ...]
    what: str

    @cached_property
    def _times(self) -> Counter[Hashable]:
        return Counter(self.names)

    @cached_property
    def _by_text(self) -> dict[str, set[Hashable]]:
        found: dict[str, set[Hashable]] = {}
        for name in self.names:
            found.setdefault(str(name), set()).add(name)
        return found

    def label(self, name: Hashable) -> Hashable | None:
        """Return how the table calls a column, or None: files call the columns 0, 1, ... of pandas "0", "1", ..."""
        if name in self._times:
            return name
        same = [label for label in self._by_text.get(str(name), ()) if _is_number(label) != _is_number(name)]
        return same[0] if len(same) == 1 else None

    def find(self, name: Hashable) -> Hashable:
        """Return how the table calls a column; one that is not there, or there twice, is an error."""
        label = self.label(name)
        if label is None:
            raise RowsError(f"{self.what} has no column {name!r}; it has {_listed(self.names)}")
        times = self._times[label]
        if times > 1:
            raise RowsError(f"{self.what} has {times} columns named {label!r}: give each its own name")
        return label


def _texts(names: tuple[Hashable, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(map(str, names))


def _is_number(name: Hashable) -> bool:
    return isinstance(name, (int, float, np.number))


def in_order_of(fitted: tuple[Hashable, ...], columns: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """Take features that are those of the fit in its order; other names stand for the features in theirs."""
    given, of_fit = _Names(columns, "columns="), _Names(fitted, "the fit")
    known = [given.label(name) for name in fitted]
    if None not in known and len(columns) == len(fitted):
        return fitted
    if all(name is None for name in known):
        return columns
    other = next((name for name in columns if of_fit.label(name) is None), None)
    found = f"{other!r} is none of them" if other is not None else f"columns= names {len(columns)}"
    raise RowsError(
        f"the model was fitted to the feature names {_listed(fitted)}, and {found}: name those (in any order), leave "
        "columns= out, or name none of them where the table has other names for all"
    )


def _lacks(fitted: FeatureSchema, lacking: list[Hashable], table: _Names) -> str:
    kind = "the column of lists" if fitted.embedding else "one of the feature names"
    others = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    return (
        f"{table.what} has no column {lacking[0]!r}{others}, {kind} that the model was fitted to; it has "
        f"{_listed(table.names)}. Where it has other names for all features, give them with columns="
    )


def _listed(names: Sequence[Hashable]) -> str:
    shown = ", ".join(map(repr, names[:_LISTED]))
    return f"{shown}, ... ({len(names)} columns)" if len(names) > _LISTED else shown


def to_json(name: Hashable) -> Any:
    """Turn a name into what JSON can hold; `from_json` gives it back, with its type."""
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, tuple):
        return {"tuple": [to_json(part) for part in name]}
    # A name of any other type, such as a date, is found by its text; JSON has no NaN.
    plain = isinstance(name, _PLAIN) and not (isinstance(name, float) and not np.isfinite(name))
    return name if plain else str(name)


def from_json(value: Any) -> Hashable:
    """Return the name that `to_json` was given."""
    if isinstance(value, dict):
        return tuple(from_json(part) for part in value["tuple"])
    if not isinstance(value, _PLAIN):
        raise TypeError(f"{value!r} is no name of a column")
    return value
