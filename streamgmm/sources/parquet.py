"""Parquet: a file, a folder, a pattern, a list or a dataset. Planned from the footers, read row group by row group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.arrow_tables import ArrowLayout, numbers_of, plain_values
from streamgmm.sources.base import Block, RandomAccessRows, RowRange
from streamgmm.sources.chunking import COPIES, PIECE_BYTES, check_piece, choose_task_bytes, fits, limit_task_bytes
from streamgmm.sources.kept import KeptLayout, KeptTable, TableLayout
from streamgmm.sources.lakes import LakeTable
from streamgmm.sources.parquet_columns import Columns, Value
from streamgmm.sources.parquet_files import dataset_files, find_files, list_files
from streamgmm.sources.parquet_filter import BoundFilter, count_groups
from streamgmm.sources.prefetch import prefetch
from streamgmm.sources.schema import ColumnRequest
from streamgmm.storage.fingerprint import digest, digest_of_files
from streamgmm.storage.requests import ReadPolicy
from streamgmm.storage.urls import get_filesystem

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads

#: Rows decoded at a time out of a row group, at most.
_BATCH_ROWS = 131_072
#: Encoded bytes of a column read at a time from a local file. (A row group of 256 MB took 69 MB so, instead of 300, and
#: half of the time.)
_BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class RowGroup:
    """One row group of one file.

    Attributes
    ----------
    path : str
    index : int
    n_rows : int
        Rows that are meant.
    n_bytes : int
    keys : tuple of (str, number)
        The partition keys of its file that are read as numbers.
    key_values : mapping
        Those that are kept, or that rows are left out by.
    where : BoundFilter, or None
        By what rows are left out; None where all are meant.
    """

    path: str
    index: int
    n_rows: int
    n_bytes: int
    keys: tuple[tuple[str, Value], ...]
    key_values: Mapping[str, Any]
    where: BoundFilter | None = None


class ParquetRows(RandomAccessRows):
    """The rows of Parquet files.

    Their order is that of the files, which is that of a list or a dataset that was given, and else that of their names,
    with the numbers in these in the order of numbers: as Dask reads them.

    Parameters
    ----------
    source : str, sequence of str, LakeTable, or pyarrow.dataset.Dataset
        A file, a folder, or a pattern, anything that fsspec opens; files; a table of a lake; or a dataset of files.
    request : ColumnRequest
        The features: all columns that all files have, but the weights and a pandas index, where none are named.
        Partition keys are used only where named. A file that lacks a column that is named has missing values there.
    memory_limit : int, optional
        Bytes that a process may use.
    """

    def __init__(
        self,
        source: str | Sequence[str] | LakeTable | pads.Dataset,
        request: ColumnRequest,
        *,
        memory_limit: int | None = None,
    ) -> None:
        if isinstance(source, str):
            self.description, first = source, source
        elif isinstance(source, Sequence):
            more = f" and {len(source) - 1} more" if len(source) > 1 else ""
            self.description, first = f"{source[0]}{more}", source[0]
        elif isinstance(source, LakeTable):
            self.description, first, self.version = source.description, source.files.files[0].url, source.version
        else:
            self.description, first = "the dataset X", ""
        self._policy = ReadPolicy.of(first)

        def planned() -> Columns:
            if isinstance(source, str):
                return Columns.of(find_files(source), request, self.description)
            if isinstance(source, Sequence):
                return Columns.of(list_files(source), request, self.description)
            if isinstance(source, LakeTable):
                return Columns.of(source.files, request, self.description, source.schema, table=source)
            return Columns.of(dataset_files(source), request, self.description, source.schema)

        columns = self._policy.call(planned, self.description)
        self._policy = ReadPolicy.of(columns.footers[0].file.url)
        self._casts = columns.declared
        self._where = request.where
        self.where = None if request.where is None else request.where.text
        self._batch_rows = _BATCH_ROWS
        self._groups = self._find_groups(columns)
        self._starts = [0, *accumulate(group.n_rows for group in self._groups)]
        self.n_rows = self._starts[-1]
        if self.n_rows == 0:
            which = "" if request.where is None else f" for which where={request.where.text!r} is true"
            raise RowsError(f"{self.description} has no rows{which}")
        self._batch_rows = min(_BATCH_ROWS, self.n_rows)
        names = columns.chosen.features
        lists = (table.column(names[0]) for group in self._groups for table, _ in self._tables(group, names))
        self._layout = ArrowLayout.of_types(columns.types, columns.chosen, self.description, lists)
        self.schema, self.n_features = self._layout.schema, self._layout.n_features
        self.dtype, self.feature_names = self._layout.dtype, self._layout.feature_names
        self.in_memory = False
        if len(columns.kept):
            self.kept = TableLayout(columns.kept)
        self.ranges = self._cut(memory_limit)

    def _find_groups(self, columns: Columns) -> list[RowGroup]:
        """Return the row groups with the rows that are meant; these are counted where no footer says how many."""
        where = None if self._where is None else BoundFilter.of(self._where, columns.filtered_by)
        groups = []
        for footer, keys, values in zip(columns.footers, columns.keys, columns.key_values, strict=True):
            by_folder = {name: value for name, value in values.items() if name not in footer.columns}
            possible, by_keys = None, None if where is None else where.holds_for(by_folder)
            if where is not None and by_keys is None:
                possible = self._policy.call(partial(where.possible_groups, footer, values), footer.file.url)
            for index, n_rows, n_bytes in footer.row_groups:
                if by_keys is not False and (possible is None or index in possible):
                    left = where if by_keys is None else None
                    groups.append(RowGroup(footer.file.url, index, n_rows, n_bytes, keys, values, left))
        counted = count_groups(groups, self._count)
        return [replace(group, n_rows=n) for group, n in zip(groups, counted, strict=True) if n or where is None]

    def _count(self, group: RowGroup) -> int:
        if group.where is None:
            return group.n_rows
        return sum(table.num_rows for table, _ in self._tables(group, group.where.schema.names, None, as_numbers=False))

    def _cut(self, memory_limit: int | None) -> tuple[RowRange, ...]:
        """Cut into tasks of whole row groups, as many as fit; a batch of rows is all that must be in memory."""
        row_bytes = self.dtype.itemsize * self.n_features
        target_bytes = choose_task_bytes(self._starts[-1] * row_bytes, memory_limit)
        # What goes with the rows is held with them; how much that is once decoded, Parquet does not say.
        kept_bytes = 0 if self.kept is None else max(-(-g.n_bytes // g.n_rows) for g in self._groups if g.n_rows)
        wanted = limit_task_bytes(PIECE_BYTES, memory_limit) // (row_bytes + kept_bytes)
        self._batch_rows = max(1, min(_BATCH_ROWS, wanted, self._starts[-1]))
        piece_bytes = self._batch_rows * (row_bytes + kept_bytes)
        check_piece(piece_bytes, memory_limit, self.description)
        self._ahead = self._policy.remote and fits(2 * piece_bytes, memory_limit)
        encoded = max(group.n_bytes for group in self._groups) if self._policy.remote else 0
        self.piece_bytes = (2 if self._ahead else 1) * piece_bytes + encoded // COPIES
        ranges: list[RowRange] = []
        start = 0
        for stop, following in zip(self._starts[1:], [*self._starts[2:], None], strict=True):
            full = following is None or (following - start) * row_bytes > target_bytes
            if full and stop > start:
                ranges.append(RowRange(start, stop))
                start = stop
        return tuple(ranges)

    def stored_version(self) -> str | None:
        return digest_of_files(list(dict.fromkeys(group.path for group in self._groups)))

    def _content_digest(self) -> str:
        where = [] if self._where is None else [f"where: {self._where.text}"]
        chosen = self._layout.chosen
        keys = dict.fromkeys(f"keys: {group.keys} {dict(group.key_values)}" for group in self._groups)
        return digest([super()._content_digest(), *chosen.features, f"weights: {chosen.weight}", *where, *keys])

    def read(self, start: int, stop: int) -> Iterator[Block]:
        pieces = self._pieces(start, stop)
        return prefetch(pieces) if self._ahead else pieces

    def _pieces(self, start: int, stop: int) -> Iterator[Block]:
        first = bisect_right(self._starts, start) - 1
        for group, group_start in zip(self._groups[first:], self._starts[first:], strict=False):
            if group_start >= stop:
                break
            at = group_start
            for table, kept in self._tables(group, self._layout.chosen.numbers, self.kept):
                low, high = max(start, at), min(stop, at + table.num_rows)
                if low < high:
                    block = self._layout.block(table.slice(low - at, high - low), low)
                    yield block if kept is None else replace(block, kept=kept.slice(low - at, high - low))
                at += table.num_rows
                if at >= stop:
                    break

    def _tables(
        self, group: RowGroup, names: Sequence[str], kept: KeptLayout | None = None, *, as_numbers: bool = True
    ) -> Iterator[tuple[pa.Table, KeptTable | None]]:
        """Decode a row group, some rows at a time; after a failure that may pass, go on with the rows that follow."""
        n_given = 0
        try:
            for attempt in self._policy.retries.attempting(self._policy.may_pass):
                with attempt:
                    for tables in islice(self._decoded(group, names, kept, as_numbers), n_given, None):
                        n_given += 1
                        yield tables
        except Exception as error:
            raise self._policy.error(error, f"{group.path}: row group {group.index}") from error

    def _decoded(
        self, group: RowGroup, names: Sequence[str], kept: KeptLayout | None, as_numbers: bool
    ) -> Iterator[tuple[pa.Table, KeptTable | None]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # From a file here, a megabyte of each column at a time; from elsewhere a row group's columns as a whole, which
        # takes fewer requests.
        options = {} if self._policy.remote else {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
        filesystem, place = get_filesystem(group.path)
        with filesystem.open(place, "rb") as file, pq.ParquetFile(file, **options) as parquet:
            of_file = set(parquet.schema_arrow.names)
            filtered_by = () if group.where is None else group.where.schema.names
            wanted = dict.fromkeys((*names, *(() if kept is None else kept.names), *filtered_by))
            stored = [name for name in wanted if name in of_file]
            batches = parquet.iter_batches(
                self._batch_rows, row_groups=[group.index], columns=stored, use_threads=False
            )
            for batch in batches:
                numbers = pa.table(self._numbers_of(batch, group, names if as_numbers else ()))
                beside = None if kept is None else _as_stored(batch, group, kept.as_schema())
                if group.where is not None:
                    columns = _as_stored(batch, group, group.where.schema)
                    numbers, *others = group.where.split(
                        columns, numbers if as_numbers else columns, *([] if beside is None else [beside])
                    )
                    beside = others[0] if others else None
                yield numbers, None if beside is None else KeptTable(beside)

    def _numbers_of(self, batch: pa.RecordBatch, group: RowGroup, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        import pyarrow as pa

        keys = dict(group.keys)
        columns = {}
        for name in names:
            column = pa.chunked_array([batch.column(name)]) if name in batch.schema.names else None
            if name in keys:
                column = _of_key(name, keys[name], column, batch.num_rows, group.path)
            elif column is None:
                column = pa.chunked_array([pa.nulls(batch.num_rows)])
            if self._casts is not None and name not in keys:
                column = column.cast(plain_values(self._casts.field(name).type))
            columns[name] = column
        return columns


def _as_stored(batch: pa.RecordBatch, group: RowGroup, schema: pa.Schema) -> pa.Table:
    """Return columns of a batch, and partition keys, as they are stored, in the types that all files can have."""
    import pyarrow as pa

    columns = []
    for one in schema:
        if one.name in batch.schema.names:
            column = batch.column(one.name)
            if one.name in group.key_values:
                _check_key(column, group, one.name)
            try:
                columns.append(column if column.type == one.type else column.cast(one.type))
            except pa.ArrowException as error:
                raise RowsError(f"{group.path}: column {one.name!r} can't become {one.type}: {error}") from error
        else:
            value = pa.scalar(group.key_values.get(one.name), one.type)
            columns.append(pa.repeat(value, batch.num_rows))
    return pa.table(columns, schema=schema)


def _of_key(name: str, value: Value, stored: pa.ChunkedArray | None, n_rows: int, path: str) -> pa.ChunkedArray:
    """Return the column of a partition key; where the file has it too, it must say the same."""
    import pyarrow as pa

    if stored is None:
        return pa.chunked_array([pa.nulls(n_rows) if value is None else pa.array(np.full(n_rows, value))])
    values = numbers_of(stored)
    same = np.isnan(values) if value is None else values == value
    if not same.all():
        raise _contradiction(path, name, values[np.flatnonzero(~same)[0]], value)
    return stored


def _check_key(stored: pa.Array, group: RowGroup, name: str) -> None:
    """Raise RowsError where a column that is kept, or that rows are left out by, says another thing than the folder."""
    import pyarrow as pa
    import pyarrow.compute as pc

    value = group.key_values[name]
    values = stored.cast(stored.type.value_type) if pa.types.is_dictionary(stored.type) else stored
    try:
        meant = pa.scalar(value, values.type)
        other = pc.is_valid(values) if value is None else pc.fill_null(pc.not_equal(values, meant), True)
    except pa.ArrowException:
        # A value that the column's type can't hold is in none of its rows.
        other = pa.repeat(True, len(values))
    if pc.any(other).as_py():
        raise _contradiction(group.path, name, repr(values.filter(other)[0].as_py()), repr(value))


def _contradiction(path: str, name: str, found: Any, by_folder: Any) -> RowsError:
    return RowsError(
        f"{path}: column {name!r} has the value {found} in the file, and {by_folder} by its folder: mend the file or "
        "move it, do without this column, or give the files as a dataset that knows no keys, "
        "pyarrow.dataset.dataset([...])"
    )
