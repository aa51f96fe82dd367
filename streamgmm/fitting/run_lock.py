"""One run at a time on a checkpoint: a file that says which, renewed while it lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from streamgmm.exceptions import CheckpointInUseError
from streamgmm.storage import Folder

LOCK = "lock.json"
#: Seconds between signs of life, and without any until a run on another machine counts as dead.
SIGN_OF_LIFE, DEAD_AFTER = 30.0, 300.0


@dataclass
class RunLock:
    """A run's claim on a folder; changes hands only where its owner is dead.

    Attributes
    ----------
    folder : Folder
    run : str
        Of this run, unlike any other's.
    """

    folder: Folder
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def check(self) -> None:
        """Raise CheckpointInUseError where another run has taken the folder over."""
        owner = _owner(self.folder)
        if owner is None or owner.get("run") != self.run:
            raise CheckpointInUseError(
                f"{self.folder.url} was taken over by another run{_named(owner)}, which goes on from there: this one "
                "has stopped"
            )

    def _take(self) -> None:
        for _ in range(3):
            try:
                self.folder.create(LOCK, self._sign())
                return
            except FileExistsError:
                owner = _owner(self.folder)
                if owner is not None and _lives(owner):
                    raise CheckpointInUseError(
                        f"{self.folder.url} is in use by another run{_named(owner)}: wait until it has ended, or "
                        "choose another folder. (A run that has died on another machine counts as ended "
                        f"{DEAD_AFTER:.0f} s after its last sign of life.)"
                    ) from None
                self.folder.remove(LOCK)
        raise CheckpointInUseError(f"{self.folder.url} is being taken over by several runs at once: start one")

    def _sign(self) -> bytes:
        return json.dumps(
            {
                "run": self.run,
                "host": socket.gethostname(),
                "process": os.getpid(),
                "born": _born(),
                "time": time.time(),
            }
        ).encode()

    def _keep_signing(self, ended: threading.Event) -> None:
        while not ended.wait(SIGN_OF_LIFE):
            try:
                self.check()
                self.folder.write(LOCK, self._sign())
            except (OSError, CheckpointInUseError):
                # The next checkpoint says so, where the fit can stop.
                continue


@contextmanager
def locked(folder: Folder) -> Iterator[RunLock]:
    """Hold a folder against other runs.

    Raises
    ------
    CheckpointInUseError
        If another run that lives has it.
    """
    lock = RunLock(folder)
    lock._take()
    ended = threading.Event()
    thread = threading.Thread(target=lock._keep_signing, args=(ended,), name="streamgmm-checkpoint", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        ended.set()
        thread.join()
        owner = _owner(folder)
        if owner is not None and owner.get("run") == lock.run:
            folder.remove(LOCK)


def _owner(folder: Folder) -> dict[str, Any] | None:
    """Return what the lock says; None where there is none, or what is there says nothing."""
    try:
        owner = json.loads(folder.read(LOCK))
    except (FileNotFoundError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _lives(owner: dict[str, Any]) -> bool:
    if owner.get("host") == socket.gethostname():
        return owner.get("born") is not None and _born(owner.get("process")) == owner["born"]
    return time.time() - float(owner.get("time", 0.0)) < DEAD_AFTER


def _born(process: int | None = None) -> float | None:
    """Return when a process of this machine began, which tells it from a later one of the same number."""
    import psutil

    try:
        return float(psutil.Process(process).create_time())
    except (psutil.Error, TypeError, ValueError):
        return None


def _named(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return ""
    ago = time.time() - float(owner.get("time", 0.0))
    return f" (process {owner.get('process')} on {owner.get('host')}, last sign of life {ago:.0f} s ago)"
