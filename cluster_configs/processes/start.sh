#!/usr/bin/env bash
# A scheduler and workers on this machine, or on machines that share its folders: each is a process of its own.
#
#     cluster_configs/processes/start.sh [WORKERS] [MEMORY]      a scheduler and workers here, until interrupted
#     cluster_configs/processes/start.sh worker tcp://HOST:8786 [MEMORY]      one more worker, on another machine
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export DASK_CONFIG=${DASK_CONFIG:-$here/../dask}
# The same for what a nanny does not start: BLAS at one thread per task, memory given back to the system.
export OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=65536
port=${PORT:-8786}

# One thread per process: a task uses one core, and a process that ends takes no other task with it.
worker() {
  exec dask worker "$1" --nthreads 1 --memory-limit "$2" --death-timeout 300 --no-dashboard \
    --local-directory "${TMPDIR:-/tmp}"
}

if [ "${1:-}" = worker ]; then
  worker "$2" "${3:-2GB}"
fi

pids=()
trap 'kill "${pids[@]}" 2> /dev/null; wait' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
dask scheduler --port "$port" --no-dashboard & pids+=($!)
for _ in $(seq "${1:-$(nproc)}"); do
  worker "tcp://127.0.0.1:$port" "${2:-2GB}" & pids+=($!)
done
# Workers may come and go; it is over when the scheduler is.
wait "${pids[0]}"
