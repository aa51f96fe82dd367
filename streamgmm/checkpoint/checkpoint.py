"""Checkpoints: what a fit has come to after each reading, so that a run that is stopped goes on from there.

A folder holds, each as one safetensors file with no code in it,

    start-<digest>.safetensors              the survey and the sample: what the first reading gave
    reading-<number>-<digest>.safetensors   where the fit stands after a reading, and from which start; the last few
    part-<number>-<digest>.safetensors      of a long reading that goes on: what its tasks have given so far
    streamgmm-lock.json                     which run is at work

The digest is that of what the file holds: a file that is damaged, or was not written to its end, is found out, and the
one before it taken. Names that carry what they name need no pointer to the latest that could be torn or raced for.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from streamgmm._version import __version__
from streamgmm.checkpoint.file import decoded_file, digest, encoded_file, warn
from streamgmm.checkpoint.lock import LOCK, RunLock, locked
from streamgmm.em.convergence import StopReason
from streamgmm.em.passes import RowsInMemory
from streamgmm.em.state import State
from streamgmm.exceptions import CheckpointError, DataChangedError
from streamgmm.execution.passes import Parts, PassCost
from streamgmm.gaussian.m_step import MStep
from streamgmm.initialization.survey import Survey
from streamgmm.serialization import serializable
from streamgmm.sources.base import Rows
from streamgmm.storage.folders import Folder

RESUME = ("auto", "must", "never")
_NAME = re.compile(r"(start|(reading|part)-\d{6})-[0-9a-f]{16}\.safetensors")
#: What a process that was killed while it wrote has left behind.
_PARTIAL = re.compile(rf"\.({_NAME.pattern}|{re.escape(LOCK)})-[0-9a-f]{{8}}\.partial")
#: Readings whose states are kept.
_KEPT = 3
#: Seconds of a reading that may be lost, beside the tasks at work: so often its parts are kept.
PART_SECONDS = 60.0


@serializable
@dataclass(frozen=True)
class Progress:
    """Where a fit to all rows stands between two readings.

    Attributes
    ----------
    states : tuple of State
        Of the candidates that have not left.
    n_readings : int
        Readings that these have shared.
    costs : tuple of PassCost
        Of all readings, the survey's among them.
    m_step : MStep
        With what the search on the sample found for it.
    """

    states: tuple[State, ...]
    n_readings: int
    costs: tuple[PassCost, ...]
    m_step: MStep

    @property
    def stopped(self) -> bool:
        """Whether every candidate has stopped."""
        return all(state.stop_reason is not None for state in self.states)

    @property
    def finished(self) -> bool:
        """Whether every candidate has stopped for good: more iterations may be asked for later."""
        return all(state.stop_reason not in (None, StopReason.MAX_ITER) for state in self.states)


@serializable
@dataclass(frozen=True)
class Start:
    """What the first reading has given.

    Attributes
    ----------
    surveyed : Survey
    sample : RowsInMemory
    complete : bool
    cost : PassCost
    seed : int
        With which the sample was drawn.
    """

    surveyed: Survey
    sample: RowsInMemory
    complete: bool
    cost: PassCost
    seed: int


@dataclass
class Checkpoint:
    """A fit's place in a folder: what was found there, and where to keep what comes.

    Attributes
    ----------
    lock : RunLock
    data, settings : dict
        What tells these rows, and this fit, from others.
    rows : Rows
    version : str or None
        What changes when the store of the rows does, as it was when the folder was opened.
    start : Start or None
    progress : Progress or None
        Where to go on; None where there is nothing to go on from.
    seed : int or None
        With which a first reading began that was not finished.
    """

    lock: RunLock
    data: dict[str, Any]
    settings: dict[str, Any]
    rows: Rows
    version: str | None
    start: Start | None = None
    progress: Progress | None = None
    seed: int | None = None
    _seed_now: int = 0
    _start_name: str = ""
    _found_parts: dict[str, dict[int, Any]] = field(default_factory=dict)
    _new_parts: list[tuple[int, Any]] = field(default_factory=list)
    _of: str = ""
    _n_part_files: int = 0
    _kept_at: float = 0.0

    def keep_start(self, start: Start) -> None:
        """Keep what the first pass has given; what was in the folder before is then removed."""
        self._start_name = self._keep("start", start)
        self._remove_all_but([self._start_name])

    def keep_progress(self, progress: Progress) -> None:
        """Keep where a fit stands, and remove what is older than the last few."""
        new = self._keep(_reading(progress.n_readings), progress)
        names = self.lock.folder.names()
        kept = range(max(0, progress.n_readings - _KEPT + 1), progress.n_readings)
        before = [name for name in names if any(name.startswith(_reading(number)) for number in kept)]
        self._remove_all_but([new, *before, self._start_name])

    def parts(self, parameters: Any) -> Parts:
        """Return what is there of a reading for some parameters, and keep what comes of it."""
        self._of = digest(encoded_file({}, parameters))
        self._new_parts, self._kept_at = [], time.monotonic()

        def keep(number: int, value: Any) -> None:
            self._new_parts.append((number, value))
            if time.monotonic() - self._kept_at >= PART_SECONDS:
                self.keep_parts()

        return Parts(self._found_parts.get(self._of, {}), keep)

    def keep_parts(self) -> None:
        """Keep the parts that have come of the reading that goes on."""
        # What was read of a store that has changed is of no fit.
        if self._new_parts and self.rows.stored_version() == self.version:
            self._n_part_files += 1
            self._keep(f"part-{self._n_part_files:06d}", (self._of, self._seed_now, tuple(self._new_parts)))
        self._new_parts, self._kept_at = [], time.monotonic()

    def drop_parts(self) -> None:
        """Forget what has come of the reading that goes on."""
        self._new_parts = []
        for name in self.lock.folder.names():
            if _NAME.fullmatch(name) and name.startswith("part"):
                self.lock.folder.remove(name)

    def _remove_all_but(self, kept: list[str]) -> None:
        self._new_parts = []
        for name in self.lock.folder.names():
            if _NAME.fullmatch(name) and name not in kept:
                self.lock.folder.remove(name)

    def _keep(self, what: str, values: Any) -> str:
        header = {"start": self._start_name, "data": self.data, "settings": self.settings}
        body = encoded_file(header, values)
        name = f"{what}-{digest(body)}.safetensors"
        try:
            self.lock.check()
            self.lock.folder.write(name, body)
        except OSError as error:
            raise CheckpointError(
                f"{self.lock.folder.url}: the checkpoint can't be written ({error}), and the fit has stopped; what was "
                "kept before is whole: resume='auto' goes on from there"
            ) from error
        return name


@contextmanager
def open_checkpoint(
    url: str, rows: Rows, identity: Mapping[str, Any], *, seed: int, resume: str
) -> Iterator[Checkpoint]:
    """Open a folder for a fit, and read what is there to go on from.

    Parameters
    ----------
    url : str
    rows : Rows
    identity : mapping of str to object
        What tells this fit from others, beside its rows; JSON can hold it.
    seed : int
        With which a first pass begins, where none was begun here.
    resume : {"auto", "must", "never"}

    Raises
    ------
    CheckpointError
        If what is there is of other rows or settings, or of a later format; if nothing is there and ``resume="must"``.
    CheckpointInUseError
        If another run has the folder.
    """
    # What can't be kept is found out now, not after the first reading.
    data, settings = (json.loads(json.dumps(one)) for one in (rows.fingerprint(), dict(identity)))
    with locked(Folder(url)) as lock:
        for name in lock.folder.names():
            if _PARTIAL.fullmatch(name):
                lock.folder.remove(name)
        checkpoint = Checkpoint(lock, data, settings, rows, rows.stored_version(), _seed_now=seed)
        if resume != "never":
            _read(checkpoint, must=resume == "must")
        try:
            yield checkpoint
        except DataChangedError:
            checkpoint.drop_parts()
            raise
        except BaseException:
            # What has come of a reading since its parts were last kept. The error is what matters; what caused it may
            # cause another here.
            with suppress(Exception):
                checkpoint.keep_parts()
            raise


def _read(checkpoint: Checkpoint, *, must: bool) -> None:
    """Find a start that is whole and of this fit, and the latest progress from it; refuse what is of another fit."""
    folder = checkpoint.lock.folder
    names = [name for name in folder.names() if _NAME.fullmatch(name)]
    found = {name: values for name in reversed(names) if (values := decoded_file(folder, name)) is not None}
    readings = [values for name, values in found.items() if name.startswith("reading")]
    mine = [name for name, values in found.items() if not _differences(values, checkpoint)]
    checkpoint._n_part_files = sum(name.startswith("part") for name in names)
    for name in mine:
        if name.startswith("part"):
            of, checkpoint.seed, parts = found[name]["values"]
            checkpoint._seed_now = checkpoint.seed
            checkpoint._found_parts.setdefault(of, {}).update(parts)
    latest = next((found[name] for name in mine if name.startswith("reading") and found[name]["start"] in mine), None)
    start = next((name for name in mine if name.startswith("start")), None) if latest is None else latest["start"]
    if start is not None:
        checkpoint.start, checkpoint._start_name = found[start]["values"], start
        checkpoint.progress = None if latest is None else latest["values"]
        if found[start]["streamgmm_version"] != __version__:
            warn(
                f"{folder.url} was begun by streamgmm {found[start]['streamgmm_version']}, and this is {__version__}: "
                "the last digits may be neither's"
            )
        return
    others = [values for name, values in found.items() if name not in mine]
    ended = False
    if readings:
        last, other_rows = readings[0]["values"], readings[0]["data"] != checkpoint.data
        # One that stopped at max_iter could go on, with its own rows.
        ended = last.finished or (last.stopped and other_rows)
    if others and (must or not ended):
        which = "another fit" if ended else "another fit that has not ended"
        raise CheckpointError(
            f"{folder.url} holds a checkpoint of {which}; it differs in "
            f"{'; '.join(_differences(others[0], checkpoint))}. Give what it was made with, choose another folder, or "
            "begin anew with resume='never'"
        )
    if must and not checkpoint._found_parts:
        raise CheckpointError(
            f"{folder.url} has no checkpoint to go on from, and resume='must': use resume='auto' to begin a new fit "
            "there"
        )
    if any(not name.startswith("part") for name in mine):
        warn(f"{folder.url}: what the first reading gave is damaged or missing; the fit begins anew")


def _differences(header: dict[str, Any], checkpoint: Checkpoint) -> list[str]:
    """Name what is not as it was."""
    found = []
    for kind in ("data", "settings"):
        then, now = header[kind], getattr(checkpoint, kind)
        for name in sorted({*then, *now}):
            if then.get(name) != now.get(name):
                found.append(f"{name} ({then.get(name)} there, {now.get(name)} now)")
    return found


def _reading(number: int) -> str:
    return f"reading-{number:06d}"
