"""Schedulers and workers as processes of their own, started by Dask's commands, to be killed, frozen and cut off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

#: Time-outs short enough for a test: what takes minutes by default takes seconds.
QUICK = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "4s",
    "OPENBLAS_NUM_THREADS": "1",
}


class Cluster:
    """A scheduler at a fixed port and some workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []
        self._n_logs = 0

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--port", str(self.port), "--no-dashboard", "--no-show")
        wait_until(lambda: accepts(self.port), "the scheduler answers")

    def start_worker(self, *options: str, address: str | None = None) -> subprocess.Popen[bytes]:
        """Start a worker under a nanny, which starts it again when it ends."""
        worker = self._start(
            "worker", address or self.address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "1GB",
            "--local-directory", str(self.folder), "--death-timeout", "60", *options,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        self._n_logs += 1
        log = self.folder / f"{command[0]}-{self._n_logs}.log"
        environment = {**os.environ, **QUICK, "PYTHONPATH": str(Path(__file__).parents[2])}
        with open(log, "wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command], stdout=file, stderr=file, env=environment, cwd=self.folder
            )

    def kill_all_workers(self) -> None:
        for worker in self.workers:
            kill_tree(worker)
        self.workers.clear()

    def close(self) -> None:
        self.kill_all_workers()
        if self.scheduler is not None:
            kill_tree(self.scheduler)


def processes_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return a process and what it has started: a nanny first, then its worker."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    return []


def worker_of(nanny: subprocess.Popen[bytes]) -> psutil.Process:
    """Return the worker that a nanny has started."""

    def found() -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            # Python's resource tracker is a child, too.
            return [one for one in processes_of(nanny)[1:] if "resource_tracker" not in " ".join(one.cmdline())]
        return []

    wait_until(found, "the nanny has started a worker")
    return found()[0]


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    for one in processes_of(process):
        with suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGCONT)
            one.kill()
    process.wait(timeout=20)


def wait_until(condition, what: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


class Wire:
    """A connection to a port that can be cut without anybody being told: bytes are swallowed from then on."""

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(("127.0.0.1", self.to_port))
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self.cut.is_set():
                    target.sendall(data)
            if not self.cut.is_set():
                target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()
