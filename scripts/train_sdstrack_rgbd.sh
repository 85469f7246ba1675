#!/usr/bin/env bash
# SDSTrack on DepthTrack with the published values. NPROC: processes, one per GPU; further arguments go to tracking/train.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
exec python tracking/train.py --script sdstrack --config cvpr2024_rgbd --save_dir ./output \
    --mode multiple --nproc_per_node "${NPROC:-4}" --use_wandb 0 "$@"
