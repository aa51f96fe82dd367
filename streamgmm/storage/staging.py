"""An output of many parts that appears whole or not at all, and that a later run completes after this one was killed.

Beside the output ``out.parquet`` stands, while it is written, a folder ``.out.parquet.streamgmm``:

    job.json                  what is being written: rows, model, options, as a fingerprint
    parts/<start>.json        one for each part that is complete, written when all of its files are there
    data/                     what becomes the output
    old/                      what was in its place, while the two change places
    publishing                in an object store, while the data are copied to their place
    streamgmm-lock.json       which run is at work

A part without its mark is written again, as a whole. A run of another job starts afresh. Everything that has a name of
its own for each attempt ends in ``.partial`` and is removed before the data take their place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamgmm.exceptions import ClusterError, InputError, InUseError, ReadError
from streamgmm.storage.folders import Folder
from streamgmm.storage.lock import LOCK, RunLock, lock_folder
from streamgmm.storage.names import copy_objects, is_url, local_path, naming_output, remove_objects, remove_path
from streamgmm.storage.outputs import exists_error, output_exists
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import build_url, open_url

_JOB, _PUBLISHING = "job.json", "publishing"
#: How names end that are one attempt's.
PARTIAL = ".partial"
#: Bytes of a file's name, at most, on the file systems in use.
_NAME_BYTES = 255


@dataclass(frozen=True)
class Staging:
    """Where an output is being written.

    Attributes
    ----------
    output : str
        The place that it is for.
    folder : str
        The path or URL of the folder beside it.
    done : mapping of int to dict
        What was said of each part that an earlier run completed, by its first row.
    """

    output: str
    folder: str
    done: Mapping[int, dict[str, Any]]

    @property
    def data(self) -> str:
        """Where the data are written."""
        return f"{self.folder}/data"

    @property
    def resumes(self) -> bool:
        """Whether an earlier run has begun: what is made once is there."""
        return Folder(self.folder).has(_JOB)

    def begin(self, job: str) -> None:
        """Say what is being written, when what is made once is there."""
        Folder(self.folder).write(_JOB, json.dumps({"job": job}).encode())

    def mark(self, start: int, said: Mapping[str, Any]) -> None:
        """Say that a part is complete; what is said of it comes back in `done`."""
        with naming_output(self.output):
            Folder(f"{self.folder}/parts").write(f"{start:020d}.json", json.dumps(said).encode())


def name_staging(output: str) -> str:
    """Return the path or URL of the folder beside an output."""
    if is_url(output):
        _, target = open_url(output)
        folder, _, name = target.rpartition("/")
        return build_url(f"{folder}/{_beside(name)}", output, target)
    target_path = Path(local_path(output)).absolute()
    return str(target_path.with_name(_beside(target_path.name)))


def _beside(name: str) -> str:
    found = f".{name}.streamgmm"
    if len(os.fsencode(found)) <= _NAME_BYTES:
        return found
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{digest}.streamgmm"


@contextmanager
def stage_output(output: str, job: str | None, *, overwrite: bool) -> Iterator[Staging]:
    """Give a place for the data of an output; put them in its place at the end.

    Parameters
    ----------
    output : str
        A path or a URL.
    job : str, optional
        What is written, as a fingerprint: of the same job what is complete is kept where it was interrupted. None where
        it can't be told: then nothing is kept.
    overwrite : bool
        Whether what is there may be replaced.

    Raises
    ------
    OutputExistsError
        If there is something, unless `overwrite`.
    InUseError
        If another run is writing it.
    OutputError
        If nothing can be written there.
    """
    with _hold(output) as (folder, lock):
        _put_back(output, folder)
        if not overwrite and output_exists(output, is_folder=True):
            _clear(folder, lock)
            raise exists_error(output)
        done = _done(folder, job)
        if done is None:
            _clear(folder, lock)
        staging = Staging(output, folder.url, done or {})
        try:
            yield staging
            lock.check()
            with naming_output(output):
                _publish(staging)
        except BaseException as error:
            if job is None or not _may_go_on(error):
                _clear(folder, lock)
            raise
        _clear(folder, lock)


@contextmanager
def hold_output(output: str | None) -> Iterator[None]:
    """Hold an output of one file against other runs while it is made; nothing of it is kept where that ends.

    Raises
    ------
    InUseError
        If another run that lives is making it.
    """
    if output is None:
        yield
        return
    with _hold(output) as (folder, lock):
        _clear(folder, lock)
        yield
        lock.check()


@contextmanager
def _hold(output: str) -> Iterator[tuple[Folder, RunLock]]:
    """Hold the folder beside an output against other runs, and remove it where nothing is left in it."""
    folder = Folder(name_staging(output))
    with ExitStack() as stack:
        stack.callback(_leave, folder)
        with naming_output(output):
            lock = stack.enter_context(lock_folder(folder))
        yield folder, lock


def is_being_published(output: str) -> bool:
    """Tell whether an output in an object store may be there in part, since its objects were being copied.

    What was there before is gone then; while a run only writes its parts, it is there still.
    """
    return is_url(output) and Folder(name_staging(output)).has(_PUBLISHING)


def clear_staging(output: str) -> None:
    """Remove what a run left beside an output that is finished, where no other run is at work."""
    folder = Folder(name_staging(output))
    if folder.names():
        with suppress(InUseError, OSError), _hold(output) as (_, lock):
            _clear(folder, lock)


def _may_go_on(error: BaseException) -> bool:
    """Whether the same job may well succeed when it is run again: it was stopped, or a store or a cluster failed."""
    return not isinstance(error, Exception) or isinstance(error, (ReadError, ClusterError))


def _done(folder: Folder, job: str | None) -> dict[int, dict[str, Any]] | None:
    """Return what an earlier run of the same job has completed; None where there is no such run."""
    try:
        begun = json.loads(folder.read(_JOB))
        if job is None or begun["job"] != job or not folder.has("data"):
            return None
        parts = Folder(f"{folder.url}/parts")
        found = {int(name.removesuffix(".json")): json.loads(parts.read(name)) for name in parts.names()}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found


def _put_back(output: str, folder: Folder) -> None:
    """Give back what was in the output's place, where a run was killed while the two changed places."""
    if is_url(output):
        return
    target, old = Path(local_path(output)).absolute(), Path(folder.url) / "old"
    if not os.path.lexists(old):
        return
    if os.path.lexists(target):
        remove_path(old)
    else:
        os.rename(old, target)


def _publish(staging: Staging) -> None:
    if is_url(staging.output):
        filesystem, objects = open_url(staging.output)
        _, data = open_url(staging.data)
        folder = Folder(staging.folder)
        folder.write(_PUBLISHING, b"")
        remove_objects(filesystem, objects)
        try:
            copy_objects(filesystem, data, objects)
        except BaseException:
            remove_objects(filesystem, objects)
            raise
        folder.remove(_PUBLISHING)
        return
    target, here = Path(local_path(staging.output)).absolute(), Path(staging.data)
    old = Path(staging.folder) / "old"
    for place, _, names in os.walk(here):
        for name in names:
            if name.endswith(PARTIAL):
                os.unlink(os.path.join(place, name))
    if os.path.lexists(target):
        os.rename(target, old)
    try:
        os.rename(here, target)
    except BaseException:
        if os.path.lexists(old):
            os.rename(old, target)
        raise


def _clear(folder: Folder, lock: RunLock) -> None:
    """Remove everything in a folder but its lock."""
    with suppress(InputError, OSError):
        lock.check()
        # First: what is left of the rest if this is stopped is no run to go on with.
        folder.remove(_JOB)
        if is_url(folder.url):
            filesystem, place = open_url(folder.url)
            filesystem.invalidate_cache()
            with suppress(FileNotFoundError):
                for one in retry(lambda: filesystem.ls(place, detail=False)):
                    if not str(one).rstrip("/").endswith(f"/{LOCK}"):
                        remove_objects(filesystem, str(one))
            return
        for path in Path(folder.url).iterdir():
            if path.name != LOCK:
                remove_path(path)


def _leave(folder: Folder) -> None:
    """Remove the folder where nothing is left in it."""
    if not is_url(folder.url):
        with suppress(OSError):
            os.rmdir(folder.url)
