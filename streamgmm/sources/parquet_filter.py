"""Rows of Parquet files by a condition: files ruled out by keys, row groups by bounds, rows as they are read.

A file whose folder says that no row of it is meant is not opened, and of one whose folder says that all are, no column
is read to find out. Of the other row groups the rows that are meant are counted, by the columns of the condition alone,
when the source is opened: from then on they are the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, TypeVar

from streamgmm.exceptions import ConditionError, RowsError
from streamgmm.sources.parquet_files import FoundFiles
from streamgmm.sources.where import RowFilter
from streamgmm.storage.urls import get_filesystem

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

    from streamgmm.sources.parquet_columns import Footer

Group = TypeVar("Group")

#: Row groups whose rows are counted at once.
_AT_ONCE = 8


@dataclass(frozen=True)
class BoundFilter:
    """A condition on columns of known types.

    Attributes
    ----------
    where : RowFilter
    schema : pyarrow.Schema
        The columns that it is about.
    expression : pyarrow.compute.Expression
    """

    where: RowFilter
    schema: pa.Schema
    expression: pc.Expression

    @classmethod
    def of(cls, where: RowFilter, schema: pa.Schema) -> BoundFilter:
        """Bind a condition to columns of some types."""
        return cls(where, schema, where.bind(schema))

    def split(self, columns: pa.Table, *others: pa.Table) -> tuple[pa.Table, ...]:
        """Return the rows of other tables for which the condition holds in these columns."""
        import pyarrow as pa

        names = [f"{number}\0{name}" for number, other in enumerate(others) for name in other.column_names]
        together = pa.table(
            [*columns.columns, *(column for other in others for column in other.columns)],
            names=[*columns.column_names, *names],
        ).filter(self.expression)
        found, at = [], columns.num_columns
        for other in others:
            found.append(pa.table(together.columns[at : at + other.num_columns], names=other.column_names))
            at += other.num_columns
        return tuple(found)

    def holds_for(self, keys: Mapping[str, Any]) -> bool | None:
        """Tell whether the condition holds for all rows of a file, or none, by its keys; None where they don't say."""
        if not set(self.schema.names) <= set(keys):
            return None
        return bool(self._one_row(keys).filter(self.expression).num_rows)

    def _one_row(self, keys: Mapping[str, Any]) -> pa.Table:
        import pyarrow as pa

        return pa.table({one.name: pa.array([keys[one.name]], one.type) for one in self.schema})

    def possible_groups(self, footer: Footer, keys: Mapping[str, Any]) -> set[int]:
        """Return the row groups of a file that may have such rows, by the bounds that its footer has."""
        import pyarrow as pa
        import pyarrow.dataset as pads

        everything = {index for index, _, _ in footer.row_groups}
        stored = {one.name: one.type for one in footer.schema}
        of_file = [one for one in self.schema if one.name in stored]
        # Bounds are compared where a file has the very types of the condition.
        if any(stored[one.name] != one.type for one in of_file) or not self.where.excludes_by_bounds:
            return everything
        if any(one.name not in stored and one.name not in keys for one in self.schema):
            # It has missing values there: Arrow wants to see them.
            return everything
        # What its folder says as well is compared with the folder, for which it must be read.
        told = [term for term in self.where.terms() if not any(name in stored and name in keys for name in term.names)]
        if not told:
            return everything
        of_keys = [one for one in self.schema if one.name not in stored and one.name in keys]
        known = None
        for one in of_keys:
            value = keys[one.name]
            this = (
                pads.field(one.name).is_null() if value is None else pads.field(one.name) == pa.scalar(value, one.type)
            )
            known = this if known is None else known & this
        filesystem, place = get_filesystem(footer.file.url)
        options = {} if known is None else {"partition_expression": known}
        fragment = pads.ParquetFileFormat().make_fragment(place, filesystem=_for_arrow(filesystem), **options)
        schema = pa.schema([*of_file, *of_keys])
        found = fragment.subset(reduce(and_, (term.bind(schema) for term in told)), schema=schema)
        return {group.id for group in found.row_groups}


def _for_arrow(filesystem: Any) -> Any:
    from pyarrow import fs

    return fs.PyFileSystem(fs.FSSpecHandler(filesystem))


def prune_files(
    found: FoundFiles, where: RowFilter, types: Mapping[str, pa.DataType], values: Callable[[str, Any], Any]
) -> FoundFiles:
    """Leave out the files of whose rows none is meant, by the keys that their folders name.

    Parameters
    ----------
    found : FoundFiles
    where : RowFilter
    types : mapping of str to pyarrow.DataType
        Of the keys.
    values : callable
        ``values(name, text)`` is what a key's text stands for.

    Raises
    ------
    RowsError
        If none is left.
    """
    import pyarrow as pa

    terms = []
    for term in where.terms():
        if set(term.names) <= set(types):
            # A column in the files may have another type than the folders' names: then these tell nothing.
            with suppress(ConditionError):
                terms.append(BoundFilter.of(term, pa.schema([(name, types[name]) for name in term.names])))
    if not terms:
        return found
    left = []
    for file in found.files:
        keys = {name: values(name, text) for name, text in file.keys if name in types}
        if all(term.holds_for(keys) is not False for term in terms):
            left.append(file)
    if not left:
        raise RowsError(f"where={where.text!r} is true of none of the {len(found.files)} file(s), by their folders")
    return replace(found, files=tuple(left))


def count_groups(groups: Sequence[Group], count: Callable[[Group], int]) -> Iterator[int]:
    """Count the rows of row groups, several at once; in their order."""
    if len(groups) < 2:
        yield from map(count, groups)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(count, groups)
