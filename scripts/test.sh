#!/usr/bin/env bash
# All checks: style, types, tests. Installs what is needed first. Arguments go to pytest, such as `-k crop` or `-x`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash install.sh
python=.venv/bin/python
[ -n "${VIRTUAL_ENV:-}" ] && python="$VIRTUAL_ENV/bin/python"
[ -z "${VIRTUAL_ENV:-}" ] && [ -n "${CONDA_PREFIX:-}" ] && python="$CONDA_PREFIX/bin/python"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
if (($#)); then exec "$python" -m pytest "$@"; fi
# Tests of ONNX Runtime and OpenVINO in processes of their own: what they leave behind can crash a later fork.
engines="tests/unit/models/test_engines.py tests/unit/methods/test_engines.py tests/unit/bench/test_engines.py tests/unit/bench/test_ways.py
tests/unit/models/test_timm_vit.py"
code=0
# Two halves side by side, one thread each; what the second one says is printed at the end.
export OMP_NUM_THREADS=1
said=$(mktemp)
(
    half=0
    "$python" -m pytest tests/golden tests/fuzz || half=$?
    for file in $engines; do "$python" -m pytest "$file" || half=$?; done
    exit "$half"
) > "$said" 2>&1 &
second=$!
"$python" -m pytest tests/unit $(printf -- '--ignore %s ' $engines) || code=$?
"$python" -m pytest tests/e2e || code=$?
wait "$second" || code=$?
cat "$said"
rm -f "$said"
exit "$code"
