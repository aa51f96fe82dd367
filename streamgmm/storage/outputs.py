"""Whether an output can be written, tried before the work: hours of a fit must not end in "no permission".

On this machine a file is written beside the output and removed again. In an object store an object of a few bytes is
put beside it and removed; what was there is not touched. Whether a whole result will fit, nobody can say.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from streamgmm.exceptions import InputError, OutputError, OutputExistsError
from streamgmm.storage.folders import replace_file
from streamgmm.storage.names import is_url, local_path, make_output_error, name_temporary, naming_output
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import open_url

#: Bytes that are written to see whether there is room for any.
_TRIED = b"streamgmm tries whether it can write here.\n" * 100


def check_output(output: str | os.PathLike[str], *, overwrite: bool, is_folder: bool) -> None:
    """Raise an error where nothing can, or may, be written at a path or a URL.

    Parameters
    ----------
    output : str or path
    overwrite : bool
        Whether what is there may be replaced.
    is_folder : bool
        Whether a folder is to be written: what is there is then replaced whatever it is; a file replaces no folder.

    Raises
    ------
    InputError
        If it can't be the name of an output.
    OutputExistsError
        If there is something, unless `overwrite`.
    OutputError
        If nothing can be written there.
    """
    name = os.fspath(output)
    if not name or "\0" in name:
        raise InputError(f"the output must be the name of a place to write to; got {name!r}")
    if output_exists(name, is_folder=is_folder) and not overwrite:
        raise exists_error(name)
    if is_url(name):
        _try_object(name, removes=is_folder)
    else:
        _try_file(name, Path(local_path(name)).absolute())


def exists_error(name: str) -> OutputExistsError:
    """Make the error for an output that exists."""
    return OutputExistsError(f"{name} exists: choose another name, or allow it to be replaced (overwrite)")


def output_exists(name: str, *, is_folder: bool) -> bool:
    """Tell whether there is something at a path or a URL; raise an error where it can't be replaced by an output."""
    if is_url(name):
        filesystem, place = open_url(name)
        with naming_output(name):
            return bool(retry(lambda: filesystem.exists(place)))
    target = Path(local_path(name)).absolute()
    try:
        found = target.lstat()
    except FileNotFoundError:
        found = None
    except NotADirectoryError:
        raise OutputError(f"{name} can't be written: {_file_above(target)} is a file, not a folder") from None
    except OSError as error:
        raise make_output_error(name, error) from error
    if not target.parent.is_dir():
        raise OutputError(f"{target.parent} is not a folder, so {name} can't be written: create it first")
    if found is None:
        return False
    if not is_folder and target.is_dir():
        raise OutputError(f"{name} is a folder, and what is to be written is a file: choose another name")
    if target.is_mount():
        raise make_output_error(name, OSError(errno.EBUSY, "it is a mount point, which can't be replaced"))
    return True


def _file_above(target: Path) -> Path:
    return next((path for path in target.parents if path.is_file()), target.parent)


def write_whole(output: str | os.PathLike[str], data: bytes) -> None:
    """Write a file or an object that appears whole or not at all, in the place of one that was there.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    name = os.fspath(output)
    with naming_output(name):
        if is_url(name):
            filesystem, place = open_url(name)
            retry(lambda: filesystem.pipe_file(place, data))
        else:
            replace_file(Path(local_path(name)).absolute(), data)


def copy_file(source: str, output: str) -> None:
    """Put a copy of a file at a place, whole or not at all."""
    import fsspec

    with fsspec.open(source, "rb") as file:
        write_whole(output, file.read())


def _try_file(name: str, target: Path) -> None:
    tried = name_temporary(target, "try")
    with naming_output(name):
        try:
            with open(tried, "xb") as file:
                file.write(_TRIED)
        finally:
            with suppress(FileNotFoundError):
                tried.unlink()
        _check_owner(target)


def _check_owner(target: Path) -> None:
    """Raise PermissionError where only its owner may replace what is there: in /tmp, say."""
    if not hasattr(os, "geteuid") or not os.path.lexists(target):
        return
    folder, user = target.parent.stat(), os.geteuid()
    if folder.st_mode & stat.S_ISVTX and user not in (0, folder.st_uid, target.lstat().st_uid):
        raise PermissionError(errno.EPERM, "it is another user's, in a folder where only its owner may replace it")


def _try_object(url: str, *, removes: bool) -> None:
    """Put an object beside a URL and remove it.

    Folders are put together under another name, which is then removed; where nothing may be removed, a model can still
    be written, and what is tried stays.
    """
    filesystem, place = open_url(url)
    folder, _, last = place.rpartition("/")
    tried = f"{folder}/{name_temporary(Path(last), 'try')}"
    with naming_output(url):
        retry(lambda: filesystem.pipe_file(tried, b"streamgmm"))
        try:
            retry(lambda: filesystem.rm_file(tried))
        except FileNotFoundError:
            return
        except OSError:
            if removes:
                raise
