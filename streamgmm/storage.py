"""A folder for small files, local or in an object store, in which a file is there whole or not at all."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from streamgmm.exceptions import InputError
from streamgmm.retries import Retries

Value = TypeVar("Value")
#: Errors that say what is there, and will say so again.
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class Folder:
    """A folder, given by a path or by a URL of anything that fsspec knows.

    Attributes
    ----------
    url : str
    """

    url: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        return opened_place(self.url)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's own file system."""
        return "file" in _protocols(self._place[0])

    def names(self) -> list[str]:
        """Return the names of the files in it, in order; none where there is no such folder."""
        filesystem, path = self._place
        filesystem.invalidate_cache(path)
        try:
            found = retried(lambda: filesystem.ls(path, detail=False))
        except FileNotFoundError:
            return []
        return sorted(str(one).rstrip("/").rsplit("/", 1)[-1] for one in found)

    def read(self, name: str) -> bytes:
        """Return what a file holds.

        Raises
        ------
        FileNotFoundError
        """
        filesystem, path = self._place
        data: bytes = retried(lambda: filesystem.cat_file(f"{path}/{name}"))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in the place of one that was there; after an error, or a loss of power, that is still there."""
        filesystem, path = self._place
        if self.is_local:
            replace_file(Path(path) / name, data)
        else:
            # An object appears when all of it has been sent.
            retried(lambda: filesystem.pipe_file(f"{path}/{name}", data))

    def create(self, name: str, data: bytes) -> None:
        """Write a file that is not there yet; of several that try at once, one succeeds.

        Raises
        ------
        FileExistsError
        """
        filesystem, path = self._place
        if self.is_local:
            _make_folder(Path(path))
            # Written as a whole under another name first: a link can be made only where there is nothing.
            temporary = Path(path) / f".{name}-{uuid.uuid4().hex[:8]}.partial"
            try:
                _write(temporary, data)
                _link(temporary, Path(path) / name)
            finally:
                temporary.unlink(missing_ok=True)
            return
        filesystem.invalidate_cache(path)
        if retried(lambda: filesystem.exists(f"{path}/{name}")):
            raise FileExistsError(f"{self.url}/{name}")
        retried(lambda: filesystem.pipe_file(f"{path}/{name}", data, mode="create"))

    def remove_if(self, name: str, data: bytes) -> bool:
        """Remove a file if it still holds what was read before; return whether it did.

        Locally, of several that try at once one succeeds; in an object store a moment is left between the two.
        """
        path = self._place[1]
        if not self.is_local:
            if self.read(name) == data:
                self.remove(name)
                return True
            return False
        aside = Path(path) / f".{name}-{uuid.uuid4().hex[:8]}.partial"
        try:
            os.rename(Path(path) / name, aside)
        except FileNotFoundError:
            return False
        same = aside.read_bytes() == data
        if not same:
            with suppress(FileExistsError):
                _link(aside, Path(path) / name)
        aside.unlink()
        return same

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        filesystem, path = self._place
        try:
            retried(lambda: filesystem.rm_file(f"{path}/{name}"))
        except FileNotFoundError:
            return


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def filesystem_of(path: str) -> tuple[Any, str]:
    """Return the file system of a path or a URL and the place in it, as fsspec does.

    Only of a URL: in the name of a file here, `::` has no meaning.
    """
    import fsspec

    if "://" not in path:
        return fsspec.filesystem("file"), path
    filesystem, place = fsspec.core.url_to_fs(path)
    return filesystem, str(place)


def opened_place(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the place in it.

    Raises
    ------
    InputError
        If nothing opens such a URL, or there is a password in it.
    """
    check_url(url)
    try:
        filesystem, place = filesystem_of(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url} can't be opened: {error}") from error
    return filesystem, place.rstrip("/")


def url_of(place: str, opened: str, root: str) -> str:
    """Return the URL of a place in a file system.

    Parameters
    ----------
    place : str
        As the file system names it: for some without the host, the account or the branch that is in the URL.
    opened : str
        The URL by which the file system was opened.
    root : str
        The place that this URL stands for.

    Examples
    --------
    >>> url_of("/rows/part-0.parquet", "sftp://host/rows", "/rows")
    'sftp://host/rows/part-0.parquet'
    """
    links = opened.split("::")
    # What only changes how the next one is read has no place of its own: simplecache::s3://bucket/rows.
    number = next((number for number, link in enumerate(links) if "://" in link), None)
    if number is None:
        return place
    protocol, _, rest = links[number].partition("://")
    shown, named = rest.rstrip("/").split("/"), root.rstrip("/").split("/")
    pairs = zip(reversed(shown), reversed(named), strict=False)
    n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1] != "", pairs))
    below = place.split("/")[len(named) - n_same :]
    links[number] = f"{protocol}://{'/'.join([*shown[: len(shown) - n_same], *below])}"
    return "::".join(links)


#: Protocols whose URLs have ":" and "@" for other things than passwords.
_WITHOUT_USERS = {"file", "local", "memory", "git", "github", "zip", "tar", "libarchive", "reference", "data"}
_AUTHORITY = re.compile(r"(?P<protocol>[\w+.-]+)://(?P<user>[^/:@\[]*):(?P<rest>[^/]*)")


def check_url(url: str) -> None:
    """Refuse a URL with a password in it: URLs are shown, sent to workers, and kept in checkpoints.

    Raises
    ------
    InputError
    """
    for found in _AUTHORITY.finditer(url):
        protocol, user, rest = found["protocol"], found["user"], found["rest"]
        password, at, _ = rest.partition("@")
        # A password may have a slash in it; what stands there otherwise is a port.
        has_password = bool(password) if at else not rest.isdecimal() and "@" in url[found.end() :]
        if has_password and protocol not in _WITHOUT_USERS and user != "arn":
            raise InputError(
                f"the {protocol} URL has a password in it (after {user!r}): leave it out, and give it where fsspec "
                f"finds it, on workers too: in a file in ~/.config/fsspec, or variables FSSPEC_{protocol.upper()}_..."
            )


def retried(request: Callable[[], Value]) -> Value:
    """Make a request again where it fails for a reason that may pass.

    Raises
    ------
    OSError
        Also for what the libraries of object stores raise of their own.
    """
    try:
        return Retries.configured().call(request, final=FINAL)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _link(source: Path, target: Path) -> None:
    """Give a file a second name where nothing has it; copy it where the file system knows no links."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        with open(target, "xb") as file:
            file.write(source.read_bytes())


def replace_file(path: Path, data: bytes) -> None:
    """Write a local file whole, in the place of one that was there; its folder is made where there is none."""
    _make_folder(path.parent)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.partial")
    try:
        _write(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{path} is a file, or lies inside one; give a folder") from error


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename outlast a loss of power, where the system lets a folder be opened (Windows does not)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
