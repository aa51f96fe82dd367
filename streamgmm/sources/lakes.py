"""Tables of lakes, Delta Lake's and Iceberg's: the files that the table's own log names at one version, as rows.

``delta:PATH`` or ``delta:PATH@VERSION``, ``iceberg:CATALOG.TABLE`` or ``iceberg:CATALOG.TABLE@SNAPSHOT``, or a
``deltalake.DeltaTable`` or a table of ``pyiceberg``. The version is fixed when the source is opened. Rows that were
removed or superseded are in files that the log does not name any more; where it says of a file that some of its rows
don't count, or that its columns have other names than the table's, the table is refused: files alone don't tell.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from streamgmm.exceptions import InputError, ReadError, RowsError
from streamgmm.sources.parquet_files import FoundFiles, StoredFile
from streamgmm.sources.paths import normalize_path
from streamgmm.storage.urls import get_filesystem

if TYPE_CHECKING:
    import pyarrow as pa

PREFIXES = ("delta:", "iceberg:")
#: What is read for a table, and what installs it.
_LIBRARIES = {"deltalake": "delta", "pyiceberg": "iceberg"}
#: What the library says where there is no table.
_IS_NOT_THERE = re.compile(r"version|not a|no files|no such file|not found|does not exist", re.IGNORECASE)


@dataclass(frozen=True)
class LakeTable:
    """A table at one version.

    Attributes
    ----------
    description : str
        How errors name it.
    version : str
        Which table it is, and at which version; without its place.
    files : FoundFiles
    schema : pyarrow.Schema
        The types of its columns; partition columns among them.
    numbered : pyarrow.Schema or None
        The same columns with the numbers by which files know them, and what is in them, whatever they call them.
    imported_names : mapping of int to tuple of str
        What files without numbers, which were imported, call the column of a number.
    """

    description: str
    version: str
    files: FoundFiles
    schema: pa.Schema
    numbered: pa.Schema | None = None
    imported_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def check_names(self, columns: Any, footers: Any) -> None:
        """Raise RowsError where a file knows a column by another name, or another column by its name."""
        if self.numbered is None:
            return
        for footer in footers:
            imported = all(_field_id(one) is None for one in footer.schema)
            for name in columns:
                of_table = self.numbered.field(name)
                if imported:
                    was = self._name_in_import(of_table, footer.schema.names)
                else:
                    was = _changed(of_table, list(footer.schema))
                if was is not None:
                    raise RowsError(
                        f"column {name!r} of {self.description} can't be read by its name from {footer.file.url}: "
                        f"{was}. Rewrite the table's files, or give a table that its own library has read, "
                        "table.scan().to_arrow()"
                    )

    def _name_in_import(self, of_table: pa.Field, names: list[str]) -> str | None:
        """Say what an imported file calls a column, where that is something else."""
        known = self.imported_names.get(_field_id(of_table) or 0, (of_table.name,))
        if of_table.name in names and of_table.name not in known:
            return "another column had that name when the file was imported"
        other = next((name for name in names if name in known), None)
        return None if of_table.name in names or other is None else f"it is called {other!r} there, as it was once"


def _changed(of_table: pa.Field, in_file: list[pa.Field]) -> str | None:
    """Say what has become of a column, or of a part of it, since a file was written; None where nothing has."""
    import pyarrow as pa

    number = _field_id(of_table)
    by_name = next((one for one in in_file if one.name == of_table.name), None)
    other = next((one.name for one in in_file if _field_id(one) == number and one.name != of_table.name), None)
    if other is not None and number is not None:
        return f"{of_table.name!r} is called {other!r} there (it was renamed, or has a name that files write otherwise)"
    if by_name is None:
        return None
    if _field_id(by_name) not in (None, number):
        return f"another column was called {of_table.name!r} then"
    of_table_type, in_file_type = of_table.type, by_name.type
    if not (pa.types.is_nested(of_table_type) and pa.types.is_nested(in_file_type)):
        return None
    parts = [in_file_type.field(place) for place in range(in_file_type.num_fields)]
    if pa.types.is_struct(of_table_type):
        wanted = [of_table_type.field(place) for place in range(of_table_type.num_fields)]
        return next((was for one in wanted if (was := _changed(one, parts)) is not None), None)
    # Of lists and maps the parts have no names of their own.
    for place, part in enumerate(parts):
        one = of_table_type.field(place)
        if (was := _changed(one, [part.with_name(one.name)])) is not None:
            return was
    return None


def is_lake(source: Any) -> bool:
    """Tell a table of a lake, or its name, from other sources without importing what defines it."""
    if isinstance(source, str):
        return source.startswith(PREFIXES)
    return any(
        (cls.__module__.split(".")[0], cls.__name__) in (("deltalake", "DeltaTable"), ("pyiceberg", "Table"))
        for cls in type(source).__mro__
    )


def open_lake(source: Any) -> LakeTable:
    """Open a table at the version that is named, or at the one that it has now.

    Raises
    ------
    RowsError
        If there is no such table or version, or some rows of its files don't count.
    InputError
        If what reads such tables is not installed.
    """
    if isinstance(source, str):
        kind, _, place = source.partition(":")
        return _open_delta(place) if kind == "delta" else _open_iceberg(place)
    if type(source).__module__.startswith("deltalake"):
        return _read_delta(source)
    return _read_iceberg(source, None)


def _split(place: str) -> tuple[str, str | None]:
    """Return a place and what stands behind its last @."""
    before, at, after = place.rpartition("@")
    return (before, after) if at and after and "/" not in after else (place, None)


def _import(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        package, _, _ = name.partition(".")
        extra = _LIBRARIES[package]
        raise InputError(f"{extra}: tables are read with {package}: pip install 'streamgmm[{extra}]'") from error


def _open_delta(place: str) -> LakeTable:
    path, version = _split(place)
    if version is not None and not version.isdecimal():
        raise RowsError(f"delta:{place} has {version!r} for its version; expected a number, delta:{path}@3")
    if not path:
        raise RowsError("delta: names no table; expected delta:PATH or delta:PATH@VERSION")
    deltalake = _import("deltalake")
    where = normalize_path(path)
    try:
        table = deltalake.DeltaTable(where, version=None if version is None else int(version))
    except Exception as error:  # those of the library among them
        said = " ".join(str(error).split())
        kind = RowsError if _IS_NOT_THERE.search(said) else ReadError
        if "Unknown scheme" in said:
            raise InputError(f"delta:{place} can't be opened: {said[:200]}") from error
        raise kind(f"delta:{place} can't be opened: {said}") from error
    return replace(_read_delta(table), description=f"delta:{path}@{table.version()}")


def _read_delta(table: Any) -> LakeTable:
    import pyarrow as pa

    configuration = table.metadata().configuration
    # Delta's are quoted as URIs are; Iceberg's are what they say.
    root = unquote(_path(table.table_uri))
    description = f"the Delta table {root} at version {table.version()}"
    mapping = configuration.get("delta.columnMapping.mode", "none")
    if mapping != "none":
        raise RowsError(
            f"{description} has column mapping ({mapping}): its files have other names for the columns. Give a table "
            "that the library itself has read, or rewrite it without"
        )
    _check_no_deletion_vectors(table, description)
    schema = pa.schema(table.schema().to_arrow())
    actions = pa.table(table.get_add_actions(flatten=True))
    partitions = table.metadata().partition_columns
    filesystem, _ = get_filesystem(root)
    files = []
    for action in actions.select(["path", *(f"partition.{name}" for name in partitions)]).to_pylist():
        path = unquote(action["path"])
        url = path if "://" in path or path.startswith("/") else f"{root.rstrip('/')}/{path}"
        keys = tuple((name, action[f"partition.{name}"]) for name in partitions)
        files.append(StoredFile(get_filesystem(url)[1], url, keys))
    version = f"Delta Lake table {table.metadata().id}, version {table.version()}"
    return LakeTable(description, version, _found(files, filesystem, description), schema)


def _check_no_deletion_vectors(table: Any, description: str) -> None:
    if "deletionVectors" not in (table.protocol().reader_features or ()):
        return
    import pyarrow as pa

    try:
        n = str(pa.table(table.deletion_vectors()).num_rows)
    except Exception:  # the library's own: there is one that it can't read
        n = "some"
    if n != "0":
        raise RowsError(
            f"{description} has deletion vectors for {n} of its files: rows that are in a file and don't count. "
            "Rewrite these files (OPTIMIZE or REORG TABLE ... APPLY (PURGE)), or give a table that the library itself "
            "has read"
        )


def _open_iceberg(place: str) -> LakeTable:
    name, snapshot = _split(place)
    catalog, _, identifier = name.partition(".")
    if not catalog or not identifier:
        raise RowsError(f"iceberg:{place} names no table; expected iceberg:CATALOG.NAMESPACE.TABLE@SNAPSHOT")
    load_catalog = _import("pyiceberg.catalog").load_catalog
    opened: Any = None
    try:
        try:
            opened = load_catalog(catalog)
            table = opened.load_table(identifier)
        except Exception as error:  # those of the library among them
            said = " ".join(str(error).split()) or type(error).__name__
            kind = (
                RowsError if type(error).__name__.startswith("NoSuch") or isinstance(error, ValueError) else ReadError
            )
            raise kind(
                f"iceberg:{place} can't be opened: {said} (catalogs are those of pyiceberg's configuration, "
                "~/.pyiceberg.yaml or PYICEBERG_CATALOG__...)"
            ) from error
        found = _read_iceberg(table, snapshot)
        return replace(found, description=f"iceberg:{name}@{found.version.rpartition(' ')[2]}")
    finally:
        if hasattr(opened, "close"):
            # The connections of one that is a database.
            opened.close()


def _read_iceberg(table: Any, snapshot: str | None) -> LakeTable:
    import pyarrow as pa

    name = ".".join(table.name())
    known = {str(one.snapshot_id): one for one in table.snapshots()}
    if snapshot is None:
        chosen = table.current_snapshot()
    elif snapshot in known:
        chosen = known[snapshot]
    else:
        chosen = table.snapshot_by_name(snapshot)
        if chosen is None:
            raise RowsError(
                f"the Iceberg table {name} has no snapshot {snapshot!r}; it has {', '.join(list(known)[-5:]) or 'none'}"
            )
    if chosen is None:
        raise RowsError(f"the Iceberg table {name} has no snapshot: no rows were ever written")
    description = f"the Iceberg table {name} at snapshot {chosen.snapshot_id}"
    # As the library gives the rows: those of an old snapshot with the columns that the table had then.
    scan = table.scan() if snapshot is None else table.scan(snapshot_id=chosen.snapshot_id)
    numbered = pa.schema(scan.projection().as_arrow())
    schema = pa.schema([one.remove_metadata() for one in numbered])
    files = []
    for task in scan.plan_files():
        if task.delete_files:
            raise RowsError(
                f"{description} has delete files for {task.file.file_path}: rows that are in a file and don't count. "
                "Rewrite its data files, or give a table that the library itself has read, table.scan().to_arrow()"
            )
        if str(task.file.file_format).rpartition(".")[2] != "PARQUET":
            raise RowsError(f"{description} has files that are no Parquet: {task.file.file_path}")
        url = _path(task.file.file_path)
        files.append(StoredFile(get_filesystem(url)[1], url, tuple(_identity_keys(table, task.file))))
    filesystem = get_filesystem(files[0].url)[0] if files else None
    version = f"Iceberg table {table.metadata.table_uuid}, snapshot {chosen.snapshot_id}"
    found = _found(files, filesystem, description)
    return LakeTable(description, version, found, schema, numbered, _imported_names(table))


def _imported_names(table: Any) -> dict[int, tuple[str, ...]]:
    """Return what files that the table did not write call its columns, where it says so."""
    text = table.properties.get("schema.name-mapping.default")
    entries = json.loads(text) if text else []
    return {int(one["field-id"]): tuple(one["names"]) for one in entries if "field-id" in one}


def _identity_keys(table: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Give the values that a file has in the columns that the table is partitioned by."""
    spec = table.specs()[file.spec_id]
    for place, part in enumerate(spec.fields):
        if str(part.transform) != "identity":
            continue
        name = table.schema().find_column_name(part.source_id)
        value = file.partition[place]
        if name is None:
            continue
        kind = str(table.schema().find_type(part.source_id))
        if kind == "date" and value is not None:
            value = datetime.date(1970, 1, 1) + datetime.timedelta(days=int(value))
        if kind in ("boolean", "int", "long", "string", "date"):
            yield name, value


def _found(files: list[StoredFile], filesystem: Any, description: str) -> FoundFiles:
    if not files:
        raise RowsError(f"{description} has no files: no rows")
    return FoundFiles(tuple(files), filesystem)


def _path(uri: str) -> str:
    """Return the path of a file: URI, and others as they are."""
    return f"/{uri.removeprefix('file:').lstrip('/')}" if uri.startswith("file:") else uri


def _field_id(one: pa.Field) -> int | None:
    number = (one.metadata or {}).get(b"PARQUET:field_id")
    return None if number is None else int(number)
