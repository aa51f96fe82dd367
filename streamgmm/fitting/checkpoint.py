"""Checkpoints: what a fit has come to after each reading, so that a run that is stopped goes on from there.

A folder holds, each as one safetensors file with no code in it,

    start-<digest>.safetensors              the survey and the sample: what the first reading gave
    reading-<number>-<digest>.safetensors   where the fit stands after a reading; the last few
    lock.json                               which run is at work

The digest is that of what the file holds: a file that is damaged, or was not written to its end, is found out, and the
one before it taken. Names that carry what they name need no pointer to the latest that could be torn or raced for.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamgmm.exceptions import CheckpointError, CheckpointWarning
from streamgmm.fitting.e_step_pass import RowsInMemory
from streamgmm.fitting.encoding import decoded, encoded
from streamgmm.fitting.preparation import Preparation, Settings
from streamgmm.fitting.run_lock import RunLock, locked
from streamgmm.fitting.state import State
from streamgmm.fitting.survey import Survey
from streamgmm.passes import PassCost
from streamgmm.rows.base import Rows
from streamgmm.storage import Folder

FORMAT_VERSION = 1
RESUME = ("auto", "must", "never")
_KEY = "streamgmm-checkpoint"
_NAME = re.compile(r"(start|reading-(\d{6}))-[0-9a-f]{16}\.safetensors")
#: Readings whose states are kept.
_KEPT = 3
#: Settings that may change from run to run: how long a fit goes on is no part of what it is.
_FREE = ("max_iter",)


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
    """

    states: tuple[State, ...]
    n_readings: int
    costs: tuple[PassCost, ...]

    @property
    def finished(self) -> bool:
        """Whether every candidate has stopped."""
        return all(state.stop_reason is not None for state in self.states)


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
    start : Start or None
    progress : Progress or None
        Where to go on; None where there is nothing to go on from.
    """

    lock: RunLock
    data: dict[str, Any]
    settings: dict[str, Any]
    start: Start | None = None
    progress: Progress | None = None

    def keep_start(self, prepared: Preparation, seed: int) -> None:
        """Keep what the first reading has given; what was in the folder before is then removed."""
        values = (prepared.surveyed, prepared.sample, prepared.complete, prepared.cost, seed)
        self._remove_all_but([self._keep("start", values)])

    def keep_progress(self, progress: Progress) -> None:
        """Keep where a fit stands, and remove what is older than the last few."""
        values = (progress.states, progress.n_readings, progress.costs)
        new = self._keep(_reading(progress.n_readings), values)
        names = self.lock.folder.names()
        kept = range(max(0, progress.n_readings - _KEPT + 1), progress.n_readings)
        before = [name for name in names if any(name.startswith(_reading(number)) for number in kept)]
        self._remove_all_but([new, *before, *(name for name in names if name.startswith("start"))])

    def _remove_all_but(self, kept: list[str]) -> None:
        for name in self.lock.folder.names():
            if _NAME.fullmatch(name) and name not in kept:
                self.lock.folder.remove(name)

    def _keep(self, what: str, values: tuple[Any, ...]) -> str:
        from safetensors.numpy import save

        tree, arrays = encoded(values)
        header = {
            "format_version": FORMAT_VERSION,
            "data": self.data,
            "settings": self.settings,
            "values": tree,
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        body = save(contiguous, metadata={_KEY: json.dumps(header, sort_keys=True)})
        name = f"{what}-{_digest(body)}.safetensors"
        self.lock.check()
        self.lock.folder.write(name, body)
        return name


@contextmanager
def opened(url: str, rows: Rows, settings: Settings, *, seed_given: bool, resume: str) -> Iterator[Checkpoint]:
    """Open a folder for a fit, and read what is there to go on from.

    Parameters
    ----------
    url : str
    rows : Rows
    settings : Settings
    seed_given : bool
        Whether the user chose the seed: else that of the checkpoint is as good.
    resume : {"auto", "must", "never"}

    Raises
    ------
    CheckpointError
        If what is there is of other rows or settings, or of a later format; if nothing is there and ``resume="must"``.
    CheckpointInUseError
        If another run has the folder.
    """
    with locked(Folder(url)) as lock:
        checkpoint = Checkpoint(lock, rows.fingerprint(), _described(settings, seed_given=seed_given))
        if resume != "never":
            _read(checkpoint)
        if resume == "must" and checkpoint.start is None:
            raise CheckpointError(
                f"{url} has no checkpoint to go on from, and resume='must': use resume='auto' to begin a new fit there"
            )
        yield checkpoint


def _described(settings: Settings, *, seed_given: bool) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name, value in vars(settings).items():
        if name == "given":
            arrays = (value.weights, value.means, value.precisions)
            described["given start"] = [None if a is None else hashlib.sha256(a.tobytes()).hexdigest() for a in arrays]
        elif name == "seed":
            described["random_state"] = value if seed_given else None
        elif name not in _FREE:
            described[name] = value
    return described


def _read(checkpoint: Checkpoint) -> None:
    """Find the start and the latest progress that are whole and of this fit."""
    folder = checkpoint.lock.folder
    names = [name for name in folder.names() if _NAME.fullmatch(name)]
    readings = [name for name in names if name.startswith("reading")]
    latest = next((v for name in reversed(readings) if (v := _values(folder, name)) is not None), None)
    starts = [v for name in names if name not in readings and (v := _values(folder, name)) is not None]
    progress = None if latest is None else Progress(*latest["values"])
    found = latest if latest is not None else next(iter(starts), None)
    if found is None:
        return
    differences = _differences(found, checkpoint)
    if differences:
        if progress is not None and progress.finished:
            # It has done its work: another fit may have the folder.
            return
        raise CheckpointError(
            f"{folder.url} holds a checkpoint of another fit that has not ended; it differs in "
            f"{'; '.join(differences)}. Give what it was made with, choose another folder, or begin anew with "
            "resume='never'"
        )
    start = next((one for one in starts if not _differences(one, checkpoint)), None)
    if start is None:
        _warn(f"{folder.url}: what the first reading gave is damaged or missing; the fit begins anew")
        return
    checkpoint.start, checkpoint.progress = Start(*start["values"]), progress


def _values(folder: Folder, name: str) -> dict[str, Any] | None:
    """Read a file; None, and a warning, where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    body = folder.read(name)
    try:
        if f"-{_digest(body)}." not in name:
            raise ValueError("its checksum is wrong")
        length = int.from_bytes(body[:8], "little")
        header = json.loads(json.loads(body[8 : 8 + length])["__metadata__"][_KEY])
        version = int(header["format_version"])
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{folder.url}/{name} has checkpoint format {version}, and this version of streamgmm reads up to "
                f"{FORMAT_VERSION}: upgrade streamgmm, or begin anew with resume='never'"
            )
        return {**header, "values": decoded(header["values"], load(body))}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        _warn(f"{folder.url}/{name} is damaged ({error}) and is left out; the fit goes on from what was kept before")
        return None


def _warn(message: str) -> None:
    warnings.warn(message, CheckpointWarning, stacklevel=8)


def _differences(header: dict[str, Any], checkpoint: Checkpoint) -> list[str]:
    """Name what is not as it was."""
    found = []
    for kind in ("data", "settings"):
        then, now = header[kind], json.loads(json.dumps(getattr(checkpoint, kind)))
        for name in sorted({*then, *now}):
            if then.get(name) != now.get(name):
                found.append(f"{name} ({then.get(name)} there, {now.get(name)} now)")
    return found


def _reading(number: int) -> str:
    return f"reading-{number:06d}"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
