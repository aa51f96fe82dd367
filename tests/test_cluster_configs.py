"""Dask's configuration in cluster_configs/: every key is one that Dask knows, and a cluster starts with it."""

import os
import subprocess
import sys
from pathlib import Path

import dask.config
import distributed
import yaml

LOCAL = Path(__file__).parent.parent / "cluster_configs" / "local.yaml"
DEFAULTS = Path(distributed.__file__).parent / "distributed.yaml"


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def test_every_key_is_one_of_dasks():
    known = {path for path, _ in leaves(yaml.safe_load(DEFAULTS.read_text()))}
    for path, _ in leaves(yaml.safe_load(LOCAL.read_text())):
        if path[:3] == ("distributed", "nanny", "pre-spawn-environ"):
            continue  # environment variables, of any name
        assert path in known, f"{'.'.join(path)} is no setting of distributed"


_START = """
from dask.distributed import Client, LocalCluster
import os
def seen():
    return [os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX")]
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        with Client(cluster) as client:
            print(*client.run(seen).values())
"""


def test_a_cluster_starts_with_it(tmp_path):
    (tmp_path / "start.py").write_text(_START)
    environment = {**os.environ, "DASK_CONFIG": str(LOCAL.parent)}
    command = [sys.executable, str(tmp_path / "start.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "['1', '2']"


def test_it_is_read_as_dask_reads_it():
    config = dask.config.collect(paths=[str(LOCAL.parent)], env={})
    assert config["distributed"]["nanny"]["pre-spawn-environ"]["OMP_NUM_THREADS"] == 1
