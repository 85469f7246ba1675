#!/usr/bin/env bash
# SDSTrack on LasHeR and RGBT234. Further arguments go to both runs: --checkpoint FILE, --threads 8, --data_dir /data ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
for dataset in LasHeR RGBT234; do
    python ./RGBT_workspace/test_rgbt_mgpus.py --script_name sdstrack --yaml_name cvpr2024_rgbt \
        --dataset_name "$dataset" --epoch 40 "$@"
done
