#!/usr/bin/env bash
# Train on several nodes under SLURM: sbatch --nodes 2 --gpus-per-node 4 scripts/slurm_train.sh --script ostrack --config NAME
# One launcher per node starts one process per GPU. SLURM warns with SIGTERM two minutes before the time limit: the
# training then finishes its step, writes its state and is put into the queue again, where it goes on.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=48
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x_%j.log
set -euo pipefail

gpus="${SLURM_GPUS_PER_NODE:-4}"
gpus="${gpus##*:}"
address="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
port=$((20000 + SLURM_JOB_ID % 20000))

stopping=0
srun --kill-on-bad-exit=1 bash -c '
    exec .venv/bin/python tracking/train.py --mode multi_node --nproc_per_node "$0" --world-size "$SLURM_NNODES" \
        --rank "$SLURM_NODEID" --ip "$1" --port "$2" "${@:3}"
' "$gpus" "$address" "$port" "$@" &
steps=$!
trap 'stopping=1; kill -TERM "$steps" 2>/dev/null || true' TERM
code=0
wait "$steps" || code=$?
if ((stopping)); then
    wait "$steps" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
