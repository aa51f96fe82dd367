"""What tells the rows of a source from others without reading them: names, sizes and times of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from streamgmm.exceptions import RowsError
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import get_filesystem

#: What file systems call the sign that a file's content has changed, the surest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")


def digest_of_files(paths: Sequence[str]) -> str:
    """Return a digest of the names, sizes and versions of the files at some paths, and of those in folders there."""
    return digest(line for path in paths for line in describe_files(*get_filesystem(path)))


def describe_files(filesystem: Any, root: str) -> list[str]:
    """Return a line for each file at a place of a file system: its name there, its size, its version.

    Raises
    ------
    RowsError
        If there is none.
    """
    filesystem.invalidate_cache()
    root = str(root).rstrip("/")

    def described() -> list[str]:
        found = []
        for name, info in sorted(filesystem.find(root, detail=True).items()):
            known = info if info.get("size") is not None else filesystem.info(name)
            version = next((known[key] for key in _VERSIONS if known.get(key) is not None), None)
            found.append(f"{str(name).removeprefix(root)} {known.get('size')} {version}")
        return found

    found = retry(described)
    if not found:
        raise RowsError(f"{root} has no files any more")
    return found


def digest(parts: Iterable[Any]) -> str:
    """Return a digest of some texts, or buffers of bytes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() + b"\n" if isinstance(part, str) else part)
    return total.hexdigest()[:16]
