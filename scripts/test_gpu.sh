#!/usr/bin/env bash
# Tests and speeds on a machine with a CUDA device, in eight minutes or so: figures go to FOLDER/gpu.json and FOLDER/gpu.md.
# Usage: bash scripts/test_gpu.sh [FOLDER]   (default: output/gpu)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-output/gpu}
python=${PYTHON:-python3}
[ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && python=.venv/bin/python
"$python" -c 'import torch' 2>/dev/null || { echo "$python has no torch: run bash install.sh, or set PYTHON" >&2; exit 1; }
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "no CUDA device is there" >&2; exit 1; }
mkdir -p "$folder"
export PYTHONPATH=".${PYTHONPATH:+:$PYTHONPATH}"
code=0
"$python" -m pytest -q -p no:cacheprovider tests/gpu 2>&1 | tee "$folder/tests.txt" || code=$?
"$python" benchmarks/gpu.py --output "$folder/gpu.json" --page "$folder/gpu.md" || code=$?
exit "$code"
