"""Which files a path, a pattern, a list or a dataset stands for: their order, their keys, what is left out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

from streamgmm.exceptions import RowsError, RowsWarning
from streamgmm.sources.paths import has_magic, is_hidden, names_below, normalize_path, starts_with
from streamgmm.storage.urls import build_url, get_filesystem

SUFFIXES = (".parquet", ".parq", ".pq")
#: Files that writers of Parquet leave beside it, and that hold no rows.
_COMPANIONS = re.compile(r"(_SUCCESS|_metadata|_common_metadata|_committed_.*|_started_.*|.*\.crc|\.DS_Store)")
#: Folders that say that not all files below are rows of the table as it is now.
_LAKES = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
#: Folders of a pattern in which a table's log is looked for, at most: each takes a few requests.
_LAKES_SOUGHT = 100
#: Names that a warning lists, at most.
_LISTED = 3

#: A partition key: its name, and its text (or its value, of a dataset); None where that is missing.
Key = tuple[str, Any]


@dataclass(frozen=True)
class StoredFile:
    """A file of Parquet.

    Attributes
    ----------
    path : str
        Its place in the file system.
    url : str
        What opens it from any process.
    keys : tuple of (name, text)
        The partition keys that its folders name.
    """

    path: str
    url: str
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class FoundFiles:
    """Files of Parquet, in the order of their rows.

    Attributes
    ----------
    files : tuple of StoredFile
    filesystem : AbstractFileSystem
    outer_keys : frozenset of str
        Keys of folders that all files of a list lie in: they mean nothing where the files have such a column.
    """

    files: tuple[StoredFile, ...]
    filesystem: Any
    outer_keys: frozenset[str] = frozenset()


def find_files(path: str) -> FoundFiles:
    """Find the files of a path: a file, a folder with all that is below it, or a pattern.

    The files come in the order of their names, with the numbers in these in the order of numbers, as Dask reads them.

    Raises
    ------
    RowsError
        If there are none, or they are those of a lake table.
    """
    filesystem, root = get_filesystem(path)
    if filesystem.isdir(root):
        refuse_lake_table(filesystem, root, path)
        files = _files_of_folder(filesystem, root, path)
        base = root
    elif filesystem.exists(root):
        files, base = [root], os.path.dirname(root)
    elif has_magic(root):
        base = os.path.dirname(root[: re.search(r"[*?\[]", root).start()])  # type: ignore[union-attr]
        files = _matching(filesystem, root, path)
        for folder in _folders_of(files, base):
            refuse_lake_table(filesystem, folder, path)
    else:
        raise RowsError(f"{path} does not exist")
    ordered = sorted(files, key=lambda file: _natural(names_below(file, base)))
    stored = tuple(StoredFile(f, build_url(f, path, root), _keys(names_below(f, base)[:-1])) for f in ordered)
    return FoundFiles(stored, filesystem)


def list_files(paths: Sequence[str]) -> FoundFiles:
    """Take the files of a list, in its order; as with pyarrow and pandas, all folders of their paths can be keys.

    Raises
    ------
    RowsError
        If one is not there, or not a file.
    """
    stored = []
    first = get_filesystem(paths[0])[0]
    for path in paths:
        filesystem, place = get_filesystem(path)
        if filesystem is not first:
            raise RowsError(f"{path} is in another file system than {paths[0]}: a list is of files in one place")
        if not filesystem.isfile(place):
            found = "is a folder" if filesystem.isdir(place) else "does not exist"
            raise RowsError(f"{path} {found}: a list must be of Parquet files; give a folder by itself")
        stored.append(StoredFile(place, path, _keys(place.split("/")[:-1])))
    folders = [file.path.split("/")[:-1] for file in stored]
    outer = _keys(same[0] for same in takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False)))
    return FoundFiles(tuple(stored), first, frozenset(name for name, _ in outer))


def refuse_lake_table(filesystem: Any, root: str, path: str) -> None:
    """Raise RowsError where a folder is, or lies in, a table whose log says which of its files count."""
    here = root.rstrip("/")
    while True:
        for folder, kind in _LAKES.items():
            if filesystem.isdir(f"{here}/{folder}"):
                raise RowsError(_lake(path, kind))
        parent, _, name = here.rpartition("/")
        of_iceberg = [here, parent] if name == "data" else [here]
        for table in of_iceberg:
            if filesystem.isdir(f"{table}/metadata") and filesystem.glob(f"{_literal(table)}/metadata/*.metadata.json"):
                raise RowsError(_lake(path, "an Iceberg table"))
        # A folder of a partitioned table is a part of it.
        if "=" not in name:
            return
        here = parent


def _folders_of(files: list[str], base: str) -> list[str]:
    """Return a folder and those below it that may be tables, the highest first; not all where there are very many."""
    found = {base}
    for file in files:
        names = names_below(file, base)[:-1]
        found.update("/".join([base.rstrip("/"), *names[: depth + 1]]) for depth in range(len(names)))
    whole = [folder for folder in found if folder == base or "=" not in folder[len(base) :]]
    return sorted(whole, key=lambda folder: (folder.count("/"), folder))[:_LAKES_SOUGHT]


def _lake(path: str, kind: str) -> str:
    instead = {
        "a Delta Lake table": "Give the table, delta:PATH",
        "an Iceberg table": "Give the table, iceberg:CATALOG.NAMESPACE.TABLE",
    }.get(kind, "Give the list of its live files, or a table that its own library has read")
    return (
        f"{path} is {kind}: its log says which of its files are rows, and some may be deleted or old. Read as plain "
        f"Parquet they would count too. {instead}"
    )


def _literal(path: str) -> str:
    """Escape a path for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _matching(filesystem: Any, pattern: str, path: str) -> list[str]:
    found = [str(name) for name in filesystem.glob(pattern)]
    files = [name for name in found if filesystem.isfile(name)]
    if not files:
        what = "folders only: name the files in them, with /*.parquet at the end" if found else "no file"
        raise RowsError(f"{path} matches {what}")
    return files


def _files_of_folder(filesystem: Any, root: str, path: str) -> list[str]:
    """Return the files of Parquet below a folder; warn of those that are left out and may be meant."""
    found = sorted(str(file) for file in filesystem.find(root))
    if not found:
        raise RowsError(f"{path} is a folder without files")
    files, others, hidden = [], [], []
    for file in found:
        names = names_below(file, root)
        for name, kind in _LAKES.items():
            if name in names[:-1]:
                raise RowsError(_lake(f"{path}/{'/'.join(names[: names.index(name)])}", kind))
        if names[-2:-1] == ["metadata"] and names[-1].endswith(".metadata.json"):
            raise RowsError(_lake("/".join([path, *names[:-2]]), "an Iceberg table"))
        if _COMPANIONS.fullmatch(names[-1]):
            continue
        if any(is_hidden(name) for name in names):
            if _is_parquet(filesystem, file):
                hidden.append(file)
        elif _is_parquet(filesystem, file):
            files.append(file)
        else:
            others.append(file)
    if not files:
        shown = f" (it has {_some(names_below(f, root)[-1] for f in others)})" if others else ""
        raise RowsError(
            f"{path} is a folder, but neither a Zarr store nor one with Parquet files (*.parquet){shown}: give the "
            "path of the file or store to read"
        )
    for left_out, why in ((others, "no Parquet"), (hidden, "Parquet whose name or folder begins with _ or .")):
        if left_out:
            warnings.warn(
                f"{path}: {len(files)} file(s) of Parquet are read, and {len(left_out)} left out that are {why}: "
                f"{_some('/'.join(names_below(file, root)) for file in left_out)}",
                RowsWarning,
                stacklevel=2,
            )
    return files


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")


def _is_parquet(filesystem: Any, file: str) -> bool:
    # Hive and others write files without a suffix.
    return file.lower().endswith(SUFFIXES) or starts_with(filesystem, file, b"PAR1")


def _natural(names: list[str]) -> tuple[Any, ...]:
    from dask.utils import natural_sort_key

    name = "/".join(names)
    return natural_sort_key(name), name


def _keys(folders: Iterable[str]) -> tuple[Key, ...]:
    keys: dict[str, str | None] = {}
    for folder in folders:
        name, equals, value = folder.partition("=")
        if equals and name:
            keys[unquote(name)] = None if value == _NO_VALUE else unquote(value)
    return tuple(keys.items())


def dataset_files(dataset: Any) -> FoundFiles:
    """Take the files of a `pyarrow.dataset.Dataset`, in its order, and the keys that its partitioning gives them.

    Raises
    ------
    RowsError
        If it is filtered, or not one of Parquet files that fsspec can open.
    """
    import fsspec
    import pyarrow.dataset as pads
    from pyarrow import fs

    instead = "give the list of its files, or a table of it, dataset.to_table()"
    if not isinstance(dataset, pads.FileSystemDataset) or dataset.format.default_extname != "parquet":
        raise RowsError(f"X is a {type(dataset).__name__} that is not one of Parquet files: {instead}")
    if getattr(dataset, "_scan_options", None):
        raise RowsError(f"X is a filtered dataset, and its rows would be read without the filter: {instead}")
    if isinstance(dataset.filesystem, fs.LocalFileSystem):
        filesystem = fsspec.filesystem("file")
    elif isinstance(dataset.filesystem, fs.PyFileSystem) and isinstance(dataset.filesystem.handler, fs.FSSpecHandler):
        filesystem = dataset.filesystem.handler.fs
    else:
        raise RowsError(
            f"X is a dataset on a {type(dataset.filesystem).__name__} of pyarrow's, which workers can't open: give the "
            "list of the URLs of its files, as fsspec opens them"
        )
    stored = []
    for fragment in dataset.get_fragments():
        keys = pads.get_partition_keys(fragment.partition_expression)
        url = normalize_path(filesystem.unstrip_protocol(fragment.path))
        stored.append(StoredFile(fragment.path, url, tuple(keys.items())))
    if not stored:
        raise RowsError("X is a dataset without files")
    return FoundFiles(tuple(stored), filesystem)
