#!/usr/bin/env bash
#SBATCH --job-name=streamgmm-driver
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=12:00:00
# SIGTERM two minutes before the end: the fit stops with the checkpoint of its last pass.
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#
# Submit it as it is, from the folder of the environment and the data; each run goes on where the last one stopped:
#
#     sbatch cluster_configs/jobqueue/driver.slurm.sh rows.zarr model.safetensors 16
set -uo pipefail

.venv/bin/python cluster_configs/jobqueue/fit.py slurm "$1" "$2" --components "${3:-16}" --jobs 10 \
  --checkpoint "$2.checkpoint" &
fit=$!
trap 'kill -TERM "$fit"' TERM
# wait ends early when the signal comes; wait again for the fit itself.
wait "$fit"; code=$?
if kill -0 "$fit" 2> /dev/null; then wait "$fit"; code=$?; fi
# 143: stopped in good order, with more to do.
if [ "$code" -eq 143 ] && [ -n "${SLURM_JOB_ID:-}" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
