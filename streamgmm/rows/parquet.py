"""Parquet: one file, a folder, a glob, hive partitions. Planned from the footers, read row group by row group."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.rows.ahead import read_ahead
from streamgmm.rows.base import Block, RandomAccessRows, RowRange
from streamgmm.rows.cut import COPIES, PIECE_BYTES, check_piece, fits, stored_task_bytes, task_bytes
from streamgmm.rows.fingerprint import digest, digest_of_files
from streamgmm.rows.reading import Reading
from streamgmm.rows.tables import ArrowLayout
from streamgmm.storage import url_of

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
    """One row group of one file, and the partition values of that file."""

    path: str
    index: int
    n_rows: int
    n_bytes: int
    partition: tuple[tuple[str, Any], ...]


class ParquetRows(RandomAccessRows):
    """The rows of Parquet files, in the order of the files' names.

    Parameters
    ----------
    path : str
        A file, a folder, or a glob; anything that fsspec opens.
    columns : sequence of str, optional
        The features; all columns but the weights where not given. Partition keys are used only where named.
    weight_column : str, optional
        The column that holds the weights of the rows.
    memory_limit : int, optional
        Bytes that a process may use.
    """

    def __init__(
        self,
        path: str,
        *,
        columns: Sequence[str] | None = None,
        weight_column: str | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self._reading = Reading.of(path)
        dataset, schema, partition_names = self._reading.call(lambda: _discover(path), path)
        if columns is None:
            file_schema = schema
        else:
            file_schema = _with_partition_keys(schema, dataset.schema, partition_names, columns)
        self.description = path
        self._layout = ArrowLayout.of_schema(file_schema, columns, weight_column, path)
        self._groups = self._reading.call(
            lambda: _row_groups(path, dataset, schema, self._layout, partition_names), path
        )
        self._starts = [0, *accumulate(group.n_rows for group in self._groups)]
        self.n_rows, self.n_features = self._starts[-1], self._layout.n_features
        if self.n_rows == 0:
            raise RowsError(f"{path} has no rows")
        self.dtype, self.feature_names = self._layout.dtype, self._layout.feature_names
        self.in_memory = False
        self.ranges = self._cut(memory_limit)

    def _cut(self, memory_limit: int | None) -> tuple[RowRange, ...]:
        """Cut into tasks of whole row groups, as many as fit; a batch of rows is all that must be in memory."""
        row_bytes = self.dtype.itemsize * self.n_features
        target_bytes = stored_task_bytes(self._starts[-1] * row_bytes, memory_limit)
        wanted = task_bytes(PIECE_BYTES, memory_limit) // row_bytes
        self._batch_rows = max(1, min(_BATCH_ROWS, wanted, self._starts[-1]))
        piece_bytes = self._batch_rows * row_bytes
        check_piece(piece_bytes, memory_limit, self.description)
        self._ahead = self._reading.remote and fits(2 * piece_bytes, memory_limit)
        encoded = max(group.n_bytes for group in self._groups) if self._reading.remote else 0
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
        return digest_of_files(sorted({group.path for group in self._groups}))

    def _content_digest(self) -> str:
        return digest([super()._content_digest(), *self._layout.columns, f"weights: {self._layout.weight_column}"])

    def read(self, start: int, stop: int) -> Iterator[Block]:
        pieces = self._pieces(start, stop)
        return read_ahead(pieces) if self._ahead else pieces

    def _pieces(self, start: int, stop: int) -> Iterator[Block]:
        first = bisect_right(self._starts, start) - 1
        for group, group_start in zip(self._groups[first:], self._starts[first:], strict=False):
            if group_start >= stop:
                break
            at = group_start
            for table in self._tables(group):
                low, high = max(start, at), min(stop, at + table.num_rows)
                if low < high:
                    yield self._layout.block(table.slice(low - at, high - low), low)
                at += table.num_rows
                if at >= stop:
                    break

    def _tables(self, group: RowGroup) -> Iterator[pa.Table]:
        """Decode a row group, some rows at a time; after a failure that may pass, go on with the rows that follow."""
        n_given = 0
        for last in self._reading.retries.waits():
            try:
                for table in islice(self._decoded(group), n_given, None):
                    n_given += 1
                    yield table
                return
            except Exception as error:
                if last or not self._reading.may_pass(error):
                    raise self._reading.error(error, f"{group.path}: row group {group.index}") from error

    def _decoded(self, group: RowGroup) -> Iterator[pa.Table]:
        import fsspec
        import pyarrow as pa
        import pyarrow.parquet as pq

        partition = dict(group.partition)
        names = [c for c in self._layout.read_columns if c not in partition]
        # From a file here, a megabyte of each column at a time; from elsewhere a row group's columns as a whole, which
        # takes fewer requests.
        options = {} if self._reading.remote else {"buffer_size": _BUFFER_BYTES, "pre_buffer": False}
        with fsspec.open(group.path, "rb") as file, pq.ParquetFile(file, **options) as parquet:
            batches = parquet.iter_batches(self._batch_rows, row_groups=[group.index], columns=names, use_threads=False)
            for batch in batches:
                table = pa.Table.from_batches([batch])
                for name, value in partition.items():
                    table = table.append_column(name, pa.array(np.full(table.num_rows, value)))
                yield table


def _discover(path: str) -> tuple[pads.Dataset, pa.Schema, tuple[str, ...]]:
    """Find the files of a path; return them as a dataset, the schema of the files, and the partition keys' names."""
    import fsspec
    import pyarrow as pa
    import pyarrow.dataset as pads

    try:
        filesystem, root = fsspec.core.url_to_fs(path)
        if any(c in root for c in "*?["):
            files = sorted(f for f in filesystem.glob(root) if filesystem.isfile(f))
            if not files:
                raise RowsError(f"{path} matches no file")
        elif filesystem.isdir(root):
            found = sorted(filesystem.find(root))
            visible = [f for f in found if not any(p.startswith(("_", ".")) for p in _parts_below(f, root))]
            files = [f for f in visible if f.endswith((".parquet", ".parq", ".pq"))] or visible
            if not files:
                raise RowsError(f"{path} is a folder without files")
        elif filesystem.exists(root):
            files = [root]
        else:
            raise RowsError(f"{path} does not exist")
        partitioning = pads.partitioning(flavor="hive")
        dataset = pads.dataset(files, filesystem=filesystem, format="parquet", partitioning=partitioning)
        fragment = next(iter(dataset.get_fragments()))
        schema = fragment.physical_schema
    except pa.ArrowInvalid as error:
        raise RowsError(f"{path} can't be read as Parquet: {error}") from error
    names = tuple(name for name in dataset.schema.names if name not in schema.names)
    return dataset, schema, names


def _parts_below(file: str, root: str) -> list[str]:
    return file[len(root) :].strip("/").split("/")


def _with_partition_keys(
    schema: pa.Schema, whole: pa.Schema, partition_names: tuple[str, ...], columns: Sequence[str]
) -> pa.Schema:
    for name in partition_names:
        if name in columns:
            schema = schema.append(whole.field(name))
    return schema


def _row_groups(
    path: str, dataset: pads.Dataset, schema: pa.Schema, layout: ArrowLayout, partition_names: tuple[str, ...]
) -> list[RowGroup]:
    import fsspec
    import pyarrow as pa
    import pyarrow.dataset as pads

    root = fsspec.core.url_to_fs(path)[1]
    groups: list[RowGroup] = []
    for fragment in dataset.get_fragments():
        try:
            for column in layout.read_columns:
                if column in partition_names:
                    continue
                found = fragment.physical_schema.field(column).type
                if found != schema.field(column).type:
                    raise RowsError(
                        f"column {column!r} is {found} in {fragment.path} and {schema.field(column).type} in the first "
                        "file: write the files with one schema"
                    )
            rows = [(g.id, g.num_rows, g.total_byte_size) for g in fragment.row_groups]
        except KeyError:
            raise RowsError(f"{fragment.path} has no column {column!r}, which the first file has") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise RowsError(f"{fragment.path} can't be read as Parquet: {error}") from error
        keys = pads.get_partition_keys(fragment.partition_expression)
        partition = tuple((k, v) for k, v in keys.items() if k in layout.read_columns and k in partition_names)
        url = url_of(fragment.path, path, root)
        groups.extend(RowGroup(url, *of_group, partition) for of_group in rows)
    return groups
