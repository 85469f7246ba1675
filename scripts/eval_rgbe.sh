#!/usr/bin/env bash
# SDSTrack on VisEvent. Further arguments go to the run: --checkpoint FILE, --threads 8, --data_dir /data ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
exec python ./RGBE_workspace/test_rgbe_mgpus.py --script_name sdstrack --yaml_name cvpr2024_rgbe \
    --dataset_name VisEvent --epoch 50 "$@"
