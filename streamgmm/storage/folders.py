"""A folder for small files, local or in an object store, in which a file is there whole or not at all."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from streamgmm.exceptions import InputError
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import open_url


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
        return open_url(self.url)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's own file system."""
        return "file" in _protocols(self._place[0])

    def names(self) -> list[str]:
        """Return the names of the files in it, in order; none where there is no such folder."""
        filesystem, path = self._place
        filesystem.invalidate_cache(path)
        try:
            found = retry(lambda: filesystem.ls(path, detail=False))
        except FileNotFoundError:
            return []
        return sorted(str(one).rstrip("/").rsplit("/", 1)[-1] for one in found)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        filesystem, path = self._place
        filesystem.invalidate_cache(path)
        return bool(retry(lambda: filesystem.exists(f"{path}/{name}")))

    def read(self, name: str) -> bytes:
        """Return what a file holds.

        Raises
        ------
        FileNotFoundError
        """
        filesystem, path = self._place
        data: bytes = retry(lambda: filesystem.cat_file(f"{path}/{name}"))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in the place of one that was there; after an error, or a loss of power, that is still there."""
        filesystem, path = self._place
        if self.is_local:
            replace_file(Path(path) / name, data)
        else:
            # An object appears when all of it has been sent.
            retry(lambda: filesystem.pipe_file(f"{path}/{name}", data))

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
        if retry(lambda: filesystem.exists(f"{path}/{name}")):
            raise FileExistsError(f"{self.url}/{name}")
        retry(lambda: filesystem.pipe_file(f"{path}/{name}", data, mode="create"))

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
            retry(lambda: filesystem.rm_file(f"{path}/{name}"))
        except FileNotFoundError:
            return


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


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
