"""Results as a folder of Parquet files, one or, by the values of columns, several for each part of the rows."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import InputError, OutputError
from streamgmm.predict.outputs import Options, Piece, ScoreOutput, parse_said
from streamgmm.sources.kept import DIGITS
from streamgmm.storage.names import is_url, local_path, naming_output
from streamgmm.storage.requests import retry
from streamgmm.storage.staging import PARTIAL
from streamgmm.storage.urls import get_filesystem, open_url

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = ("snappy", "zstd", "gzip", "lz4", "brotli", "none")
#: Under which name a file says by what it was made.
_JOB = b"streamgmm.job"
#: Under which name the first file of a part says of how many of its rows what.
_ROWS = b"streamgmm.rows"
#: Rows of a row group, and bytes of its decoded columns, at most, where nothing else is asked for.
_ROW_GROUP_ROWS, _ROW_GROUP_BYTES = 2**20, 32 * 2**20
#: What folders are named by where a value is missing.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
#: Folders of one part, at most: each has a file that is open. (Arrow's own limit is the same.)
_MOST_FOLDERS = 1024
#: Bytes that the files of one part that are open may hold together before the largest is written.
_HELD_BYTES = 64 * 2**20


class ParquetOutput(ScoreOutput):
    """A folder of Parquet files; their names sort in the order of the rows."""

    @staticmethod
    def check_options(options: Options, keep: Sequence[Hashable] | str) -> None:
        if options.compression not in (None, *COMPRESSIONS):
            raise InputError(f"compression must be one of {', '.join(COMPRESSIONS)}; got {options.compression!r}")
        if len(set(options.partition_by)) < len(options.partition_by):
            raise InputError(f"partition_by names a column twice: {', '.join(options.partition_by)}")
        for name in options.partition_by:
            if not name or name[0] in "_." or set(name) & set("/=\0"):
                raise InputError(
                    f"partition_by: folders can't be named by the column {name!r}: readers pass over names that begin "
                    "with _ or ., and take = and / for what divides names; leave it out, or rename it"
                )
        if not isinstance(keep, str):
            _check_kept(options.partition_by, keep)

    def check(self) -> None:
        _check_kept(self.options.partition_by, () if self.kept is None else self.kept.names)
        for name in self.options.partition_by:
            kind = self._kept_schema.field(name).type
            if not _names_folders(kind):
                raise InputError(
                    f"partition_by: the column {name!r} has type {kind}; folders can be named by whole numbers, texts, "
                    "dates and booleans"
                )
        _ = self.schema

    @cached_property
    def _kept_schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([]) if self.kept is None else self.kept.as_schema()

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, in their order: those that are kept, then the results."""
        import pyarrow as pa

        results = [
            pa.field(self.options.prefix + name, pa.from_numpy_dtype(column.dtype))
            for column in self.scores.values()
            for name in column.names
        ]
        return pa.schema([*self._kept_schema, *results])

    def find_job(self) -> str | None:
        import pyarrow.parquet as pq

        filesystem, place = open_url(self.name) if is_url(self.name) else get_filesystem(local_path(self.name))
        if not filesystem.isdir(place):
            return None
        first = next((name for name in sorted(map(str, filesystem.find(place))) if name.endswith(".parquet")), None)
        if first is None:
            return None
        try:
            metadata = pq.read_schema(first, filesystem=filesystem).metadata or {}
        except (OSError, ValueError):
            return None
        return metadata.get(_JOB, b"").decode() or None

    def create(self, n_rows: int | None, part_rows: int) -> None:
        if not is_url(self.path):
            with naming_output(self.name):
                os.makedirs(self.path)

    def write(self, part: str, start: int, pieces: Iterable[Piece], said: Callable[[], Mapping[str, int]]) -> None:
        folders = _Folders(self, part)
        try:
            for piece in pieces:
                for folder, table in self._by_folder(self._table(piece)):
                    folders.add(folder, table)
            folders.close(said())
        except BaseException:
            folders.abandon()
            raise

    def _table(self, piece: Piece) -> pa.Table:
        import pyarrow as pa

        columns = [] if piece.kept is None else list(piece.kept.as_table().columns)
        for values in piece.scores.values():
            columns += [pa.array(one) for one in values.reshape(piece.n_rows, -1).T]
        return pa.table(columns, schema=self.schema)

    def _by_folder(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """Give the rows of each folder, in their order."""
        names = list(self.options.partition_by)
        if not names:
            yield "", table
            return
        import pyarrow as pa
        import pyarrow.compute as pc

        codes = np.zeros(table.num_rows, dtype=np.int64)
        for name in names:
            encoded = pc.dictionary_encode(_plain(table.column(name)), null_encoding="encode").combine_chunks()
            indices = (encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded).indices.to_numpy()
            codes = np.unique(codes * (int(indices.max(initial=0)) + 1) + indices, return_inverse=True)[1]
        rest = table.drop_columns(names)
        order = np.argsort(codes, kind="stable")
        bounds = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for first, last in zip(bounds, [*bounds[1:], len(order)], strict=True):
            rows = order[first:last]
            values = {table.field(name): table.column(name)[int(rows[0])] for name in names}
            yield _folder_of(values), rest.take(pa.array(rows))

    def open_file(self, folder: str, part: str) -> tuple[Any, str, str]:
        """Open a file of one folder: return its writer, its name until it is complete, and its name then."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        place = "/".join(name for name in (self.path, folder, f"part-{part}.parquet") if name)
        filesystem, written = None, place
        if is_url(self.path):
            # An object appears when all of it has been sent.
            filesystem, written = open_url(place)
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            written = f"{place}-{uuid.uuid4().hex[:8]}{PARTIAL}"
        fields = [_without_digits(one) for one in self.schema if one.name not in self.options.partition_by]
        schema = pa.schema(fields, metadata={_JOB: self.job} if self.job else None)
        # Hardly two densities or responsibilities are equal: a dictionary of them would take time and room.
        results = {self.options.prefix + n for c in self.scores.values() if c.dtype.kind == "f" for n in c.names}
        dictionary: Any = [one.name for one in schema if one.name not in results]
        compression = self.options.compression or "snappy"
        writer = pq.ParquetWriter(
            written, schema, filesystem=filesystem, compression=compression, use_dictionary=dictionary or False
        )
        return writer, written, place

    def complete(self, parts: Sequence[tuple[int, int]], said: Mapping[str, int]) -> None:
        if is_url(self.path):
            # There, files come one by one: this one says that they are all there, as Spark's does. Elsewhere it would
            # be one that polars takes for a part.
            filesystem, place = open_url(f"{self.path}/_SUCCESS")
            with naming_output(self.name):
                retry(lambda: filesystem.pipe_file(place, b""))

    def find_said(self) -> dict[str, int]:
        import pyarrow.parquet as pq

        filesystem, place = open_url(self.name) if is_url(self.name) else get_filesystem(local_path(self.name))
        total: Counter[str] = Counter()
        for name in sorted(map(str, filesystem.find(place))):
            if name.endswith(".parquet"):
                metadata = pq.read_metadata(name, filesystem=filesystem).metadata or {}
                total.update(parse_said(json.loads(metadata.get(_ROWS, b"{}"))))
        return dict(total)


@dataclass
class _File:
    """A file that is being written, and what is held for its next row group."""

    writer: Any
    written: str
    place: str
    held: list[pa.Table] = field(default_factory=list)
    n_rows: int = 0
    n_bytes: int = 0


@dataclass
class _Folders:
    """The files of one part, one for each folder."""

    output: ParquetOutput
    part: str
    files: dict[str, _File] = field(default_factory=dict)

    def add(self, folder: str, table: pa.Table) -> None:
        """Add rows to the file of a folder; of all files not much more is held than a row group."""
        file = self.files.get(folder)
        if file is None:
            if len(self.files) >= _MOST_FOLDERS:
                raise OutputError(
                    f"{self.output.name} can't be written: partition_by gives more than {_MOST_FOLDERS} folders for "
                    f"one part of the rows ({', '.join(self.output.options.partition_by)}); choose columns with fewer "
                    "values"
                )
            with naming_output(self.output.name):
                file = self.files[folder] = _File(*self.output.open_file(folder, self.part))
        asked = self.output.options.row_group_rows
        while table.num_rows:
            room = (asked or _ROW_GROUP_ROWS) - file.n_rows
            taken, table = table.slice(0, room), table.slice(room)
            file.held.append(taken)
            file.n_rows += taken.num_rows
            file.n_bytes += taken.nbytes
            if file.n_rows == (asked or _ROW_GROUP_ROWS) or (asked is None and file.n_bytes >= _ROW_GROUP_BYTES):
                self._write(file)
        while len(self.files) > 1 and sum(one.n_bytes for one in self.files.values()) > _HELD_BYTES:
            self._write(max(self.files.values(), key=lambda one: one.n_bytes))

    def _write(self, file: _File) -> None:
        import pyarrow as pa

        if file.n_rows:
            table = pa.concat_tables(file.held)
            with naming_output(self.output.name):
                file.writer.write_table(table, row_group_size=table.num_rows)
            del table
        file.held, file.n_rows, file.n_bytes = [], 0, 0
        # Arrow keeps what was freed for what comes; from row group to row group that adds up.
        pa.default_memory_pool().release_unused()

    def close(self, said: Mapping[str, int]) -> None:
        """Write what is left, and give the files their names; the first takes what there is to say of the part."""
        for number, file in enumerate(self.files.values()):
            self._write(file)
            with naming_output(self.output.name):
                if number == 0:
                    file.writer.add_key_value_metadata({_ROWS: json.dumps(dict(said), sort_keys=True).encode()})
                file.writer.close()
                if file.written != file.place and not is_url(self.output.path):
                    with open(file.written, "rb") as written:
                        os.fsync(written.fileno())
                    os.replace(file.written, file.place)

    def abandon(self) -> None:
        """Close files that can't be completed."""
        for file in self.files.values():
            # It has an error of its own where the one that ended it left no room for a footer.
            with suppress(Exception):
                file.writer.close()
            if not is_url(self.output.path):
                with suppress(OSError):
                    os.unlink(file.written)


def _check_kept(names: Sequence[str], kept: Sequence[Hashable]) -> None:
    for name in names:
        if name not in kept:
            raise InputError(
                f"partition_by names {name!r}, which is not kept: name it in keep= too"
                + (f" (kept: {', '.join(map(repr, kept))})" if kept else "")
            )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _names_folders(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(
        types.is_integer(plain) or types.is_string(plain) or types.is_large_string(plain) or types.is_date(plain)
        or types.is_boolean(plain)
    )  # fmt: skip


def _without_digits(one: pa.Field) -> pa.Field:
    metadata = {key: value for key, value in (one.metadata or {}).items() if key != DIGITS}
    return one.with_metadata(metadata or None)


def _folder_of(values: dict[pa.Field, Any]) -> str:
    """Name the folder of some values as Hive, Spark and Arrow do, with as many digits as the folders that were read."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    found = []
    for one, value in values.items():
        text = value.as_py()
        if isinstance(text, bool):
            text = str(text).lower()
        elif text is not None:
            text = str(text).zfill(int((one.metadata or {}).get(DIGITS, 0)))
        if text is not None and ("\0" in text or text == _NO_VALUE):
            raise OutputError(
                f"partition_by: no folder can be named by the value {text!r} of the column {one.name!r}: it would be "
                "read as another; leave such rows out, or the column"
            )
        partitioning = pads.partitioning(pa.schema([(one.name, pa.string())]), flavor="hive")
        expression = pc.field(one.name).is_null() if text is None else pc.field(one.name) == text
        found.append(partitioning.format(expression)[0].strip("/"))
    return "/".join(found)
