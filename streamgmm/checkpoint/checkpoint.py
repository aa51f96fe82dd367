"""Checkpoints: what a fit has come to after each pass, so that a run that is stopped goes on from there.

A folder holds, each as one safetensors file with no code in it,

    start-<digest>.safetensors              the survey and the sample: what the first pass gave
    pass-<number>-<digest>.safetensors      where the fit stands after a pass, and from which start; the last few
    part-<number>-<digest>.safetensors      of a long pass that goes on: what its tasks have given so far
    streamgmm-lock.json                     which run is at work

The digest is that of what the file holds: a file that is damaged, or was not written to its end, is found out, and the
one before it taken. Names that carry what they name need no pointer to the latest that could be torn or raced for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from streamgmm.checkpoint.file import digest, encode_file
from streamgmm.checkpoint.names import is_partial, name_part, name_pass
from streamgmm.checkpoint.parts import PartBuffer
from streamgmm.checkpoint.progress import Progress, Start
from streamgmm.checkpoint.reader import Found, read_checkpoint
from streamgmm.checkpoint.writer import Writer
from streamgmm.exceptions import CheckpointError, CheckpointInUseError, DataChangedError
from streamgmm.execution.passes import Parts
from streamgmm.sources.base import Rows
from streamgmm.storage.folders import Folder
from streamgmm.storage.lock import RunLock, lock_folder

#: Passes whose states are kept.
_KEPT = 3


class Checkpoint:
    """A fit's place in a folder: what was found there, and where to keep what comes.

    Parameters
    ----------
    writer : Writer
    found : Found
    rows : Rows
    seed : int
        With which a first pass begins, where none was begun.

    Attributes
    ----------
    start : Start or None
    progress : Progress or None
        Where to go on; None where there is nothing to go on from.
    seed : int or None
        With which a first pass began that was not finished.
    """

    def __init__(self, writer: Writer, found: Found, rows: Rows, seed: int) -> None:
        self.start, self.progress, self.seed = found.start, found.progress, found.seed
        self._writer, self._found, self._rows = writer, found, rows
        self._version = rows.stored_version()
        self._seed = seed if found.seed is None else found.seed
        self._start_name, self._n_part_files = found.start_name, found.n_part_files
        self._buffer: PartBuffer | None = None

    def keep_start(self, start: Start) -> None:
        """Keep what the first pass has given; what was in the folder before is then removed."""
        self._start_name = self._writer.write("start", start, start="")
        self._forget_parts()
        self._writer.remove_all_but([self._start_name])

    def keep_progress(self, progress: Progress) -> None:
        """Keep where a fit stands, and remove what is older than the last few."""
        new = self._writer.write(name_pass(progress.n_passes), progress, start=self._start_name)
        kept = tuple(name_pass(n) for n in range(max(0, progress.n_passes - _KEPT + 1), progress.n_passes))
        before = [name for name in self._writer.lock.folder.names() if name.startswith(kept)] if kept else []
        self._forget_parts()
        self._writer.remove_all_but([new, *before, self._start_name])

    def parts(self, parameters: Any) -> Parts:
        """Return what is there of a pass with some parameters, and keep what comes of it."""
        of = digest(encode_file({}, parameters))

        def keep(parts: tuple[tuple[int, Any], ...]) -> None:
            # What was read of a store that has changed is of no fit.
            if self._rows.stored_version() == self._version:
                self._n_part_files += 1
                self._writer.write(name_part(self._n_part_files), (of, self._seed, parts), start=self._start_name)

        self._buffer = PartBuffer(keep)
        return Parts(self._found.parts.get(of, {}), self._buffer.add)

    def keep_parts(self) -> None:
        """Keep the parts that have come of the pass that goes on."""
        if self._buffer is not None:
            self._buffer.flush()

    def drop_parts(self) -> None:
        """Forget what has come of the pass that goes on."""
        self._forget_parts()
        self._writer.remove_parts()

    def _forget_parts(self) -> None:
        if self._buffer is not None:
            self._buffer.clear()


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
        If what is there is of other rows or settings, or of another format; if nothing is there and ``resume="must"``.
    CheckpointInUseError
        If another run has the folder.
    """
    # What can't be kept is found out now, not after the first pass.
    data, settings = (json.loads(json.dumps(one)) for one in (rows.fingerprint(), dict(identity)))
    with _lock(url) as lock:
        for name in lock.folder.names():
            if is_partial(name):
                lock.folder.remove(name)
        found = Found() if resume == "never" else read_checkpoint(lock.folder, data, settings, must=resume == "must")
        checkpoint = Checkpoint(Writer(lock, data, settings), found, rows, seed)
        try:
            yield checkpoint
        except DataChangedError:
            checkpoint.drop_parts()
            raise
        except BaseException:
            # What has come of a pass since its parts were last kept. The error is what matters; what caused it may
            # cause another here.
            with suppress(Exception):
                checkpoint.keep_parts()
            raise


@contextmanager
def _lock(url: str) -> Iterator[RunLock]:
    with ExitStack() as stack:
        try:
            lock = stack.enter_context(lock_folder(Folder(url), CheckpointInUseError))
        except OSError as error:
            raise CheckpointError(
                f"{url}: a checkpoint can't be written there ({error.strerror or error}): choose another folder"
            ) from error
        yield lock
