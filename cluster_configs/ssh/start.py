"""Start a scheduler and workers on the hosts of a list, by SSH, and keep them until interrupted.

    python cluster_configs/ssh/start.py cluster_configs/ssh/hosts.txt [--port 22] [--memory-limit 4GB] [--processes 8]

Prints the scheduler's address: streamgmm fit ... --scheduler ADDRESS
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import dask
from dask.distributed import SSHCluster

#: Seconds before another attempt.
WAITS = (1, 4)
CONFIGURATION = Path(__file__).parent.parent / "dask" / "streamgmm.yaml"


def hosts_of(path: str) -> list[str]:
    """Read a list of hosts."""
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
    hosts = [line for line in lines if line]
    if len(hosts) < 2:
        sys.exit(f"{path} names {len(hosts)} host(s); expected the scheduler's and at least one worker's")
    return hosts


def started(hosts: list[str], **options: Any) -> SSHCluster:
    """Start a cluster; servers that are asked for many connections at once may refuse some at first."""
    for wait in (*WAITS, None):
        try:
            return SSHCluster(hosts, **options)
        except Exception as error:  # asyncssh's, the system's, Dask's
            if wait is None:
                raise
            print(f"no cluster yet ({error}); trying again in {wait} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError("a last attempt returns or raises")


def main() -> None:
    """Start, print the address, wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hosts", help="file with one host a line")
    parser.add_argument("--port", type=int, default=22, help="of the SSH servers")
    parser.add_argument("--user", help="on the hosts, if not the same as here")
    parser.add_argument("--known-hosts", help="file with the hosts' keys, if not ~/.ssh/known_hosts")
    parser.add_argument("--key", help="private key, if not one of ~/.ssh or the agent's")
    parser.add_argument("--python", default=sys.executable, help="on the hosts")
    parser.add_argument("--processes", type=int, default=2, help="worker processes on each host")
    parser.add_argument("--memory-limit", default="2GB", help="of each process")
    options = parser.parse_args()
    given = {"username": options.user, "known_hosts": options.known_hosts}
    connect = {"port": options.port, **{name: value for name, value in given.items() if value is not None}}
    if options.key is not None:
        connect["client_keys"] = [options.key]
    # What is in ~/.config/dask and the like comes last, and wins.
    dask.config.refresh(paths=[str(CONFIGURATION.parent), *dask.config.paths])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with started(
        hosts_of(options.hosts),
        connect_options=connect,
        worker_options={
            # A task uses one core, and a process that ends takes no other task with it.
            "nthreads": 1,
            "n_workers": options.processes,
            "memory_limit": options.memory_limit,
            # Workers that find no scheduler end: those of an attempt that failed, say.
            "death_timeout": 120,
        },
        scheduler_options={"port": 0, "dashboard": False},
        remote_python=options.python,
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
