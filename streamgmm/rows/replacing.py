"""A place for results, local or in an object store, that is filled whole or not at all.

Everything is written beside the place that was named, and put there at the end: locally by a rename; in an object
store, where there is none, by copies that the store makes itself. The object without which the others are nothing comes
last.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from streamgmm.exceptions import InputError, OutputExistsError
from streamgmm.storage import opened_place, retried, url_of

#: Objects that say what the others are: Zarr's metadata, and the sign that a folder of files is complete.
_LAST = ("zarr.json", ".zarray", "_SUCCESS")
#: Objects that are copied with one call.
_AT_ONCE = 256


def is_url(path: str) -> bool:
    """Whether a path is a URL of a place that is not this machine's file system."""
    return "://" in path and not path.startswith(("file://", "local://"))


def local_path(path: str) -> str:
    """Return the path that a file:// URL stands for; others as they are."""
    return path.partition("://")[2] if "://" in path and not is_url(path) else path


def check_output(path: str, *, overwrite: bool) -> None:
    """Raise an error where nothing can, or may, be written at a path or a URL."""
    if is_url(path):
        filesystem, place = opened_place(path)
        exists = retried(lambda: filesystem.exists(place))
    else:
        path = local_path(path)
        parent = Path(path).absolute().parent
        if not parent.is_dir():
            raise InputError(f"{parent} is not a folder, so {path} can't be written: create it first")
        exists = os.path.lexists(path)
    if exists and not overwrite:
        raise OutputExistsError(f"{path} exists: choose another name, or allow it to be replaced (overwrite)")


@contextmanager
def replaced_whole(path: str) -> Iterator[str]:
    """Give a temporary name beside a path or a URL; what is there at the end takes the path's place."""
    with _replaced_objects(path) if is_url(path) else _replaced_files(local_path(path)) as temporary:
        yield temporary


@contextmanager
def _replaced_files(path: str) -> Iterator[str]:
    target = Path(path).absolute()
    mark = uuid.uuid4().hex[:8]
    temporary = target.with_name(f".{target.stem}-{mark}.partial{target.suffix}")
    old = target.with_name(f".{target.stem}-{mark}.old{target.suffix}")
    try:
        yield str(temporary)
        # A file replaces a file in one step. Where one of both is a folder, the old one is moved aside first.
        aside = os.path.lexists(target) and (temporary.is_dir() or target.is_dir())
        if aside:
            os.rename(target, old)
        try:
            os.replace(temporary, target)
        except BaseException:
            if aside:
                os.rename(old, target)
            raise
    except BaseException:
        _delete(temporary)
        raise
    _delete(old)


def _delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; what can't be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


@contextmanager
def _replaced_objects(url: str) -> Iterator[str]:
    filesystem, target = opened_place(url)
    folder, _, name = target.rpartition("/")
    stem, suffix = os.path.splitext(name)
    temporary = f"{folder}/.{stem}-{uuid.uuid4().hex[:8]}.partial{suffix}"
    try:
        yield url_of(temporary, url, target)
        _remove(filesystem, target)
        try:
            _copy(filesystem, temporary, target)
        except BaseException:
            _remove(filesystem, target)
            raise
    finally:
        _remove(filesystem, temporary)


def _copy(filesystem: Any, source: str, target: str) -> None:
    filesystem.invalidate_cache()
    names = [str(name).removeprefix(source) for name in retried(lambda: filesystem.find(source))]
    first = sorted(name for name in names if not name.endswith(_LAST))
    batches = [first[start : start + _AT_ONCE] for start in range(0, len(first), _AT_ONCE)]
    batches += [[name] for name in sorted(set(names) - set(first))]
    for batch in batches:
        there, here = [source + name for name in batch], [target + name for name in batch]
        # fsspec copies a list at once, where the store can.
        retried(partial(filesystem.copy, there, here))


def _remove(filesystem: Any, place: str) -> None:
    filesystem.invalidate_cache()
    with suppress(FileNotFoundError):
        retried(lambda: filesystem.rm(place, recursive=True))
