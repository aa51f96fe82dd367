"""Names of outputs, local or in an object store: what is a URL, what errors call them, names beside them."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from streamgmm.exceptions import OutputError, StreamGMMError
from streamgmm.storage.requests import retry

#: Objects that say what the others are: Zarr's metadata, and the sign that a folder of files is complete.
_LAST = ("zarr.json", ".zarray", "_SUCCESS")
#: Objects that are copied with one call.
_AT_ONCE = 256
#: Bytes of a file's name, at most, on the file systems in use.
_NAME_BYTES = 255
#: What to do about errors of the system.
_REMEDIES = {
    errno.ENOSPC: "; make room there, or choose a place on another disk",
    errno.EDQUOT: "; make room there, or choose a place with another quota",
    errno.EROFS: "; choose a place that is not read-only",
    errno.EACCES: "; change the permissions of its folder, or choose another place",
    errno.EPERM: "; change the permissions of its folder, or choose another place",
    errno.ENAMETOOLONG: "; choose a shorter name",
    errno.ENOENT: "; its folder must be there",
    errno.EBUSY: "; something is mounted there, or uses it: choose another name",
}


def is_url(path: str) -> bool:
    """Whether a path is a URL of a place that is not this machine's file system."""
    return "://" in path and not path.startswith(("file://", "local://"))


def local_path(path: str) -> str:
    """Return the path that a file:// URL stands for, and ~ the user's home; others as they are."""
    path = path.partition("://")[2] if "://" in path and not is_url(path) else path
    return os.path.expanduser(path)


def location(path: str) -> str | Path:
    """Return what a library takes for the same place: of text, some take `#` and `?` for parts of a URL."""
    return path if is_url(path) else Path(path)


@contextmanager
def naming_output(output: str) -> Iterator[None]:
    """Turn what the system, or a store, raises while something is written into one error that names the output.

    Raises
    ------
    OutputError
    """
    try:
        yield
    except StreamGMMError:
        raise
    except OSError as error:
        raise make_output_error(output, error) from error


def make_output_error(output: str, error: OSError) -> OutputError:
    """Make the error for an output that can't be written."""
    reason = error.strerror or str(error) or type(error).__name__
    found = OutputError(f"{output} can't be written: {reason}{_REMEDIES.get(error.errno or 0, '')}")
    found.errno = error.errno
    return found


def name_temporary(target: Path, kind: str) -> Path:
    """Return a new name beside a path, that is no longer than names may be and ends as the path does."""
    mark = f"-{uuid.uuid4().hex[:8]}.{kind}"
    room = _NAME_BYTES - len(os.fsencode(f".{mark}{target.suffix}"))
    stem = os.fsdecode(os.fsencode(target.stem)[: max(0, room)])
    return target.with_name(f".{stem}{mark}{target.suffix}")


def copy_objects(filesystem: Any, source: str, target: str) -> None:
    """Copy the objects below a place to another: the one without which the others are nothing comes last."""
    filesystem.invalidate_cache()
    names = [str(name).removeprefix(source) for name in retry(lambda: filesystem.find(source))]
    first = sorted(name for name in names if not name.endswith(_LAST))
    batches = [first[start : start + _AT_ONCE] for start in range(0, len(first), _AT_ONCE)]
    batches += [[name] for name in sorted(set(names) - set(first))]
    for batch in batches:
        there, here = [source + name for name in batch], [target + name for name in batch]
        # fsspec copies a list at once, where the store can.
        retry(partial(filesystem.copy, there, here))


def remove_objects(filesystem: Any, place: str) -> None:
    """Remove the objects at a place and below it, where there are any."""
    filesystem.invalidate_cache()
    with suppress(FileNotFoundError):
        retry(lambda: filesystem.rm(place, recursive=True))


def remove_path(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; what can't be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
