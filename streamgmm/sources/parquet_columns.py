"""The columns of many Parquet files as those of one table: which, of what types, and what is missing where."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from streamgmm.exceptions import RowsError, RowsWarning
from streamgmm.sources.arrow_tables import index_columns, plain_values
from streamgmm.sources.kept import DIGITS
from streamgmm.sources.parquet_files import FoundFiles, StoredFile
from streamgmm.sources.parquet_filter import prune_files
from streamgmm.sources.schema import Chosen, ColumnRequest
from streamgmm.sources.where import RowFilter

if TYPE_CHECKING:
    import pyarrow as pa

    from streamgmm.sources.lakes import LakeTable

#: The value of a partition key; None where it is missing.
Value: TypeAlias = int | float | None

_INTEGER = re.compile(r"[+-]?[0-9]+")
#: What Arrow takes for a whole number in a folder's name.
_WHOLE_KEY = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Footer:
    """What the end of a file says of it.

    Attributes
    ----------
    file : StoredFile
    schema : pyarrow.Schema
    row_groups : tuple of (index, rows, bytes)
    """

    file: StoredFile
    schema: pa.Schema
    row_groups: tuple[tuple[int, int, int], ...]

    @cached_property
    def columns(self) -> Counter[str]:
        """How often the file has each name."""
        return Counter(self.schema.names)

    def without_keys(self, names: frozenset[str]) -> Footer:
        """Return the same without some partition keys."""
        if not names:
            return self
        keys = tuple((key, value) for key, value in self.file.keys if key not in names)
        return replace(self, file=replace(self.file, keys=keys))

    def has(self, name: str) -> bool:
        """Whether the file, or the name of its folder, has a column."""
        return name in self.columns or any(key == name for key, _ in self.file.keys)


@dataclass(frozen=True)
class Columns:
    """The columns to read of some files.

    Attributes
    ----------
    chosen : Chosen
    types : dict of list of tuple
        For each column its types, and a file of each type.
    keys : tuple of tuple
        For each file the values of those partition keys that are read as numbers.
    kept : pyarrow.Schema
        The columns that go with the rows.
    filtered_by : pyarrow.Schema
        The columns by which rows are left out.
    key_values : tuple of dict
        For each file the values of the partition keys among those two, also where the file has such a column.
    footers : tuple of Footer
        Of the files, in the order of the rows.
    declared : pyarrow.Schema, or None
        The types that a dataset gives its columns.
    """

    chosen: Chosen
    types: dict[str, list[tuple[str, pa.DataType]]]
    keys: tuple[tuple[tuple[str, Value], ...], ...]
    footers: tuple[Footer, ...]
    kept: pa.Schema
    filtered_by: pa.Schema
    key_values: tuple[dict[str, Any], ...]
    declared: pa.Schema | None = None

    @classmethod
    def of(
        cls,
        found: FoundFiles,
        request: ColumnRequest,
        what: str,
        declared: pa.Schema | None = None,
        *,
        table: LakeTable | None = None,
    ) -> Columns:
        """Read the footers and choose the columns.

        Parameters
        ----------
        found : FoundFiles
        request : ColumnRequest
        what : str
            The files, as errors name them.
        declared : pyarrow.Schema, optional
            The types that a dataset, or a table, gives its columns.
        table : LakeTable, optional
            Of which these are the files: its partition keys are columns like others, which need not be named.

        Raises
        ------
        RowsError
            If a file can't be read, or a column is not there, or not numeric.
        """
        key_types = _types_of_keys(found.files, declared)
        if request.where is not None and key_types:
            found = _prune_by_keys(found, request.where, key_types)
        read = tuple(_footers(found))
        # A file without rows says nothing of the columns of others.
        footers = tuple(footer for footer in read if any(n_rows for _, n_rows, _ in footer.row_groups)) or read
        names = dict.fromkeys(name for footer in footers for name in footer.columns)
        footers = tuple(footer.without_keys(found.outer_keys.intersection(names)) for footer in footers)
        files = [footer.file for footer in footers]
        keys = dict.fromkeys(key for file in files for key, _ in file.keys)
        index = {name for footer in footers for name in index_columns(footer.schema)}
        if declared is None:
            available = [*names, *(key for key in keys if key not in names)]
            everywhere = [name for name in names if all(footer.has(name) for footer in footers)]
        else:
            available, index = declared.names, index_columns(declared)
            in_files = {name for footer in footers for name in footer.columns}
            everywhere = [name for name in available if table is not None or name not in keys or name in in_files]
        default = [name for name in everywhere if name not in index]
        chosen = request.choose(available, what, default)
        if declared is None and not request.names_features:
            known = {*everywhere, *index}
            _warn_of_left_out([name for name in names if name not in known], footers, what)
        if table is not None:
            table.check_names(chosen.all, footers)
        for name in chosen.all:
            _check_once(name, footers)
            _warn_of_lacking(name, footers, what)
        values = {name: _values_of_key(name, files, what) for name in chosen.numbers if name in keys}
        types = {name: _types(name, footers, values.get(name), what, declared) for name in chosen.numbers}
        of_files = tuple(
            tuple((name, values[name][text]) for name, text in file.keys if name in values) for file in files
        )
        key_types = {name: kind for name, kind in key_types.items() if name not in names}
        kept = _with_digits(_schema_as_stored(chosen.kept, footers, key_types, declared), files)
        filtered_by = _schema_as_stored(chosen.filtered_by, footers, key_types, declared)
        as_stored = {one.name: one.type for one in (*kept, *filtered_by)}
        key_values = tuple(
            {name: _as_stored(name, value, as_stored[name]) for name, value in footer.file.keys if name in as_stored}
            for footer in footers
        )
        return cls(chosen, types, of_files, footers, kept, filtered_by, key_values, declared)


def _prune_by_keys(found: FoundFiles, where: RowFilter, key_types: dict[str, pa.DataType]) -> FoundFiles:
    """Leave out files by their keys, in the types that the first file gives them where it has such columns."""
    (first,) = _footers(replace(found, files=found.files[:1]))
    of_first = {one.name: plain_values(one.type) for one in first.schema if one.name in key_types}
    types = key_types | of_first
    return prune_files(found, where, types, lambda name, text: _as_stored(name, text, types[name]))


def _footers(found: FoundFiles) -> Iterable[Footer]:
    import pyarrow as pa
    import pyarrow.dataset as pads

    # Of a schema that is given: Arrow would read a footer to find one.
    dataset = pads.dataset(
        [file.path for file in found.files], schema=pa.schema([]), filesystem=found.filesystem, format="parquet"
    )
    for file, fragment in zip(found.files, dataset.get_fragments(), strict=True):
        try:
            groups = tuple((group.id, group.num_rows, group.total_byte_size) for group in fragment.row_groups)
            yield Footer(file, fragment.physical_schema, groups)
        except pa.ArrowInvalid as error:
            raise RowsError(f"{file.url} can't be read as Parquet: {error}") from error


def _check_once(name: str, footers: Iterable[Footer]) -> None:
    for footer in footers:
        times = footer.columns[name]
        if times > 1:
            raise RowsError(f"{footer.file.url} has {times} columns named {name!r}: give each its own name")


def _warn_of_left_out(names: list[str], footers: tuple[Footer, ...], what: str) -> None:
    if names:
        lacking = next(footer for footer in footers if not footer.has(names[0]))
        more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
        warnings.warn(
            f"{what}: column {names[0]!r}{more} left out, which only some of its files have ({lacking.file.url} does "
            "not): name the features with columns= to read them, with missing values there",
            RowsWarning,
            stacklevel=2,
        )


def _warn_of_lacking(name: str, footers: tuple[Footer, ...], what: str) -> None:
    lacking = [footer for footer in footers if not footer.has(name)]
    if lacking:
        warnings.warn(
            f"{what}: {len(lacking)} of {len(footers)} file(s) have no column {name!r} (the first: "
            f"{lacking[0].file.url}): it has missing values there",
            RowsWarning,
            stacklevel=2,
        )


def _types(
    name: str, footers: tuple[Footer, ...], values: dict[Any, Value] | None, what: str, declared: pa.Schema | None
) -> list[tuple[str, pa.DataType]]:
    import pyarrow as pa

    if declared is not None and values is None:
        return [(what, declared.field(name).type)]
    found: dict[pa.DataType, str] = {}
    for footer in footers:
        if name in footer.columns:
            found.setdefault(footer.schema.field(name).type, footer.file.url)
    if values is not None:
        whole = all(isinstance(value, int) for value in values.values() if value is not None)
        found.setdefault(pa.int64() if whole else pa.float64(), what)
    return [(where, arrow_type) for arrow_type, where in found.items()]


def _values_of_key(name: str, files: list[StoredFile], what: str) -> dict[Any, Value]:
    """Return the number that each text of a partition key stands for."""
    texts = dict.fromkeys(text for file in files for key, text in file.keys if key == name)
    values: dict[Any, Value] = {}
    for text in texts:
        if text is None or (isinstance(text, (int, float)) and not isinstance(text, bool)):
            values[text] = text
        elif not isinstance(text, str):
            raise RowsError(
                f"partition key {name!r} of {what} is {text!r}, which is not numeric: choose the columns to use with "
                "columns="
            )
        elif _INTEGER.fullmatch(text):
            values[text] = int(text)
        else:
            try:
                values[text] = float(text)
            except ValueError:
                raise RowsError(
                    f"partition key {name!r} of {what} is text ({text!r}), which is not numeric: choose the columns to "
                    "use with columns="
                ) from None
    return values


def _types_of_keys(files: Sequence[StoredFile], declared: pa.Schema | None) -> dict[str, pa.DataType]:
    """Return what Arrow makes of each partition key: whole numbers where all its texts are, else texts."""
    import pyarrow as pa

    texts: dict[str, set[Any]] = {}
    for file in files:
        for name, text in file.keys:
            texts.setdefault(name, set()).add(text)
    found = {}
    for name, values in texts.items():
        if declared is not None and name in declared.names:
            found[name] = plain_values(declared.field(name).type)
            continue
        known = [value for value in values if value is not None]
        whole = known and all(isinstance(value, str) and _WHOLE_KEY.fullmatch(value) for value in known)
        largest = max(abs(int(value)) for value in known) if whole else 2**63
        found[name] = pa.int32() if largest < 2**31 else pa.int64() if largest < 2**63 else pa.string()
    return found


def _with_digits(schema: pa.Schema, files: Sequence[StoredFile]) -> pa.Schema:
    """Note with whole numbers that folders are named by how many digits these write, as 2 of month=01."""
    import pyarrow as pa

    fields = []
    for one in schema:
        texts = {str(text) for file in files for name, text in file.keys if name == one.name and text is not None}
        widths = {len(text) for text in texts if text.isdecimal()}
        if pa.types.is_integer(one.type) and len(widths) == 1 and any(text.startswith("0") for text in texts):
            one = one.with_metadata({DIGITS: str(*widths)})
        fields.append(one)
    return pa.schema(fields)


def _as_stored(name: str, value: Any, arrow_type: pa.DataType) -> Any:
    """Return the value that a partition key's text stands for, in the type of the column."""
    import pyarrow as pa

    if not isinstance(value, str) or pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type):
        return value
    try:
        if pa.types.is_integer(arrow_type) and _WHOLE_KEY.fullmatch(value):
            return pa.scalar(int(value), arrow_type).as_py()
        return pa.scalar(value).cast(plain_values(arrow_type)).as_py()
    except (pa.ArrowException, OverflowError) as error:
        raise RowsError(
            f"a folder is named {name}={value}, which can't be {arrow_type}, the type of column {name!r}: {error}"
        ) from error


def _schema_as_stored(
    names: tuple[str, ...], footers: tuple[Footer, ...], keys: dict[str, pa.DataType], declared: pa.Schema | None
) -> pa.Schema:
    """Return the types of columns as they are stored: those that hold the values of all files."""
    import pyarrow as pa

    fields = []
    for name in names:
        if name in keys:
            fields.append(pa.field(name, keys[name]))
            continue
        if declared is not None:
            fields.append(pa.field(name, declared.field(name).type))
            continue
        found = None
        for footer in footers:
            if name not in footer.columns:
                continue
            of_file = pa.field(name, footer.schema.field(name).type)
            unified = [of_file] if found is None else [found, of_file]
            if len({one.type for one in unified}) > 1:
                # Values that one file keeps in a dictionary and another does not, or in one of other indices.
                unified = [pa.field(name, plain_values(one.type)) for one in unified]
            try:
                found = pa.unify_schemas([pa.schema([one]) for one in unified], promote_options="permissive").field(0)
            except pa.ArrowException as error:
                raise RowsError(
                    f"column {name!r} has type {of_file.type} in {footer.file.url}, and "
                    f"{found.type if found else None} before, types that don't go together: leave it out"
                ) from error
        fields.append(found)
    return pa.schema(fields)
