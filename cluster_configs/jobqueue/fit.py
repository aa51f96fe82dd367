"""Fit a store on the nodes of a batch system: this process drives, jobs of workers come and go.

    python fit.py slurm rows.zarr model.safetensors --components 16 --jobs 10 --checkpoint rows.checkpoint
    python fit.py slurm --show-job          print the script of a job of workers, and submit nothing

Systems: slurm, pbs, sge, lsf, and local, which runs the same job scripts here. The process itself may be a job
(driver.slurm.sh): when its time is up it leaves a checkpoint, and the next one goes on from there.
"""

import argparse
import importlib
import signal
import sys
from pathlib import Path

import dask
from dask.distributed import Client

from streamgmm import GaussianMixture, save

HERE = Path(__file__).parent
CLUSTERS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
    "local": "LocalCluster",
}


def cluster_of(system: str) -> object:
    """Return a cluster without jobs; its settings are those of jobqueue.yaml."""
    # What is in ~/.config/dask and the like comes last, and wins.
    dask.config.refresh(paths=[str(HERE.parent / "dask"), str(HERE), *dask.config.paths])
    module = importlib.import_module("dask_jobqueue.local" if system == "local" else "dask_jobqueue")
    settings = {}
    if system == "local":
        settings = {"cores": 1, "processes": 1, "memory": "1GB", "death_timeout": 120}
    # The dashboard's usual port may be taken on a shared login node.
    return getattr(module, CLUSTERS[system])(scheduler_options={"dashboard_address": "127.0.0.1:0"}, **settings)


def main() -> None:
    """Start a cluster, fit, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=list(CLUSTERS))
    parser.add_argument("source", nargs="?")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--covariance-type", default="full")
    parser.add_argument("--jobs", type=int, default=4, help="jobs of workers, at most")
    parser.add_argument("--checkpoint", help="folder that all runs share")
    parser.add_argument("--memory-limit", help="memory that a worker may use for rows")
    parser.add_argument("--show-job", action="store_true")
    options = parser.parse_args()
    if not options.show_job and options.output is None:
        parser.error("expected SOURCE and OUTPUT")
    # Batch systems end a job by SIGTERM: leave in good order, with the checkpoint of the last pass.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with cluster_of(options.system) as cluster:
        if options.show_job:
            print(cluster.job_script())
            return
        # Jobs are asked for while there is work, and given back when there is none.
        cluster.adapt(minimum_jobs=1, maximum_jobs=options.jobs)
        with Client(cluster):
            model = GaussianMixture(
                options.components,
                covariance_type=options.covariance_type,
                random_state=0,
                verbose=2,
                memory_limit=options.memory_limit,
                checkpoint=options.checkpoint,
            ).fit(options.source)
    save(model, options.output)
    print(f"{options.output}: {model.lower_bound_:.6f} nats per row, {model.stop_reason_.value}")


if __name__ == "__main__":
    main()
