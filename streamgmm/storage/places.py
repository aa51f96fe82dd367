"""Where sources, models and checkpoints are, so that nothing is written over what is in use.

Two names may mean one place: by a symbolic link, a relative path, a `file://` URL, a mount, another case where the
file system knows none. Places on this machine are told apart by what the system calls the files and folders on the
way to them, places elsewhere by their file system and their path in it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

import numpy as np

from streamgmm.exceptions import CheckpointError, InputError
from streamgmm.storage.names import is_url, local_path
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import open_url

#: What tells a file or a folder from others: its device and number, or its path where it is not there.
_Key: TypeAlias = tuple[int, int] | str
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes
    ----------
    name : str
        As the user calls it.
    filesystem : str
        Kind and host of a file system that is not this machine's; "" for this machine's.
    path : str
        In that file system, without a slash at the end.
    """

    name: str
    filesystem: str
    path: str

    @cached_property
    def _ways(self) -> tuple[tuple[_Key, ...], ...]:
        """The place and the folders that it is in, from the inside out; two such ways where it is a symbolic link."""
        if self.filesystem:
            return (tuple(_upwards(self.path)),)
        # A link is replaced as a link, but it was perhaps given for what it leads to.
        link = os.path.join(os.path.realpath(os.path.dirname(self.path)), os.path.basename(self.path))
        ways = dict.fromkeys((link, os.path.realpath(self.path)))
        return tuple(tuple(_key(path) for path in _upwards(way)) for way in ways)

    def _is_inside(self, other: Place) -> bool:
        ends = {way[0] for way in other._ways}
        return self.filesystem == other.filesystem and any(key in ends for key in chain(*self._ways))

    def relation(self, other: Place) -> str | None:
        """Say how this place lies to another: it "is", "lies inside", "contains" it; or None."""
        inside, around = self._is_inside(other), other._is_inside(self)
        return {(True, True): "is", (True, False): "lies inside", (False, True): "contains"}.get((inside, around))


@dataclass(frozen=True)
class Glob(Place):
    """The files that a pattern matches, those too that are not there yet."""

    def _is_inside(self, other: Place) -> bool:
        return False

    def relation(self, other: Place) -> str | None:
        return None


@dataclass(frozen=True)
class InUse:
    """Places that nothing may be written over, and what is there.

    Attributes
    ----------
    what : str
        "the rows", say.
    places : tuple of Place
    """

    what: str
    places: tuple[Place, ...]


def find_place(path: str | os.PathLike[str]) -> Place:
    """Return the place of a path or a URL.

    Raises
    ------
    InputError
        If nothing opens such a URL, or there is a password in it.
    """
    name = os.fspath(path)
    # What only changes how the next one is read has no place of its own: zip://*.parquet::s3://bucket/a.zip.
    stored = name.rpartition("::")[2] if "://" in name else name
    if not is_url(stored):
        return Place(name, "", os.path.abspath(local_path(stored)))
    filesystem, found = open_url(stored)
    return _place_in(filesystem, found, name)


def find_places(source: Any, sample_weight: Any = None) -> tuple[Place, ...]:
    """Return the places that rows, and their weights, come from; none for those in memory.

    Of a Dask collection nothing is known: its graph may read anything. A text for the weights is a column's name.
    """
    weights = () if isinstance(sample_weight, str) else _places(sample_weight)
    return tuple(dict.fromkeys(chain(_places(source), weights)))


def check_apart(output: str | os.PathLike[str], *in_use: InUse) -> None:
    """Refuse to write where something in use is, in it, or around it.

    Raises
    ------
    InputError
        It names both.
    """
    if not any(used.places for used in in_use):
        return
    place = find_place(output)
    for used in in_use:
        for other in used.places:
            relation = _matches(place, other) if isinstance(other, Glob) else place.relation(other)
            if relation is not None:
                raise InputError(
                    f"the output {os.fspath(output)} {relation} {other.name}, {used.what}: writing there would change "
                    "or remove what is in use, and is refused with or without overwrite; give a place beside it"
                )


def check_checkpoint_apart(checkpoint: str | os.PathLike[str], rows: InUse) -> None:
    """Refuse a checkpoint that is the store of the rows, or inside it: that must not change while it is read.

    The folder that a store is in may be one: a checkpoint touches no files but its own.

    Raises
    ------
    CheckpointError
    """
    for other in rows.places:
        relation = find_place(checkpoint).relation(other)
        if relation in ("is", "lies inside"):
            raise CheckpointError(
                f"checkpoint={os.fspath(checkpoint)} {relation} {other.name}, {rows.what}: give a folder beside it"
            )


def _places(source: Any) -> Iterator[Place]:
    if isinstance(source, (str, os.PathLike)):
        # Of a table of Iceberg only its catalog knows where it is.
        name = os.fspath(source)
        if name.startswith("delta:"):
            place, at, version = name.removeprefix("delta:").rpartition("@")
            yield find_place(place if at and version.isdecimal() else name.removeprefix("delta:"))
        elif not name.startswith("iceberg:"):
            yield from _named(name)
    elif isinstance(source, (list, tuple)):
        if source and all(isinstance(one, (str, os.PathLike)) for one in source):
            yield from chain.from_iterable(_named(os.fspath(one)) for one in source)
    elif isinstance(source, np.ndarray):
        yield from _mapped(source)
    elif type(source).__module__.startswith("zarr"):
        yield from _of_zarr(source)
    elif type(source).__module__.startswith("pyarrow") and isinstance(getattr(source, "files", None), list):
        kind = str(getattr(source.filesystem, "type_name", "local"))
        prefix = "" if kind == "local" or kind.startswith("py::") else f"{kind}://"
        yield from (find_place(f"{prefix}{file}") for file in source.files)
    elif type(source).__module__.startswith("xarray"):
        # Where xarray has read it from.
        stored = getattr(source, "encoding", {}).get("source")
        if isinstance(stored, str):
            yield find_place(stored)


def _named(name: str) -> Iterator[Place]:
    place = find_place(name)
    yield place
    if _MAGIC.search(place.path) and (place.filesystem or not os.path.lexists(place.path)):
        if place.filesystem:
            filesystem, pattern = open_url(name.rpartition("::")[2])
            yield from (_place_in(filesystem, str(file), str(file)) for file in retry(lambda: filesystem.glob(pattern)))
        else:
            import fsspec

            files: Iterable[Any] = fsspec.filesystem("file").glob(place.path)
            yield from (Place(str(file), "", str(file)) for file in files)
        yield Glob(name, place.filesystem, place.path)


def _mapped(array: Any) -> Iterator[Place]:
    """Find the file that an array is mapped from, through all that it is a view of."""
    while array is not None:
        file = getattr(array, "filename", None)
        if isinstance(array, np.memmap) and file is not None:
            yield find_place(file)
            return
        array = getattr(array, "base", None)


def _of_zarr(node: Any) -> Iterator[Place]:
    store, inside = getattr(node, "store", node), str(getattr(node, "path", "") or "")
    while (wrapped := getattr(store, "_store", None)) is not None:
        store = wrapped
    root, path = getattr(store, "root", None), getattr(store, "path", None)
    filesystem = getattr(store, "fs", None)
    if isinstance(root, os.PathLike):
        yield find_place(os.path.join(root, inside))
    elif filesystem is not None and path is not None:
        found = f"{path}/{inside}".rstrip("/")
        yield _place_in(filesystem, found, found)
    elif isinstance(path, os.PathLike):
        # A store in one file, a ZIP archive.
        yield find_place(path)


def _place_in(filesystem: Any, path: str, name: str) -> Place:
    # A file system of another that only makes it wait, or not: fsspec's for Zarr.
    filesystem = getattr(filesystem, "sync_fs", filesystem)
    protocol = filesystem.protocol
    kind = protocol if isinstance(protocol, str) else protocol[0]
    if kind in ("file", "local"):
        return Place(name, "", os.path.abspath(path))
    host = filesystem.storage_options.get("host") or filesystem.storage_options.get("account_name") or ""
    # Stores of objects take "a//b" for another name than "a/b"; to refuse both does no harm.
    return Place(name, f"{kind}://{host}", posixpath.normpath("/" + path.strip("/")))


def _matches(place: Place, pattern: Glob) -> str | None:
    """Say whether a place would be one of the files that a pattern means, or lies inside of one."""
    from fsspec.utils import glob_translate

    if place.filesystem != pattern.filesystem:
        return None
    first = _MAGIC.search(pattern.path)
    assert first is not None
    folder, rest = os.path.split(pattern.path[: first.start()])
    rest += pattern.path[first.start() :]
    wanted = re.compile(glob_translate(rest))
    parts: list[str] = []
    for way in _upwards(place.path):
        if (way == folder) if place.filesystem else (_key(way) == _key(folder)):
            below = ("/".join(parts[:n]) for n in range(1, len(parts) + 1))
            return "would be one of" if any(wanted.match(one) for one in below) else None
        parts.insert(0, os.path.basename(way))
    return None


def _upwards(path: str) -> Iterator[str]:
    """Give a path, and the folders that it is in, from the inside out."""
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def _key(path: str) -> _Key:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return path
    return found.st_dev, found.st_ino
