"""One run at a time on a folder, a checkpoint say: a file that says which, renewed while it lives."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamgmm.exceptions import InUseError
from streamgmm.storage.folders import Folder

LOCK = "streamgmm-lock.json"
#: Seconds between heartbeats, and without any until a run that can't be looked for here counts as dead.
SIGN_OF_LIFE, DEAD_AFTER = 30.0, 300.0
#: Attempts to take over from a run that is dead, while others may try the same.
_ATTEMPTS = 3


@dataclass
class RunLock:
    """A run's claim on a folder; changes hands only where its owner is dead.

    Attributes
    ----------
    folder : Folder
    in_use : type
        The error where another run has it.
    run : str
        Of this run, unlike any other's.
    """

    folder: Folder
    in_use: type[InUseError] = InUseError
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> None:
        """Raise InUseError where another run has taken the folder over."""
        with self._one_at_a_time:
            owner, _ = self._owner()
        if owner is None or owner["run"] != self.run:
            raise self.in_use(
                f"{self.folder.url} was taken over by another run{_named(owner)}, which goes on from there: this one "
                "has stopped"
            )

    def take(self) -> None:
        """Claim the folder.

        Raises
        ------
        InUseError
            If a run that lives has it.
        """
        for _ in range(_ATTEMPTS):
            try:
                self.folder.create(LOCK, self._heartbeat())
                return
            except FileExistsError:
                owner, body = self._owner()
                if owner is None:
                    continue
                if owner["run"] == self.run:
                    # It was made, but the answer was lost, and it was asked for again.
                    return
                if _lives(owner):
                    raise self.in_use(
                        f"{self.folder.url} is in use by another run{_named(owner)}: wait until it has ended, or "
                        "choose another folder. (A run that has died on another machine counts as ended "
                        f"{DEAD_AFTER:.0f} s after its last heartbeat.)"
                    ) from None
                self.folder.remove_if(LOCK, body)
        raise self.in_use(f"{self.folder.url} is being taken over by several runs at once: start one")

    def give_up(self) -> None:
        """Make room for others, where the folder is this run's still."""
        owner, body = self._owner()
        if owner is not None and owner["run"] == self.run:
            self.folder.remove_if(LOCK, body)

    def keep_beating(self, ended: threading.Event) -> None:
        """Give heartbeats until the run has ended."""
        while not ended.wait(SIGN_OF_LIFE):
            # Where that fails, the next checkpoint says so, at a place where the fit can stop.
            with suppress(Exception):
                self.check()
                with self._one_at_a_time:
                    self.folder.write(LOCK, self._heartbeat())

    def _owner(self) -> tuple[dict[str, Any] | None, bytes]:
        """Return what the lock says, and its bytes; None where there is no lock."""
        try:
            body = self.folder.read(LOCK)
        except FileNotFoundError:
            return None, b""
        try:
            owner = json.loads(body)
            return {**owner, "run": str(owner["run"]), "time": float(owner["time"])}, body
        except (ValueError, KeyError, TypeError):
            raise self.in_use(
                f"{self.folder.url}/{LOCK} is no lock of streamgmm's: remove it if no run needs it"
            ) from None

    def _heartbeat(self) -> bytes:
        heartbeat = {
            "run": self.run,
            "host": socket.gethostname(),
            "machine": _machine(),
            "process": os.getpid(),
            "born": _born(os.getpid()),
            "time": time.time(),
        }
        return json.dumps(heartbeat).encode()


@contextmanager
def lock_folder(folder: Folder, in_use: type[InUseError] = InUseError) -> Iterator[RunLock]:
    """Hold a folder against other runs.

    Raises
    ------
    InUseError
        If another run that lives has it: as `in_use`.
    OSError
        If nothing can be written there.
    """
    lock = RunLock(folder, in_use)
    lock.take()
    ended = threading.Event()
    thread = threading.Thread(target=lock.keep_beating, args=(ended,), name="streamgmm-lock", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        ended.set()
        thread.join()
        # What ended the run counts, not whether the folder can be reached now.
        with suppress(OSError, InUseError):
            lock.give_up()


def _lives(owner: dict[str, Any]) -> bool:
    if owner.get("machine") == _machine():
        return owner.get("born") is not None and _born(owner.get("process")) == owner["born"]
    return time.time() - float(owner["time"]) < DEAD_AFTER


def _machine() -> str:
    """Name what the numbers of processes belong to: a machine since it was started, and a container's view of it."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{started} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _born(process: Any) -> str | None:
    """Say when a process that runs here began, to tell it from a later one of its number; None where none runs."""
    import psutil

    try:
        found = psutil.Process(int(process))
        if found.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
    except (psutil.Error, TypeError, ValueError):
        return None
    try:
        # In ticks since the machine was started: the clock may be set.
        return Path(f"/proc/{int(process)}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return str(found.create_time())


def _named(owner: dict[str, Any] | None) -> str:
    if owner is None:
        return ""
    ago = time.time() - float(owner["time"])
    return f" (process {owner.get('process')} on {owner.get('host')}, last heartbeat {ago:.0f} s ago)"
