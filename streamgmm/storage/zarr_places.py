"""A Zarr array as tasks carry it: where it is and what it is, opened by the process that reads it.

To Zarr a chunk that is not there is full of the array's fill value, and a store that a worker can't see has no chunks:
without a look at its metadata it would read zeros. So each process opens the metadata of the store that it reads, once,
and compares it with what was opened here; and where a chunk may have been absent, it looks whether the store is there.
"""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import DataChangedError
from streamgmm.storage.requests import ReadPolicy, unseen_error

if TYPE_CHECKING:
    import zarr

#: What is not compared: it changes no value that is read. (What unpacks values is sent with the task.)
_NO_VALUES = ("attributes", "dimension_names", "consolidated_metadata")
#: Arrays that this process has opened and compared, at most.
_MOST_OPEN = 64
_open_arrays: dict[tuple[str, ...], Any] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Place:
    """A store, by what another process opens it with.

    Attributes
    ----------
    kind : str
        "url", "folder" or "zip", which have a name; or "store", an object that is sent itself.
    value : object
        The URL, the path, or the store.
    """

    kind: str
    value: Any

    @classmethod
    def of(cls, array: zarr.Array[Any], url: str | None) -> Place:
        """Return where an array is; `url` is what it was opened by, where that was a URL."""
        store = array.store
        kind = type(store).__name__
        if kind == "FsspecStore" and url is not None:
            # A file system that Zarr has opened has with it the secrets that fsspec found here. Who gets the URL finds
            # secrets where it is.
            return cls("url", url)
        if kind == "LocalStore":
            return cls("folder", str(Path(store.root).absolute()))  # type: ignore[attr-defined]
        if kind == "ZipStore":
            return cls("zip", str(Path(store.path).absolute()))  # type: ignore[attr-defined]
        return cls("store", store)

    @classmethod
    def as_it_is(cls, array: zarr.Array[Any]) -> Place:
        """Return where another process looks for an array that is sent itself: a relative path is one there too."""
        if type(array.store).__name__ == "LocalStore":
            return cls("folder", str(array.store.root))  # type: ignore[attr-defined]
        return cls.of(array, None)

    def open(self) -> Any:
        """Return the store."""
        import zarr

        if self.kind == "url":
            return zarr.storage.FsspecStore.from_url(self.value, read_only=True)
        if self.kind == "folder":
            return zarr.storage.LocalStore(self.value, read_only=True)
        if self.kind == "zip":
            return zarr.storage.ZipStore(self.value, mode="r")
        return self.value


class PlacedArray:
    """An array that this process has opened, and how others come to it."""

    def __init__(self, array: zarr.Array[Any], place: Place, description: str, policy: ReadPolicy) -> None:
        self.place, self.description, self._policy = place, description, policy
        if place.kind == "folder" and place.value != str(array.store.root):  # type: ignore[attr-defined]
            # This process too may go to another folder.
            array = _array_in(self.place.open(), array.store_path.path, array.metadata)
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        if type(self.array.store).__name__ == "MemoryStore":
            return type(self), (self.array, self.place, self.description, self._policy)
        path, metadata = self.array.store_path.path, self.array.metadata
        return _SentArray, (self.place, path, metadata, self.description, self._policy)

    def check_there(self) -> None:
        """Raise an error where the store has gone, or is another one by now."""
        _check_there(self.place, self.array, self.description, self._policy)


class _SentArray:
    """What `PlacedArray` is for workers: a scheduler, which unpacks tasks too, opens nothing."""

    def __init__(self, place: Place, path: str, metadata: Any, description: str, policy: ReadPolicy) -> None:
        self.place, self._path, self._metadata = place, path, metadata
        self.description, self._policy = description, policy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place, self._path, self._metadata, self.description, self._policy)

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The array, opened and compared by the first task of this process that reads it."""
        if self.place.kind == "store":
            return self._opened()
        key = (self.place.kind, self.place.value, self._path, _text(self._metadata))
        with _lock:
            if key not in _open_arrays:
                while len(_open_arrays) >= _MOST_OPEN:
                    del _open_arrays[next(iter(_open_arrays))]
                _open_arrays[key] = self._opened()
            found: zarr.Array[Any] = _open_arrays[key]
            return found

    def _opened(self) -> zarr.Array[Any]:
        try:
            store = self._policy.call(self.place.open, self.description)
        except Exception as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise unseen_error(self.description) from error
            raise
        array = _array_in(store, self._path, self._metadata)
        _compare(array, self.description, self._policy)
        return array

    def check_there(self) -> None:
        """Raise an error where the store has gone, or is another one by now."""
        _check_there(self.place, self.array, self.description, self._policy)


def _array_in(store: Any, path: str, metadata: Any) -> zarr.Array[Any]:
    """Return an array without a request for what it is."""
    import zarr

    return zarr.Array(zarr.AsyncArray(metadata, zarr.storage.StorePath(store, path)))


def _check_there(place: Place, array: zarr.Array[Any], description: str, policy: ReadPolicy) -> None:
    if place.kind == "folder":
        # A look at one file of this machine's costs nothing.
        folder = Path(place.value) / array.store_path.path
        if (folder / ("zarr.json" if array.metadata.zarr_format == 3 else ".zarray")).is_file():
            return
    _compare(array, description, policy)


def _compare(array: zarr.Array[Any], description: str, policy: ReadPolicy) -> None:
    """Compare an array's metadata with what is in its store now.

    Raises
    ------
    RowsError
        Where there is nothing.
    DataChangedError
        Where there is another array.
    """
    found = policy.call(lambda: _metadata_in(array), f"the metadata of {description}")
    if found is None:
        raise unseen_error(description)
    was, now = _values_of(array.metadata), _values_of(found)
    changed = [key for key in was if was.get(key) != now.get(key)] + [key for key in now if key not in was]
    if changed:
        differences = "; ".join(f"{key} was {was.get(key)} and is {now.get(key)}" for key in changed)
        raise DataChangedError(
            f"{description} is not the array that was opened, where it is read, on {socket.gethostname()}: "
            f"{differences}"
        )


def _metadata_in(array: zarr.Array[Any]) -> Any:
    """Return the metadata that a store has for an array; None where it has none."""
    import zarr

    store, path = array.store, array.store_path.path
    try:
        return zarr.open_array(store=store, path=path, mode="r", zarr_format=array.metadata.zarr_format).metadata
    except (FileNotFoundError, KeyError):
        if not path:
            return None
    try:
        # Consolidated metadata may be all there is.
        found = zarr.open_group(store=store, mode="r")[path]
    except (FileNotFoundError, KeyError):
        return None
    return getattr(found, "metadata", None)


def _values_of(metadata: Any) -> dict[str, Any]:
    # As it is once it has been read: an array that was just created says more of its codecs.
    metadata = type(metadata).from_dict(metadata.to_dict())
    found: dict[str, Any] = json.loads(json.dumps(dict(metadata.to_dict()), default=str))
    # NaN is not equal to itself; its text is.
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items() if key not in _NO_VALUES}


def _text(metadata: Any) -> str:
    return json.dumps(_values_of(metadata), sort_keys=True)
