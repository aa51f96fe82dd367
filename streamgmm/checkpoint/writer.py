"""Writes the files of a checkpoint, and removes those that they take the place of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamgmm.checkpoint.file import digest, encode_file
from streamgmm.checkpoint.names import is_checkpoint, is_of_first_format
from streamgmm.exceptions import CheckpointError
from streamgmm.storage.lock import RunLock


@dataclass(frozen=True)
class Writer:
    """Writes into the folder that a run has locked.

    Attributes
    ----------
    lock : RunLock
    data, settings : dict
        What tells these rows, and this fit, from others; in the header of each file.
    """

    lock: RunLock
    data: dict[str, Any]
    settings: dict[str, Any]

    def write(self, what: str, value: Any, *, start: str) -> str:
        """Write a value, and return the name of its file.

        Parameters
        ----------
        what : str
            How the name begins.
        value : object
            Of a serializable class.
        start : str
            The name of the start that it follows from; "" where it is one, or belongs to none yet.

        Raises
        ------
        CheckpointError
            If it can't be written.
        """
        body = encode_file({"start": start, "data": self.data, "settings": self.settings}, value)
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

    def remove_all_but(self, kept: list[str]) -> None:
        """Remove a checkpoint's files other than these."""
        for name in self.lock.folder.names():
            if name not in kept and (is_checkpoint(name) or is_of_first_format(name)):
                self.lock.folder.remove(name)

    def remove_parts(self) -> None:
        """Remove the parts of a pass."""
        for name in self.lock.folder.names():
            if is_checkpoint(name) and name.startswith("part"):
                self.lock.folder.remove(name)
