#!/usr/bin/env bash
# SDSTrack on DepthTrack and VOT-RGBD2022 by the VOT toolkit. Further arguments go to tracking/vot_workspace.py:
# --checkpoint FILE, --data_dir /data ... (`tracking/test.py sdstrack cvpr2024_rgbd --dataset depthtrack vot_rgbd22`
# gives the same numbers in a fraction of the time.)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || PATH="$PWD/.venv/bin:$PATH"
for workspace in Depthtrack_workspace VOT22RGBD_workspace; do
    python tracking/vot_workspace.py "$workspace" --script sdstrack --config cvpr2024_rgbd "$@"
    (cd "$workspace" && vot evaluate cvpr2024_rgbd && vot analysis cvpr2024_rgbd)
done
