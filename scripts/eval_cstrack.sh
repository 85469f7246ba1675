#!/usr/bin/env bash
# CSTrack, stage 2, on LasHeR, RGBT234, VisEvent, DepthTrack and VOT-RGBD2022, each as published.
# Further arguments go to all of them: --checkpoint FILE, --data_dir /data, --num_gpus 4 ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
names=(--script_name cstrack_s2 --yaml_name cstrack_s2)
for dataset in LasHeR RGBT234; do
    python ./RGBT_workspace/test_rgbt_mgpus.py "${names[@]}" --dataset_name "$dataset" "$@"
done
python ./RGBE_workspace/test_rgbe_mgpus.py "${names[@]}" --dataset_name VisEvent "$@"
python tracking/test.py cstrack_s2 cstrack_s2 --dataset depthtrack vot_rgbd22 "$@"
