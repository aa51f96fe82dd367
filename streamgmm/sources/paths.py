"""Paths and URLs of rows as users write them: made absolute, and what is stored there."""

from __future__ import annotations

import os
import re
from typing import Any

from streamgmm.exceptions import RowsError
from streamgmm.storage.urls import check_url, get_filesystem

_ZARR = ("zarr.json", ".zarray", ".zgroup")
#: How files of other formats begin, and what to do with them.
_OTHER = {
    b"ARROW1": "an Arrow (Feather) file: read it with pyarrow.feather.read_table and give the table",
    b"\x89HDF": "an HDF5 file: give dask.array.from_array(h5py.File(path)[name])",
    b"ORC": "an ORC file: read it with pyarrow.orc.read_table and give the table",
}


def normalize_path(path: str | os.PathLike[str]) -> str:
    """Return the path or URL that stands for the same place in any process, whatever folder it runs in.

    Raises
    ------
    RowsError
        If it is empty, or a URL that pathlib has taken for a path.
    InputError
        If there is a password in a URL.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise RowsError(f"X is the path {text!r}, in bytes: give a str or a pathlib.Path")
    if not text.strip():
        raise RowsError("X is an empty path: give the path of a .npy file, a Zarr store or Parquet files")
    check_url(text)
    if text.startswith(("file://", "local://")) and "::" not in text:
        text = text.partition("://")[2]
    if "://" in text:
        return text
    shortened = re.match(r"([a-z][a-z0-9+]+):/(?!/)", text)
    if shortened and not os.path.exists(text):
        protocol = shortened[1]
        raise RowsError(f"{text} is no path: pathlib takes a slash from {protocol}:// URLs, give them as str")
    return os.path.abspath(os.path.expanduser(text))


def detect_format(path: str) -> str:
    """Tell what is stored at a place, "npy", "zarr" or "parquet", by its name and then by what is there.

    A name is a pattern only where nothing has that name.

    Raises
    ------
    RowsError
        If nothing is there, or nothing that can be read.
    """
    filesystem, root = get_filesystem(path)
    if not filesystem.exists(root):
        if has_magic(root):
            return "parquet"
        raise RowsError(f"{path} does not exist")
    if filesystem.isdir(root):
        place = root.rstrip("/")
        return "zarr" if any(filesystem.exists(f"{place}/{marker}") for marker in _ZARR) else "parquet"
    if path.endswith(".npy"):
        return "npy"
    if path.endswith((".parquet", ".parq", ".pq")) or starts_with(filesystem, root, b"PAR1"):
        return "parquet"
    if starts_with(filesystem, root, b"\x93NUMPY"):
        return "npy"
    if path.endswith(".zip"):
        return "zarr"
    for magic, what in _OTHER.items():
        if starts_with(filesystem, root, magic):
            raise RowsError(f"{path} is {what}")
    if path.endswith((".csv", ".csv.gz", ".tsv", ".json", ".jsonl")):
        raise RowsError(f"{path} is text: read it with dask.dataframe.read_csv (or read_json) and give the DataFrame")
    if path.endswith(".npz"):
        raise RowsError(f"{path} is a .npz archive: give the array, numpy.load(path)[name]")
    raise RowsError(f"{path} is neither a .npy file, nor a Zarr store, nor a Parquet file")


def has_magic(path: str) -> bool:
    """Whether a path can be a pattern."""
    return any(character in path for character in "*?[")


def starts_with(filesystem: Any, file: str, magic: bytes) -> bool:
    """Whether a file's first bytes are these."""
    with filesystem.open(file, "rb") as opened:
        return bool(opened.read(len(magic)) == magic)


def names_below(file: str, root: str) -> list[str]:
    """Return the names of the folders and of the file on the way from a folder to a file."""
    return file[len(root) :].strip("/").split("/")


def is_hidden(name: str) -> bool:
    """Whether a name says that what it names is no data, as Hive, Spark and Arrow have it."""
    return name.startswith(("_", "."))
