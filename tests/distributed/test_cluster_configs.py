"""What of cluster_configs/ can be started on this machine is started, and a fit on it has the bits of one here."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import dask
import numpy as np
import pytest
import zarr

import streamgmm
from tests.distributed.processes import free_port, kill_tree
from tests.helpers import clusters
from tests.test_cluster_configs import CONFIGS

pytestmark = [pytest.mark.distributed, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("configs") / "rows.zarr")
    x = clusters(np.random.default_rng(4), n_rows=20_000, n_features=4, n_components=3)
    zarr.create_array(path, data=x, chunks=(1000, 4))
    return path


def bits(model):
    return [getattr(model, name).tobytes() for name in ("weights_", "means_", "covariances_")]


@pytest.fixture(scope="module")
def expected(store):
    with dask.config.set(scheduler="synchronous"):
        return bits(streamgmm.GaussianMixture(3, random_state=0, memory_limit="4MB").fit(store))


def fit_by_command(store, address, folder):
    model = str(folder / "model.safetensors")
    command = [
        sys.executable, "-m", "streamgmm.cli.main", "fit", store, "--components", "3", "--memory-limit", "4MB",
        "--scheduler", address, "--output", model, "--quiet",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return bits(streamgmm.load(model))


def test_processes_by_hand(store, expected, tmp_path):
    port = free_port()
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    # A copy: packages that have settings of their own write them into that folder.
    config = str(shutil.copytree(CONFIGS / "dask", tmp_path / "dask"))
    environment = {
        **os.environ,
        "DASK_CONFIG": config,
        "PORT": str(port),
        "PATH": path,
    }
    started = subprocess.Popen([CONFIGS / "processes" / "start.sh", "2", "1GB"], env=environment)
    try:
        assert fit_by_command(store, f"tcp://127.0.0.1:{port}", tmp_path) == expected
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=60) == 143
    finally:
        kill_tree(started)


class SSHServer:
    """An SSH server on this machine that runs what it is asked to in a shell."""

    def __init__(self, folder):
        import asyncssh

        self.folder = folder
        self.key, host = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.key.write_private_key(str(folder / "key"))
        self.key.write_public_key(str(folder / "key.pub"))
        self._shells = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def listen():
            return await asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[host],
                authorized_client_keys=str(folder / "key.pub"),
                process_factory=self._run,
                encoding=None,
            )

        self._server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(30)
        self.port = self._server.get_port()
        public = host.export_public_key().decode().strip()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}\n")

    async def _run(self, process):
        shell = await asyncio.create_subprocess_shell(
            process.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._shells.add(shell.pid)
        await process.redirect(stdout=shell.stdout, stderr=shell.stderr)
        code = await shell.wait()
        self._shells.discard(shell.pid)
        # What it has said is on its way still; to end the channel before loses it, and now and then the connection.
        await process.stdout.drain()
        await process.stderr.drain()
        process.exit(code)

    def close(self):
        self._loop.call_soon_threadsafe(self._server.close)
        # Those of an attempt that failed look for its scheduler still; each shell has a process group of its own.
        for group in self._shells:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def test_hosts_by_ssh(store, expected, tmp_path):
    pytest.importorskip("asyncssh")
    server = SSHServer(tmp_path)
    (tmp_path / "hosts.txt").write_text("127.0.0.1  # the scheduler's\n127.0.0.1\n\n127.0.0.1\n")
    command = [
        sys.executable, CONFIGS / "ssh" / "start.py", tmp_path / "hosts.txt", "--port", str(server.port), "--key",
        tmp_path / "key", "--known-hosts", tmp_path / "known_hosts", "--processes", "1", "--memory-limit", "1GB",
    ]  # fmt: skip
    started = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    try:
        address = started.stdout.readline().strip()
        assert address.startswith("tcp://")
        assert fit_by_command(store, address, tmp_path) == expected
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=60) == 143
    finally:
        kill_tree(started)
        started.stdout.close()
        server.close()


def test_job_scripts_that_run_here(store, expected, tmp_path):
    pytest.importorskip("dask_jobqueue")
    command = [
        sys.executable, CONFIGS / "jobqueue" / "fit.py", "local", store, tmp_path / "model.safetensors", "--components",
        "3", "--jobs", "2", "--memory-limit", "4MB", "--checkpoint", tmp_path / "checkpoint",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert bits(streamgmm.load(tmp_path / "model.safetensors")) == expected
