"""URLs and paths: what fsspec opens, and what must not stand in them."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any

from streamgmm.exceptions import InputError, ReadError

#: Protocols whose URLs have ":" and "@" for other things than passwords.
_WITHOUT_USERS = {"file", "local", "memory", "git", "github", "zip", "tar", "libarchive", "reference", "data"}
#: Characters of what a library says of a failure, at most: some list all the places where they have looked.
_SAID = 300
_AUTHORITY = re.compile(r"(?P<protocol>[\w+.-]+)://(?P<user>[^/:@\[]*):(?P<rest>[^/]*)")


def get_filesystem(path: str) -> tuple[Any, str]:
    """Return the file system of a path or a URL and the place in it, as fsspec does.

    Only of a URL: in the name of a file here, `::` has no meaning.

    Raises
    ------
    InputError
        If nothing opens such a URL.
    ReadError
        If what opens it can't now: a library, or a server, is not there.
    """
    import fsspec

    if "://" not in path:
        return fsspec.filesystem("file"), path
    try:
        filesystem, place = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise InputError(f"{path} can't be opened: {error}") from error
    except OSError as error:
        said = " ".join(str(error).split())
        raise ReadError(f"{path} can't be opened: {said[:_SAID]}{'...' if len(said) > _SAID else ''}") from error
    return filesystem, str(place)


def open_url(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the place in it.

    Raises
    ------
    InputError
        If nothing opens such a URL, or there is a password in it.
    """
    check_url(url)
    filesystem, place = get_filesystem(url)
    return filesystem, place.rstrip("/")


def build_url(place: str, opened: str, root: str) -> str:
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
    >>> build_url("/rows/part-0.parquet", "sftp://host/rows", "/rows")
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
