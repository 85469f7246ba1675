#!/usr/bin/env bash
# Both stages of CSTrack with the published values; stage 2 begins with what stage 1 left. NPROC: processes, one per GPU;
# further arguments go to both trainings: --save_dir FOLDER, --data_dir /data, ... Run again, it goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
for stage in cstrack_s1 cstrack_s2; do
    python tracking/train.py --script "$stage" --config "$stage" --save_dir ./output \
        --mode multiple --nproc_per_node "${NPROC:-4}" --use_wandb 0 "$@"
done
